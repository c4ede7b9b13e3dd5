"""The input of a generator: random noise, scaled by the primary energy of the shower to generate.

The module uses only operators, so that it works with NumPy arrays and with TensorFlow tensors. The
launcher reads the architectures for its options, so NumPy is imported only where it is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["ENERGY_UNIT", "SPHERE_POWER", "Latent"]

ENERGY_UNIT = 100.0
"""Unit of primary energies in GeV. All networks receive and return primary energies in this unit."""
SPHERE_POWER = 0.25
"""Power of the energy that is the radius of the sphere. The radius then varies by 4 from 2 to 500 GeV, not by 250."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Latent:
    """The latent vector of an architecture."""

    size: int
    """Number of values in the vector of one event."""
    energies: tuple[float, float]
    """Lowest and highest primary energy that the training draws for generated showers, in ENERGY_UNIT."""
    opening_energies: tuple[float, float] | None = None
    """The same for the opening epochs of a training. None if they draw from `energies` too."""

    def scaled(self, noise: Any, energies: Any, kind: str = "product") -> Any:
        """Return the generator's input, float32 (n, size).

        `product` is the published input: noise times energy. The length of the noise varies by 1 / sqrt(2 size), which
        is 5% for 200 values, and the network cannot tell a longer noise from a higher energy. So it cannot resolve the
        energy better than 5%. `sphere` divides the noise by its length, so that the length of the input gives the
        energy exactly.

        Args:
            noise: standard normal numbers, float32 (n, size).
            energies: primary energies in ENERGY_UNIT, float32 (n, 1).
            kind: `product` or `sphere`.
        """
        if kind == "product":
            return noise * energies
        import numpy as np

        length = ((noise * noise) @ np.full((self.size, 1), 1 / self.size, np.float32)) ** 0.5
        return noise / length * energies**SPHERE_POWER
