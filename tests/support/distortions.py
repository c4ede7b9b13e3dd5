"""Distortions of simulated showers with a known size, for tests of the figures that should see them.

Every distortion is a function of cells (n, X, Y, Z) in GeV and primary energies (n,) in GeV, ascending, and returns new
cells. The primary energies stay the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import numpy.typing as npt

__all__ = ["DISTORTIONS", "Cells", "Distortion", "calmer"]

Cells = npt.NDArray[np.float32]
Energies = npt.NDArray[np.float64]
Distortion = Callable[[Cells, Energies], Cells]

NEIGHBOURS = 50
"""Showers of nearly the same energy that are averaged for a mean shower."""


def brighter(share: float, cells: Cells, _energies: Energies) -> Cells:
    """Scale all energies."""
    return cells * np.float32(1 + share)


def shifted(size: float, cells: Cells, _energies: Energies) -> Cells:
    """Move the showers along x by a part of a cell or by one cell.

    A part of a cell: each cell gives this part of its energy to the next one. So the showers also get a little wider.
    """
    return (1 - size) * cells + size * np.roll(cells, 1, axis=1)


def wider(share: float, cells: Cells, _energies: Energies) -> Cells:
    """Stretch the showers around their axis along x and y. A cell gives its energy to the cells that it then covers."""
    matrix = _stretching(cells.shape[1], 1 + share).astype(np.float32)
    return np.einsum("ia,jb,nabz->nijz", matrix, matrix, cells, optimize=True)


def _stretching(cells: int, factor: float) -> npt.NDArray[np.float64]:
    """Return the share of each old cell (column) that each new cell (row) gets. Outer cells keep what leaves them."""
    edges = (np.arange(cells + 1) - cells / 2) * factor + cells / 2
    matrix = np.zeros((cells, cells))
    for old in range(cells):
        places = np.clip(np.linspace(edges[old], edges[old + 1], 1000, endpoint=False), 0, cells - 1e-6)
        np.add.at(matrix[:, old], places.astype(int), 1 / 1000)
    return matrix


def without_layer(layer: int, cells: Cells, _energies: Energies) -> Cells:
    """Remove the energy in one layer."""
    dead = cells.copy()
    dead[..., layer] = 0
    return dead


def calmer(share: float, cells: Cells, energies: Energies) -> Cells:
    """Move the showers towards the mean shower of their energy: `share` of the fluctuations is lost, the mean stays."""
    calm = np.empty_like(cells)
    for start in range(0, len(cells), NEIGHBOURS):
        some = slice(start, start + NEIGHBOURS)
        scale = energies[some, None, None, None].astype(np.float32)
        calm[some] = (1 - share) * cells[some] + share * scale * (cells[some] / scale).mean(axis=0)
    return calm


def with_empty_events(share: float, cells: Cells, _energies: Energies) -> Cells:
    """Remove all energy from some showers."""
    some = cells.copy()
    some[:: round(1 / share)] = 0
    return some


def permuted(_size: float, cells: Cells, _energies: Energies) -> Cells:
    """Exchange the showers at random, so that they have wrong energies."""
    return cells[np.random.default_rng(0).permutation(len(cells))]


DISTORTIONS: Mapping[str, Distortion] = {
    "energy +1%": partial(brighter, 0.01),
    "energy +2%": partial(brighter, 0.02),
    "energy +5%": partial(brighter, 0.05),
    "shift 1/4 cell": partial(shifted, 0.25),
    "shift 1/2 cell": partial(shifted, 0.5),
    "shift 1 cell": partial(shifted, 1.0),
    "width +5%": partial(wider, 0.05),
    "width +10%": partial(wider, 0.1),
    "dead layer": partial(without_layer, 12),
    "half fluctuations": partial(calmer, 0.5),
    "equal showers": partial(calmer, 1.0),
    "1% empty": partial(with_empty_events, 0.01),
    "wrong energies": partial(permuted, 0.0),
}
"""Distortions by name."""
