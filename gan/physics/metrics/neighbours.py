"""Figures from nearest neighbours: precision, recall, density, coverage, and the distance to the training set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.neighbors import NearestNeighbors

__all__ = ["NEIGHBOURS", "Prdc", "memorisation", "prdc"]

Floats = npt.NDArray[np.float64]

NEIGHBOURS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Prdc:
    """Precision, recall, density and coverage. All are about 1 for equal distributions. Only density can exceed 1."""

    precision: float
    """Fraction of generated events inside the manifold of the reference: do they look real?"""
    recall: float
    """Fraction of reference events inside the manifold of the generated ones: is everything generated?"""
    density: float
    """As precision, weighted by the number of neighbourhoods that contain the event."""
    density_error: float
    """Standard error of the density."""
    coverage: float
    """Fraction of reference events with a generated event in their neighbourhood."""


def prdc(reference: Floats, sample: Floats, neighbours: int = NEIGHBOURS) -> Prdc:
    """Return precision, recall, density and coverage.

    Sources: Kynkaanniemi et al., arXiv:1904.06991, and Naeem et al., arXiv:2002.09797.

    Args:
        reference: standardised features, (n, columns).
        sample: standardised features, (m, columns).
        neighbours: the neighbourhood of an event reaches to its neighbour of this number.
    """
    of_reference, of_sample = (NearestNeighbors().fit(each) for each in (reference, sample))
    # An event is its own nearest neighbour: one more is needed.
    real_radii = of_reference.kneighbors(reference, neighbours + 1)[0][:, -1]
    fake_radii = of_sample.kneighbors(sample, neighbours + 1)[0][:, -1]
    containing = _containing(reference, real_radii, sample)
    return Prdc(
        precision=float(np.mean(containing > 0)),
        recall=float(np.mean(_containing(sample, fake_radii, reference) > 0)),
        density=float(containing.mean() / neighbours),
        density_error=float(containing.std() / neighbours / np.sqrt(len(containing))),
        coverage=float(np.mean(of_sample.kneighbors(reference, 1)[0][:, 0] < real_radii)),
    )


def _containing(centres: Floats, radii: Floats, events: Floats, block: int = 1024) -> npt.NDArray[np.int64]:
    """Count for every event the balls that contain it. Works in blocks, so that memory stays small."""
    squares = np.sum(centres**2, axis=1)
    counts = []
    for start in range(0, len(events), block):
        part = events[start : start + block]
        distances = np.sum(part**2, axis=1)[:, np.newaxis] - 2 * part @ centres.T + squares
        counts.append(np.count_nonzero(distances < radii**2, axis=1))
    return np.concatenate(counts)


def memorisation(training: Floats, held_out: Floats, sample: Floats) -> float:
    """Return how much closer generated events are to the training set than simulated events that were held out.

    The median distance to the nearest training event, of generated over held-out events. About 1: no memorisation. Far
    below 1: the generator repeats training events.

    Args:
        training: standardised features of the training set, (n, columns).
        held_out: standardised features of other simulated events, (m, columns).
        sample: standardised features of generated events, (k, columns).
    """
    index = NearestNeighbors(n_neighbors=1).fit(training)
    near, usual = (np.median(index.kneighbors(each)[0]) for each in (sample, held_out))
    return float(near / usual) if usual > 0 else float("nan")
