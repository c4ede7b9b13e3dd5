"""Energy bins for figures: those of the 3DGAN authors, and bins with equal numbers of events."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["ALL", "AUTHORS", "EnergyBin", "authors_bins", "equal_bins", "wide_bins"]

ALL = "all"
"""Name of the bin with all events."""
AUTHORS = (50.0, 100.0, 200.0, 250.0, 300.0, 400.0, 500.0)
"""GeV. Centres of the bins of the 3DGAN authors."""
HALF_WIDTH = 5.0
"""GeV."""
WIDE = (10.0, 500.0, 6)
"""GeV. First and last edge of the wide bins, and the number of edges."""


@dataclass(frozen=True, slots=True)
class EnergyBin:
    """Primary energies from `low` to below `high`, GeV."""

    low: float
    high: float

    @property
    def name(self) -> str:
        """Name for tables, such as `95-105 GeV`."""
        return f"{self.low:.4g}-{self.high:.4g} GeV"

    def holds(self, energies: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.bool_]:
        """Return a mask of the energies in the bin."""
        return (energies >= self.low) & (energies < self.high)


def authors_bins() -> list[EnergyBin]:
    """Return the bins of the 3DGAN authors: 5 GeV to each side of 50 to 500 GeV."""
    return [EnergyBin(centre - HALF_WIDTH, centre + HALF_WIDTH) for centre in AUTHORS]


def wide_bins() -> list[EnergyBin]:
    """Return 5 bins of equal width from 10 to 500 GeV. The energy 500 GeV belongs to the last bin."""
    edges = np.linspace(*WIDE)
    edges[-1] = np.nextafter(edges[-1], np.inf)
    return [EnergyBin(float(low), float(high)) for low, high in itertools.pairwise(edges)]


def equal_bins(energies: npt.NDArray[np.floating[Any]], number: int = 5) -> list[EnergyBin]:
    """Return bins with equal numbers of events over all energies, (n,). Fewer if many energies are equal."""
    edges = np.unique(np.quantile(energies, np.linspace(0, 1, number + 1)))
    if len(edges) < 2:
        return [EnergyBin(float(edges[0]), float(np.nextafter(edges[0], np.inf)))]
    edges[-1] = np.nextafter(edges[-1], np.inf)
    return [EnergyBin(float(low), float(high)) for low, high in itertools.pairwise(edges)]
