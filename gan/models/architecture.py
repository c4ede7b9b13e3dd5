"""The class `Architecture`: everything that the project needs to know about a network. Each network is one object.

The module loads neither TensorFlow nor Keras, because the launcher reads the architectures for its options.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from gan.errors import InputError
from gan.models.latent import Latent
from gan.models.recipes import Recipe

if TYPE_CHECKING:
    import keras

    from gan.ops.blocks import BatchNorm, Masks
    from gan.ops.scale import CellScale, EnergyLaw, Opening

__all__ = ["Architecture", "BuildNetwork", "FilterSet", "LossTerm", "Parts"]


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """What the layers of a network are made of. The settings of a training decide it."""

    filters: int
    """Number of filters in the middle layers."""
    dtype: Any
    """Keras policy of the layers, see `precision.formats.layer_policy`."""
    norm: BatchNorm
    """Batch normalization, over the batch of this rank or over the global batch."""
    masks: Masks
    """Source of the dropout masks."""
    scale: CellScale
    """Conversion between cells in GeV and the values that the networks see and give."""
    input_noise: float = 0.0
    """Standard deviation of the noise on the discriminator's input."""
    last_activation: str = "relu"
    """Activation of the generator's last layer, see `ops.scale.CellOutput`."""
    law: EnergyLaw | None = None
    """How the generated cells follow the primary energy. None if only the network decides it."""
    opening: Opening
    """The opening epochs of the training."""


class BuildNetwork(Protocol):
    """Type of a function that builds a network.

    A generator goes from latent vectors (n, latent size) to values of cells, float32 (n, X, Y, Z, 1). A discriminator
    goes from values of cells to one output (n, 1) for each loss term, in order.
    """

    def __call__(self, parts: Parts) -> keras.Model: ...


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
    """Fraction of the cells that dropout sets to zero in a layer."""
    losses: Sequence[LossTerm]
    """Terms of the loss of both networks, in the order of the discriminator's outputs."""
    recipes: Mapping[str, Recipe]
    """Recipes by the value of `--recipe`. Without this option, a training uses the first one."""
    build_generator: BuildNetwork
    build_discriminator: BuildNetwork

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

    def recipe(self, name: str | None) -> tuple[str, Recipe]:
        """Return the recipe with this name, or the default one for None, and its name.

        Raises:
            InputError: this architecture has no recipe with this name.
        """
        name = name or next(iter(self.recipes))
        if name not in self.recipes:
            raise InputError(
                f"--recipe is {name!r}; expected one of {', '.join(self.recipes)} for --model {self.name}: change one "
                "of the two options"
            )
        return name, self.recipes[name]

    @property
    def label_output(self) -> int:
        """Place of the discriminator's output that tells real from generated showers."""
        return next(place for place, term in enumerate(self.losses) if term.target == "label")

    @property
    def loss_parts(self) -> tuple[str, ...]:
        """Names of the columns of a loss: the total, then every term."""
        return ("total", *(term.name for term in self.losses))
