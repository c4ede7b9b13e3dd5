"""The input of a generator: random noise, scaled by the primary energy of the shower to generate.

The module uses only operators, so that it works with NumPy arrays and with TensorFlow tensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["ENERGY_UNIT", "Latent"]

ENERGY_UNIT = 100.0
"""Unit of primary energies in GeV. All networks receive and return primary energies in this unit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Latent:
    """The latent vector of an architecture."""

    size: int
    """Number of values in the vector of one event."""
    energies: tuple[float, float]
    """Lowest and highest primary energy that the training draws for generated showers, in ENERGY_UNIT."""

    def scaled(self, noise: Any, energies: Any) -> Any:
        """Return the generator's input, float32 (n, size).

        Args:
            noise: standard normal numbers, float32 (n, size).
            energies: primary energies in ENERGY_UNIT, float32 (n, 1).
        """
        return noise * energies
