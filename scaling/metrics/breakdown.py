"""The parts of the time of an epoch, and the efficiencies defined by the POP project.

They follow from three values that a run records for each epoch: the wait for input and the gradient exchange (both
means over ranks), and the computing time of the slowest rank divided by the median rank's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from scaling.metrics.epochs import epochs_table, events_known
from scaling.runs import RunLog

__all__ = ["PARTS", "breakdown"]

PARTS = ("compute", "slower", "imbalance", "communication", "input")
"""Fractions of an epoch: computing at the speed of the baseline, more computing time than the baseline, waiting for
slower ranks, transport of gradients, waiting for events. The known fractions sum to 1."""


def breakdown(
    runs: Sequence[RunLog],
    skip_epochs: int = 1,
    series: Sequence[str] = (),
    baseline: int | None = None,
    mode: str = "fixed-local",
) -> pd.DataFrame:
    """Split the time of an epoch into parts, as medians over epochs and repeats.

    T is the time of an epoch, I the mean input wait of the ranks and X their mean exchange. The mean computing time is
    C = T - I - X. An input wait that the log does not give counts as computing. The slowest rank computes r times as
    long as the median rank. The other ranks wait for it in the exchange for (r - 1) C, but at most X. The rest of X is
    transport. If r is not known, all of X counts as communication, and imbalance, load balance and communication
    efficiency are not-a-number. A single worker does not wait. Timelines are left out, because their exchange overlaps
    with computing.

    The efficiencies are those of the POP Standard Metrics for Parallel Performance Analysis: load balance is
    C / max C = 1 / r, communication efficiency is max C / T with max C = r C, and parallel efficiency is their product
    C / T. Computation scaling is the computing time per event and worker at the baseline, divided by the time at this
    size. The efficiency relative to the baseline equals the ratio of the parallel efficiencies times the computation
    scaling.

    Args:
        runs, skip_epochs, series: as for `epochs_table`.
        baseline: number of workers of the baseline. A series without this size uses its smallest size, and so does
            None.
        mode: one of `runs.MODES`. It defines the work of an epoch if the events are not known.

    Returns:
        One row per series and number of workers, with columns series, workers, n (epochs), the `PARTS`, load_balance,
        communication_efficiency, parallel_efficiency, computation_scaling, slowest_rank and slowest_host. The last two
        are the most frequent slowest rank of the epochs and its host, missing if the runs do not record it. The table
        is empty if no epoch has a communication time.
    """
    epochs = epochs_table(runs, skip_epochs, series)
    overlapping = [n for n, run in enumerate(runs) if any(e.negotiation_seconds >= 0 for e in run.epochs)]
    known = epochs["communication_seconds"].notna() & ~epochs["run"].isin(overlapping)
    used = epochs[epochs["used"] & known].copy()
    columns = [*("series", "workers", "n"), *PARTS, "load_balance", "communication_efficiency", "parallel_efficiency"]
    columns += ["computation_scaling", "slowest_rank", "slowest_host"]
    if used.empty:
        return pd.DataFrame(columns=columns)
    _split(used, mode)
    # Take all medians over the same epochs, so that the parts add up.
    divided = used["imbalance"].notna()
    used = used[divided | ~divided.groupby([used["series"], used["workers"]]).transform("any")]
    means = ("input", "communication", "imbalance", "load_balance", "pace")
    table = used.groupby(["series", "workers"])[list(means)].median()
    table.insert(0, "n", used.groupby(["series", "workers"]).size())
    table = table.reset_index()
    # The sum of the medians may differ from 1. Therefore the computing part is the rest.
    computing = 1 - table["input"] - table["communication"] - table["imbalance"].fillna(0)
    table["parallel_efficiency"] = computing
    table["communication_efficiency"] = table["parallel_efficiency"] / table["load_balance"]
    table["computation_scaling"] = 1.0
    for _, group in table.groupby("series"):
        base = group[group["workers"] == (baseline if baseline in set(group["workers"]) else group["workers"].min())]
        # An epoch without computing time has no speed to compare.
        scaling = (base["pace"].iloc[0] / group["pace"]).where(group["pace"] > 0, 1.0)
        table.loc[group.index, "computation_scaling"] = scaling
    table["compute"] = computing * table["computation_scaling"].clip(upper=1)
    table["slower"] = computing - table["compute"]
    slowest = [_slowest(runs, used, row["series"], row["workers"]) for _, row in table.iterrows()]
    table["slowest_rank"] = pd.array([rank for rank, _ in slowest], dtype="Int64")
    table["slowest_host"] = [host for _, host in slowest]
    return table[columns]


def _split(used: pd.DataFrame, mode: str) -> None:
    """Add columns to each epoch: the fractions of its time, and `pace`, the computing seconds per unit of work."""
    seconds = used["seconds"]
    waiting = used["input_seconds"].fillna(0).clip(lower=0)
    exchange = used["communication_seconds"].clip(lower=0)
    computing = (seconds - waiting - exchange).clip(lower=0)
    ratio = used["slowest_ratio"].mask(used["workers"] == 1, 1.0).clip(lower=1)
    idle = np.minimum(computing * (ratio - 1), exchange)
    used["imbalance"] = idle / seconds
    used["communication"] = (exchange - idle.fillna(0)) / seconds
    used["input"] = waiting / seconds
    used["load_balance"] = computing / (computing + idle).where(lambda longest: longest > 0)
    work: Any = used["events"].astype(float) if events_known(used) else used["workers"] if mode == "weak" else 1.0
    used["pace"] = computing * used["workers"] / work


def _slowest(runs: Sequence[RunLog], used: pd.DataFrame, series: str, workers: int) -> tuple[int | None, str | None]:
    """Return the most frequent slowest rank and its host; the first one on a tie, None if no run records it."""
    rows = used[(used["series"] == series) & (used["workers"] == workers)]
    seen: Counter[tuple[int, str]] = Counter()
    for number, own in rows.groupby("run"):
        record = runs[int(str(number))].record
        if record is not None:
            counted = set(own["epoch"])
            seen.update((e.slowest_rank, e.slowest_host) for e in record.epochs if e.epoch in counted)
    return seen.most_common(1)[0][0] if seen else (None, None)
