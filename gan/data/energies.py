"""Primary energies of new events: the allowed range, and random energies for each event."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gan.errors import InputError

__all__ = [
    "ENERGY_LIMIT",
    "ENERGY_STREAM",
    "LOWEST_ENERGY",
    "SHOWER_STREAM",
    "check_energy_range",
    "draw_energies",
    "event_stream",
]

LOWEST_ENERGY = 1.0
"""Lowest energy of a new event in GeV. The fits of the parametrised simulation do not hold below it."""
ENERGY_LIMIT = 1000.0
"""Highest energy of any event in GeV. A larger number in a file is probably in another unit, such as MeV."""

ENERGY_STREAM, SHOWER_STREAM = range(2)
"""Numbers of an event's two random streams: one for the primary energy, one for the simulated shower."""


def check_energy_range(low: float, high: float) -> None:
    """Check the values of `--energy-min` and `--energy-max`, in GeV.

    Raises:
        InputError: a value is outside the allowed range or not a number, or the minimum is above the maximum.
    """
    if not LOWEST_ENERGY <= low <= high <= ENERGY_LIMIT:
        raise InputError(
            f"--energy-min is {low:g} and --energy-max {high:g}; expected {LOWEST_ENERGY:g} to {ENERGY_LIMIT:g} GeV, "
            "and the minimum not above the maximum. Change one of the two options."
        )


def draw_energies(
    count: int, *, seed: int, first_event: int, energy_min: float, energy_max: float
) -> npt.NDArray[np.float64]:
    """Return random primary energies in GeV, (count,), uniform in [energy_min, energy_max).

    The energy of an event depends only on the seed and the number of the event, not on the other events of the call.

    Args:
        count: number of events.
        seed: seed of the whole production.
        first_event: number of the first event, from 0.
        energy_min: lowest energy in GeV.
        energy_max: upper bound in GeV.
    """
    draws = [event_stream(seed, first_event + i, ENERGY_STREAM).random() for i in range(count)]
    return energy_min + (energy_max - energy_min) * np.array(draws)


def event_stream(seed: int, event: int, purpose: int) -> np.random.Generator:
    """Return an event's own random stream. `purpose` is ENERGY_STREAM or SHOWER_STREAM."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(event, purpose)))
