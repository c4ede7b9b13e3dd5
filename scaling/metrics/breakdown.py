"""Where the time of an epoch goes, and the efficiencies that POP defines.

From what the record of a run tells of its ranks: time waiting for input, time in the gradient exchange (both means over
ranks) and the computing time of the slowest rank over the median one.
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
"""Fractions of the epoch; those that are known sum to 1: computing at the baseline's pace, what computing takes longer
than that, waiting for slower ranks, transport of gradients, waiting for events."""


def breakdown(
    runs: Sequence[RunLog],
    skip_epochs: int = 1,
    series: Sequence[str] = (),
    baseline: int | None = None,
    mode: str = "fixed-local",
) -> pd.DataFrame:
    """One row per series and workers: the parts of an epoch, medians over epochs and repeats.

    With an epoch's time T, mean input wait I and mean exchange X of the ranks, the mean computing time is
    C = T - I - X; input that the file does not tell counts as computing. The slowest rank computes r times as long as
    the median one. The others wait for it in the exchange, (r - 1) C of X at most; the rest of X is transport. Where r
    is not known, X is not divided: all of it is communication, and imbalance, load balance and communication efficiency
    are not-a-number. One worker waits for nobody. Timelines are left out: their exchange overlaps with computing. POP's
    load balance is C / max C = 1 / r, its communication efficiency max C / T with max C = r C, and the parallel
    efficiency the product C / T (POP Standard Metrics for Parallel Performance Analysis). Computation scaling is the
    computing time per event and worker at the baseline over that here. Efficiency against the baseline is then the
    ratio of the parallel efficiencies times the computation scaling.

    Returns:
        Columns series, workers, n, the `PARTS`, load_balance, communication_efficiency, parallel_efficiency,
        computation_scaling, slowest_rank and slowest_host (the most frequent among the epochs' slowest, missing where
        the runs do not tell). Empty where no epoch has its communication time. The baseline is of `baseline` workers,
        or the fewest of a series where none has that many.
    """
    epochs = epochs_table(runs, skip_epochs, series)
    overlapping = [n for n, run in enumerate(runs) if any(e.negotiation_seconds >= 0 for e in run.epochs)]
    told = epochs["communication_seconds"].notna() & ~epochs["run"].isin(overlapping)
    used = epochs[epochs["used"] & told].copy()
    columns = [*("series", "workers", "n"), *PARTS, "load_balance", "communication_efficiency", "parallel_efficiency"]
    columns += ["computation_scaling", "slowest_rank", "slowest_host"]
    if used.empty:
        return pd.DataFrame(columns=columns)
    _split(used, mode)
    # Medians are over the same epochs, so that the parts add up.
    divided = used["imbalance"].notna()
    used = used[divided | ~divided.groupby([used["series"], used["workers"]]).transform("any")]
    means = ("input", "communication", "imbalance", "load_balance", "pace")
    table = used.groupby(["series", "workers"])[list(means)].median()
    table.insert(0, "n", used.groupby(["series", "workers"]).size())
    table = table.reset_index()
    # Medians of several fractions need not sum to 1: computing is what the others leave.
    computing = 1 - table["input"] - table["communication"] - table["imbalance"].fillna(0)
    table["parallel_efficiency"] = computing
    table["communication_efficiency"] = table["parallel_efficiency"] / table["load_balance"]
    table["computation_scaling"] = 1.0
    for _, group in table.groupby("series"):
        base = group[group["workers"] == (baseline if baseline in set(group["workers"]) else group["workers"].min())]
        table.loc[group.index, "computation_scaling"] = base["pace"].iloc[0] / group["pace"]
    table["compute"] = computing * table["computation_scaling"].clip(upper=1)
    table["slower"] = computing - table["compute"]
    slowest = [_slowest(runs, used, row["series"], row["workers"]) for _, row in table.iterrows()]
    table["slowest_rank"] = pd.array([rank for rank, _ in slowest], dtype="Int64")
    table["slowest_host"] = [host for _, host in slowest]
    return table[columns]


def _split(used: pd.DataFrame, mode: str) -> None:
    """Add the fractions of each epoch, and the computing seconds per unit of work."""
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
    """Rank and host that were the slowest most often; ties go to the one seen first."""
    rows = used[(used["series"] == series) & (used["workers"] == workers)]
    seen: Counter[tuple[int, str]] = Counter()
    for number, own in rows.groupby("run"):
        record = runs[int(str(number))].record
        if record is not None:
            counted = set(own["epoch"])
            seen.update((e.slowest_rank, e.slowest_host) for e in record.epochs if e.epoch in counted)
    return seen.most_common(1)[0][0] if seen else (None, None)
