"""Fits to training events, made before the first step: the unit of each cell, and the expected features of showers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gan.data.feeding import Feeder
from gan.models.latent import ENERGY_UNIT
from gan.ops.scale import typical_cells
from gan.training.networks import Networks

__all__ = ["fit_to_events", "needs_events"]

FITTED_EVENTS = 2048
"""Largest number of training events for a fit. It takes 1 GB on rank 0 for a moment."""
BATCH = 64


def needs_events(networks: Networks) -> bool:
    """Return True if the settings of these networks need a fit."""
    return bool(networks.scale.units or networks.shapes)


def fit_to_events(networks: Networks, feeder: Feeder, events: npt.NDArray[np.integer[Any]]) -> None:
    """Set the unit of each cell and the expected features of showers.

    The results depend only on the events, not on the number of ranks.

    Args:
        networks: the networks that use the results.
        feeder: reads the events.
        events: numbers of all training events. At most FITTED_EVENTS of them are read, evenly spaced.
    """
    chosen = events[np.linspace(0, len(events) - 1, min(len(events), FITTED_EVENTS)).astype(np.int64)]
    batches = list(feeder.feed([chosen[start : start + BATCH] for start in range(0, len(chosen), BATCH)]))
    cells, energies = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    energies /= ENERGY_UNIT
    if networks.scale.units:
        networks.scale.set_units(typical_cells(cells, energies))
    if networks.shapes:
        networks.shapes.fit(cells, energies)
