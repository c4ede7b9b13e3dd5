"""Observables of showers: what physicists measure of each event, computed batch by batch.

Cells are arrays of shape (n, X, Y, Z) in GeV with the depth as the last axis. The cells of a large data set need not
fit into memory: `Observer.add` keeps about 1 kB of an event.

Sources: the moments are those of the 3DGAN authors (see `formulas.moments`). The list follows CaloChallenge 2022
(arXiv:2410.21611) where their detector and ours have the same quantity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from gan.physics.formulas import moments, profiles

__all__ = ["AXES", "FEATURES", "HIT", "SCALARS", "SPECTRUM_EDGES", "Observables", "Observer", "ring_numbers"]

Floats = npt.NDArray[np.float64]

HIT = 3e-4
"""GeV. A cell above this energy is a hit. The 3DGAN authors use this value."""
SPECTRUM_EDGES = np.logspace(-6, 2, 81)
"""GeV. Bins of the cell energy spectrum, ten per decade."""
START, CONTAINED = 0.1, 0.9
"""Fractions of the visible energy at which a shower starts, and at which it is contained."""

AXES = ("x", "y", "z")
SCALARS = (
    "sampling_fraction",
    "hits",
    *(f"mean_{axis}" for axis in AXES),
    *(f"variance_{axis}" for axis in AXES),
    "radius",
    "start",
    "maximum",
    "containment",
)
"""Observables that are one number per event, as columns of `Observables.scalars`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Observables:
    """Observables of n events. All energies are in GeV, all lengths in cells."""

    energies: Floats
    """Primary energies, (n,)."""
    visible: Floats
    """Sum of all cells, (n,)."""
    x: Floats
    """Energy along x, (n, X)."""
    y: Floats
    """Energy along y, (n, Y)."""
    z: Floats
    """Energy of each layer, (n, Z)."""
    radial: Floats
    """Energy in rings one cell wide around the central axis, (n, rings), see `ring_numbers`."""
    mean: Floats
    """First moments along x, y and z, (n, 3). 0 for a shower without energy."""
    variance: Floats
    """Second central moments along x, y and z, (n, 3). 0 for a shower without energy."""
    active: Floats
    """Number of cells above zero, (n,)."""
    hits: Floats
    """Number of cells above the threshold, (n,)."""
    radius: Floats
    """Mean distance of the energy from the central axis, (n,). 0 for a shower without energy."""
    start: Floats
    """Depth in layers at which START of the visible energy is deposited, linear within a layer, (n,)."""
    maximum: Floats
    """Layer with the highest energy, (n,)."""
    containment: Floats
    """Depth in layers at which CONTAINED of the visible energy is deposited, linear within a layer, (n,)."""

    def __len__(self) -> int:
        return len(self.energies)

    def take(self, events: npt.ArrayLike) -> Observables:
        """Return the observables of some events: numbers, a slice or a mask."""
        return Observables(**{field.name: getattr(self, field.name)[events] for field in fields(self)})

    @classmethod
    def join(cls, parts: Sequence[Observables]) -> Observables:
        """Return the observables of all parts, in order."""
        return cls(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)})

    @property
    def sampling_fraction(self) -> Floats:
        """Visible over primary energy, (n,)."""
        return self.visible / self.energies

    def scalars(self) -> Floats:
        """Return the observables that are one number per event, (n, len(SCALARS)), in the order of SCALARS."""
        single = (self.radius, self.start, self.maximum, self.containment)
        return np.column_stack([self.sampling_fraction, self.hits, self.mean, self.variance, *single])

    def features(self) -> Floats:
        """Return the input of the classifier, FPD, KPD and PRDC, (n, len(FEATURES) for 25 layers).

        The columns: sampling fraction, energy of each layer over the primary energy, hits, first and second moments.
        """
        layers = self.z / self.energies[:, np.newaxis]
        return np.column_stack([self.sampling_fraction, layers, self.hits, self.mean, self.variance])


FEATURES = (
    "sampling_fraction",
    *(f"layer_{layer}" for layer in range(25)),
    "hits",
    *(f"mean_{axis}" for axis in AXES),
    *(f"variance_{axis}" for axis in AXES),
)
"""Names of the columns of `Observables.features` for showers of 25 layers."""


