"""The class `Architecture`: everything that the project needs to know about a network. Each network is one object.

The module loads neither TensorFlow nor Keras, because the launcher reads the architectures for its options.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from gan.errors import InputError
from gan.models.latent import Latent

if TYPE_CHECKING:
    import keras

    from gan.ops.blocks import BatchNorm, Masks

__all__ = ["Architecture", "BuildDiscriminator", "BuildGenerator", "FilterSet", "LossTerm", "Recipe"]


@dataclass(frozen=True, slots=True)
class FilterSet:
    """Number of filters in the middle layers of each network."""

    generator: int
    discriminator: int


@dataclass(frozen=True, kw_only=True, slots=True)
class LossTerm:
    """One output of the discriminator, with its target and its error function."""

    name: str
    """Name of the output. It is also the name of this part of the loss."""
    target: str
    """Name of the target value. `label`: 1 for a real shower, 0 for a generated one. `energy`: the primary energy in
    `latent.ENERGY_UNIT`. `visible_energy`: the sum of all cells in GeV."""
    error: str
    """Name of a function in `keras.losses`, such as `binary_crossentropy`."""
    weight: float
    """Factor of this term in the total loss."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """Default settings of a training of this architecture. Users can change each with an option."""

    filters: str
    """Name of a filter set."""
    optimizer: str
    """`rmsprop` or `adam`, for both networks."""
    learning_rate: float
    """Learning rate of one worker."""


class BuildGenerator(Protocol):
    """Type of a function that builds a generator."""

    def __call__(self, filters: int, dtype: Any, norm: BatchNorm) -> keras.Model:
        """Return a model from latent vectors (n, latent size) to cells in GeV, float32 (n, X, Y, Z, 1).

        Args:
            filters: number of filters in the middle layers.
            dtype: Keras policy of the layers, see `precision.formats.layer_policy`.
            norm: batch normalization, over the batch of this rank or over the global batch.
        """


class BuildDiscriminator(Protocol):
    """Type of a function that builds a discriminator."""

    def __call__(self, filters: int, dtype: Any, norm: BatchNorm, masks: Masks) -> keras.Model:
        """Return a model from cells in GeV, float32 (n, X, Y, Z, 1), to one output (n, 1) for each loss term, in order.

        Args:
            filters: number of filters in the middle layers.
            dtype: Keras policy of the layers.
            norm: batch normalization.
            masks: source of the dropout masks.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class Architecture:
    """A generator and a discriminator, with all their specific properties.

    To add a network, write a module next to `conv3d` that makes such an object, and add it to `registry.ARCHITECTURES`.
    """

    name: str
    """Name of the architecture: the value of `--model`, and of `model` in records and checkpoints."""
    title: str
    """Description of the network in one line, for users."""
    cells: tuple[int, int, int]
    """Number of cells of a shower along x, y and depth. The training data must have this shape."""
    latent: Latent
    filters: Mapping[str, FilterSet]
    """Filter sets by the value of `--filters`."""
    dropout: float
    """Fraction of the discriminator's cells that dropout sets to zero."""
    label_flip: float
    """Probability that a label is flipped, so that the discriminator gets the wrong one."""
    losses: Sequence[LossTerm]
    """Terms of the loss of both networks, in the order of the discriminator's outputs."""
    recipe: Recipe
    build_generator: BuildGenerator
    build_discriminator: BuildDiscriminator

    def filter_set(self, name: str) -> FilterSet:
        """Return the filter set with this name.

        Raises:
            InputError: this architecture has no set with this name.
        """
        if name not in self.filters:
            raise InputError(
                f"--filters is {name!r}; expected one of {', '.join(self.filters)} for --model {self.name}: change one "
                "of the two options"
            )
        return self.filters[name]

    @property
    def label_output(self) -> int:
        """Place of the discriminator's output that tells real from generated showers."""
        return next(place for place, term in enumerate(self.losses) if term.target == "label")

    @property
    def loss_parts(self) -> tuple[str, ...]:
        """Names of the columns of a loss: the total, then every term."""
        return ("total", *(term.name for term in self.losses))
