"""Pairs events of two samples by their primary energy, and cuts samples into halves with the same energies."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gan.errors import InputError

__all__ = ["TOLERANCE", "halves", "pair"]

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]

TOLERANCE = 0.02
"""Relative difference up to which two primary energies count as the same."""
FEWEST = 20
"""Pairs that a comparison needs."""


def pair(reference: Floats, candidate: Floats, name: str) -> tuple[Numbers, Numbers]:
    """Return pairs of events with the same primary energy, each event at most once.

    Both samples are ordered by energy. Event k of the one is paired with the next free event of the other whose energy
    differs by at most TOLERANCE.

    Args:
        reference: primary energies in GeV, (n,), ascending.
        candidate: primary energies in GeV, (m,), ascending.
        name: name of the candidate, for the message.

    Returns:
        Numbers of the events in the reference and in the candidate, (pairs,) each, ascending.

    Raises:
        InputError: there are fewer than FEWEST pairs.
    """
    if len(reference) == len(candidate) and np.allclose(reference, candidate, rtol=1e-5):
        every = np.arange(len(reference))
        return every, every
    pairs = []
    one = other = 0
    while one < len(reference) and other < len(candidate):
        gap = candidate[other] - reference[one]
        if abs(gap) <= TOLERANCE * reference[one]:
            pairs.append((one, other))
            one, other = one + 1, other + 1
        elif gap < 0:
            other += 1
        else:
            one += 1
    if len(pairs) < FEWEST:
        raise InputError(
            f"{name} has energies of {candidate[0]:.4g} to {candidate[-1]:.4g} GeV and the reference of "
            f"{reference[0]:.4g} to {reference[-1]:.4g} GeV; {len(pairs)} events have the same energy within "
            f"{TOLERANCE:.0%}, expected at least {FEWEST}. Give a --reference with the same energies"
        )
    first, second = np.array(pairs, dtype=np.int64).T
    return first, second


def halves(events: int) -> tuple[Numbers, Numbers]:
    """Return the events of two halves of a sample that is ordered by energy.

    Neighbours go to different halves, alternately first, so that neither half has the higher energies. Of an odd number
    the last event is left out.
    """
    pairs = np.arange(events // 2 * 2).reshape(-1, 2)
    pairs[1::2] = pairs[1::2, ::-1]
    return pairs[:, 0].copy(), pairs[:, 1].copy()