class Observer:
    """Computes observables batch by batch, and counts what is wrong with the cells."""

    def __init__(self, hit: float = HIT) -> None:
        """Create an observer without events.

        Args:
            hit: threshold of a hit, GeV.
        """
        self._hit = hit
        self._parts: list[Observables] = []
        self.spectrum = np.zeros(len(SPECTRUM_EDGES) - 1)
        """Number of cells in each bin of SPECTRUM_EDGES, all events together."""
        self.negative_cells = 0
        """Cells below zero. They count with their negative energy."""
        self.empty_events = 0
        """Events without visible energy."""

    def add(self, cells: npt.NDArray[np.floating[Any]], energies: npt.ArrayLike) -> Observables:
        """Add a batch, and return its observables.

        Args:
            cells: (n, X, Y, Z), GeV.
            energies: primary energies, (n,), GeV.

        Raises:
            ValueError: a cell is not finite.
        """
        energies = np.asarray(energies, dtype=np.float64)
        x, y, z = profiles(cells)
        visible = z.sum(axis=1)
        if not np.isfinite(visible).all():
            raise ValueError(f"event {int(np.argmin(np.isfinite(visible)))} of the batch has cells that are not finite")
        self.negative_cells += int(np.count_nonzero(cells < 0))
        self.empty_events += int(np.count_nonzero(visible <= 0))
        # Nine cells in ten are empty: without them the histogram is ten times faster.
        self.spectrum += np.histogram(cells[cells >= SPECTRUM_EDGES[0]], bins=SPECTRUM_EDGES)[0]
        pairs = [_moments(profile) for profile in (x, y, z)]
        across = cells.sum(axis=3, dtype=np.float64).reshape(len(cells), -1)
        distances, rings = _rings(cells.shape[1], cells.shape[2])
        radial = across @ (rings[:, np.newaxis] == np.arange(rings.max() + 1)).astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            radius = np.nan_to_num((across @ distances) / visible, nan=0.0, posinf=0.0, neginf=0.0)
        batch = Observables(
            energies=energies,
            visible=visible,
            x=x,
            y=y,
            z=z,
            radial=radial,
            mean=np.column_stack([first for first, _ in pairs]),
            variance=np.column_stack([second for _, second in pairs]),
            active=np.count_nonzero(cells > 0, axis=(1, 2, 3)).astype(np.float64),
            hits=np.count_nonzero(cells > self._hit, axis=(1, 2, 3)).astype(np.float64),
            radius=radius,
            start=_depth(z, START),
            maximum=np.argmax(z, axis=1).astype(np.float64),
            containment=_depth(z, CONTAINED),
        )
        self._parts.append(batch)
        return batch

    def observables(self) -> Observables:
        """Return the observables of all events so far."""
        if len(self._parts) > 1:
            self._parts = [Observables.join(self._parts)]
        return self._parts[0]


def _moments(profile: Floats) -> tuple[Floats, Floats]:
    """Return the moments of `formulas.moments`, with 0 for showers without energy."""
    first, second = moments(profile)
    empty = profile.sum(axis=1) <= 0
    return np.where(empty, 0.0, first), np.where(empty, 0.0, second)


def _depth(layers: Floats, fraction: float) -> Floats:
    """Return the depth in layers at which a fraction of the energy is deposited, linear within a layer, (n,).

    0 for a shower without energy.
    """
    total = np.cumsum(layers, axis=1)
    wanted = fraction * total[:, -1]
    layer = np.argmax(total >= wanted[:, np.newaxis], axis=1)
    rows = np.arange(len(layers))
    before = np.where(layer > 0, total[rows, layer - 1], 0.0)
    inside = layers[rows, layer]
    with np.errstate(invalid="ignore", divide="ignore"):
        part = np.where(inside > 0, (wanted - before) / inside, 0.0)
    return np.where(total[:, -1] > 0, layer + np.clip(part, 0.0, 1.0), 0.0)


@cache
def _rings(across: int, down: int) -> tuple[Floats, npt.NDArray[np.int64]]:
    x, y = np.meshgrid(np.arange(across) - (across - 1) / 2, np.arange(down) - (down - 1) / 2, indexing="ij")
    distances = np.hypot(x, y).ravel()
    return distances, np.floor(distances + 0.5).astype(np.int64)


def ring_numbers(across: int, down: int) -> npt.NDArray[np.int64]:
    """Return the ring of each column of cells, (X, Y): ring k holds distances from the axis in [k - 0.5, k + 0.5)."""
    return _rings(across, down)[1].reshape(across, down)
