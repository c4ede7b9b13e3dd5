"""The table of points: one row per size, with medians over epochs and repeats, their intervals and the cost."""

from __future__ import annotations

import math
import zlib
from typing import Any

import numpy as np
import pandas as pd

from scaling.metrics.bootstrap import DRAWS, effective_size, interval, median_draws
from scaling.metrics.epochs import events_known

__all__ = ["DRAWN", "points"]

DRAWN = ("seconds_draws", "cost_draws")
"""Columns with the arrays of bootstrap draws. `curve` and `verdicts` use them; they are not written to files."""


def points(epochs: pd.DataFrame, draws: int = DRAWS, seed: int = 1) -> pd.DataFrame:
    """Return one row for each series and number of workers.

    Runs with the same number of workers are repeats: their epochs are pooled.

    Args:
        epochs: result of `epochs_table`. Only epochs that are `used` count.
        draws: number of bootstrap draws.
        seed: seed of the bootstrap. The interval of a point depends only on this seed and its own epochs.

    Returns:
        Rows sorted by series and workers, with columns:

        - series, workers, nodes and cores (the largest of the repeats);
        - batch_size, global_batch_size, train_events (medians);
        - runs, n (epochs used), effective_n (see `effective_size`);
        - events (median per epoch), seconds (median per epoch) and events_per_second (the inverse of the median of
          seconds per event); the last two with a 95% interval in `_low` and `_high`, not-a-number if n < 3;
        - validation_seconds, checkpoint_seconds, node_hours and core_hours (medians per epoch; hours of training);
        - seconds_draws and cost_draws (seconds per event): the bootstrap draws, empty arrays if n < 3.
    """
    used = epochs[epochs["used"]]
    rows = [
        _point(series, int(workers), group, draws, seed)
        for series, of_series in used.groupby("series", sort=True)
        for workers, group in of_series.groupby("workers", sort=True)
    ]
    table = pd.DataFrame(rows)
    counts = ("nodes", "cores", "batch_size", "global_batch_size", "train_events")
    return table.astype(dict.fromkeys(counts, "Int64"))


def _point(series: str, workers: int, group: pd.DataFrame, draws: int, seed: int) -> dict[str, Any]:
    own_seed = (seed, workers, zlib.crc32(series.encode()))
    repeats = [np.array(part["seconds"]) for _, part in group.groupby("run", sort=True)]
    row: dict[str, Any] = {
        "series": series,
        "workers": workers,
        "nodes": group["nodes"].max(),
        "cores": group["cores"].max(),
        **{name: _whole_median(group[name]) for name in ("batch_size", "global_batch_size", "train_events")},
        "runs": len(repeats),
        "n": len(group),
        "effective_n": effective_size(repeats),
        "events": _median(group["events"]),
        "seconds": group["seconds"].median(),
    }
    seconds_draws = median_draws(repeats, own_seed, draws)
    row["seconds_low"], row["seconds_high"] = interval(seconds_draws)
    cost_draws, rate = np.empty(0), math.nan
    if events_known(group):
        # Invert after the median, so that the rate is exactly events / seconds, even for an even number of epochs.
        cost = group["seconds"] / group["events"].astype(float)
        rate = 1 / cost.median()
        if group["events"].nunique() == 1:
            cost_draws = seconds_draws / row["events"]
        else:
            parts = [np.array(part) for _, part in cost.groupby(group["run"], sort=True)]
            cost_draws = median_draws(parts, own_seed, draws)
    low, high = interval(cost_draws)
    row |= {"events_per_second": rate, "events_per_second_low": 1 / high, "events_per_second_high": 1 / low}
    for name in ("validation_seconds", "checkpoint_seconds"):
        row[name] = group[name].median()
    for name, column in (("node_hours", "nodes"), ("core_hours", "cores")):
        row[name] = _median(group[column].astype("Float64") * group["seconds"]) / 3600
    return row | dict(zip(DRAWN, (seconds_draws, cost_draws), strict=True))


def _median(values: pd.Series) -> float:
    """Return the median, or not-a-number if a value is missing, because the other values cover only some epochs."""
    return math.nan if values.isna().any() else float(values.median())


def _whole_median(values: pd.Series) -> int | None:
    known = values.dropna()
    return None if known.empty else int(known.median())
