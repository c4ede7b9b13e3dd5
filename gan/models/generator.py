"""A generator with the conversions at its two ends: noise and energies in, cells in GeV out.

Training and generation build their generators here. The module loads TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from gan.models.architecture import Architecture, Parts
from gan.models.latent import SPHERE_POWER, Latent
from gan.ops.blocks import BatchNorm, Masks
from gan.ops.scale import CellScale, EnergyLaw, Opening
from gan.precision.formats import layer_policy

__all__ = ["ShowerGenerator", "generator_parts"]


def generator_parts(
    design: Architecture,
    settings: Mapping[str, Any],
    *,
    precision: str,
    visible: Callable[[Any], Any],
    norm: BatchNorm | None = None,
    masks: Masks | None = None,
    opening: Opening | None = None,
) -> Parts:
    """Return the parts of a generator.

    Args:
        design: architecture of the generator.
        settings: values of the fields of `gan.settings.TrainingSettings`.
        precision: number format of the layers.
        visible: expected visible energy in GeV for primary energies in `latent.ENERGY_UNIT`.
        norm: batch normalization; by default over the batch of this process.
        masks: source of the dropout masks; by default nothing is dropped.
        opening: the opening epochs; by default they are over.
    """
    return Parts(
        filters=design.filter_set(settings["filters"]).generator,
        dtype=layer_policy(precision),
        norm=norm or BatchNorm(),
        masks=masks or Masks(0.0),
        scale=CellScale(
            settings["cell_scale"], float(settings["cell_power"]), design.cells, float(settings["faint_cells"])
        ),
        input_noise=float(settings["input_noise"]),
        last_activation=settings["last_activation"],
        law=_law(settings, visible) if settings["latent"] == "sphere" else None,
        opening=opening or Opening(),
    )


def _law(settings: Mapping[str, Any], visible: Callable[[Any], Any]) -> EnergyLaw:
    # The mean square of a vector on the sphere is energy ** (2 SPHERE_POWER).
    return EnergyLaw(1 / (2 * SPHERE_POWER), visible, float(settings["energy_bound"]))


@dataclass(frozen=True, slots=True)
class ShowerGenerator:
    """A generator in inference mode."""

    network: keras.Model
    """From latent vectors to values of cells."""
    scale: CellScale
    """Conversion of the values to GeV."""
    latent: Latent
    kind: str
    """How the energy is put into the noise: the setting `latent`."""
    cut: float
    """Smallest signal of a cell in GeV."""

    def input(self, noise: Any, energies: Any) -> Any:
        """Return the latent vectors, float32 (n, size).

        Args:
            noise: standard normal numbers, float32 (n, size).
            energies: primary energies in `latent.ENERGY_UNIT`, float32 (n, 1).
        """
        return self.latent.scaled(noise, energies, self.kind)

    def cells(self, latent: tf.Tensor) -> tf.Tensor:
        """Return cells in GeV, float32 (n, X, Y, Z, 1), for the result of `input`.

        Cells below `cut` become 0, as in showers that are read from files.
        """
        cells = self.scale.cells(self.network(latent, training=False))
        return tf.where(cells < self.cut, 0.0, cells)
