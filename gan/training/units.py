"""The unit of each cell, measured on training events before the first step."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gan.data.feeding import Feeder
from gan.models.latent import ENERGY_UNIT
from gan.ops.scale import FITTED_EVENTS, typical_cells

__all__ = ["measured_units"]

BATCH = 64


def measured_units(feeder: Feeder, events: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float32]:
    """Return the unit of each cell in GeV, float32 (X, Y, Z), see `ops.scale.typical_cells`.

    The result depends only on the events, not on the number of ranks.

    Args:
        feeder: reads the events.
        events: numbers of all training events. At most FITTED_EVENTS of them are read, evenly spaced.
    """
    chosen = events[np.linspace(0, len(events) - 1, min(len(events), FITTED_EVENTS)).astype(np.int64)]
    batches = list(feeder.feed([chosen[start : start + BATCH] for start in range(0, len(chosen), BATCH)]))
    cells, energies = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return typical_cells(cells, energies / ENERGY_UNIT)
