"""Runs in, a scaling curve out: time per epoch, events/s, speed-up and parallel efficiency as pandas tables.

Pure functions: nothing here reads or writes a file, prints or draws. `report` puts them together.

3DGAN is scaled with a fixed local batch: the data set stays, the global batch grows with the workers, and an
epoch processes the largest multiple of the global batch that the data set holds. A large run therefore drops
a few more events than a small one. Speed-up is computed from events really processed per second, so that what
was dropped does not count as speed.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
import pandas as pd

from scaling.records import RecordError, Run

__all__ = ["MAY_DIFFER", "curve", "differences", "epochs_table", "median_interval", "notes", "points"]

MAY_DIFFER = frozenset(
    {
        *("epochs", "warmup_epochs", "learning_rate", "lr_scaling", "lr_schedule", "lr_decay", "seed"),
        *("data", "out", "resume", "config", "tensorboard", "workers_per_node", "communicator", "bind"),
    }
)
"""Settings that leave the work per event as it is, or follow from the size; data files are compared apart."""


def epochs_table(runs: Sequence[Run], skip_epochs: int = 1) -> pd.DataFrame:
    """One row per epoch of every run.

    After a resume only the newest part of a run is taken, since earlier epochs may have run on other workers.
    The first `skip_epochs` epochs of that part are marked as not `used`: they hold start-up work such as
    compilation. A part that is not longer than that keeps its last epoch, and `notes` says so. An epoch that
    was interrupted and continued is left out: no part of the run measured it whole.

    Returns:
        Columns run (number in `runs`), path, workers, nodes, epoch, seconds (training only), events,
        events_per_second (over events really processed) and used.

    Raises:
        RecordError: no run has a finished epoch with a time and events.
    """
    rows = []
    for number, run in enumerate(runs):
        header = run.header
        newest = [
            e
            for e in run.epochs
            if e.epoch > header.resumed_epochs and not e.resumed_steps and _measured(e.seconds, e.events)
        ]
        first = header.resumed_epochs + skip_epochs + 1
        if newest:
            first = min(first, newest[-1].epoch)
        rows += [
            {
                "run": number,
                "path": str(run.path),
                "workers": header.workers,
                "nodes": header.nodes,
                "epoch": e.epoch,
                "seconds": e.seconds,
                "events": e.events,
                "events_per_second": e.events / e.seconds,
                "used": e.epoch >= first,
            }
            for e in newest
        ]
    if not rows:
        raise RecordError(
            f"of {_count(len(runs), 'run')} none holds a finished epoch with a time and events; "
            "let them train for two epochs or more"
        )
    return pd.DataFrame(rows)


def points(epochs: pd.DataFrame) -> pd.DataFrame:
    """One row per number of workers; runs with as many workers are repeats, their epochs are pooled.

    Args:
        epochs: as `epochs_table` gives them; only epochs that are `used` count.

    Returns:
        Sorted by workers: workers, nodes (the most that a repeat had), runs, n (epochs used), events (median
        per epoch), seconds (median per epoch) and events_per_second (one over the median of seconds per
        event), both with a 95% interval in `*_low` and `*_high` (not a number where n < 3).
    """
    rows = []
    for workers, group in epochs[epochs["used"]].groupby("workers", sort=True):
        row: dict[str, Any] = {
            "workers": workers,
            "nodes": group["nodes"].max(),
            "runs": group["run"].nunique(),
            "n": len(group),
            "events": group["events"].median(),
        }
        row["seconds"] = group["seconds"].median()
        row["seconds_low"], row["seconds_high"] = median_interval(group["seconds"].to_numpy())
        # Inverted after the median: epochs of the same events then give events / seconds for an even n too.
        per_event = (group["seconds"] / group["events"]).to_numpy()
        low, high = median_interval(per_event)
        row["events_per_second"] = 1 / float(np.median(per_event))
        row["events_per_second_low"], row["events_per_second_high"] = 1 / high, 1 / low
        rows.append(row)
    return pd.DataFrame(rows)


def curve(points: pd.DataFrame, baseline: int | None = None) -> pd.DataFrame:
    """Speed-up and parallel efficiency against the point of `baseline` workers (default: the fewest).

    With W events/s at N workers and W_b at the baseline's B: speed-up = W / W_b, and efficiency = speed-up /
    (N / B), which is T(B) B / (T(N) N) where both epochs process the same events. Ideal is a speed-up of
    N / B and the time that an epoch of the same events would take at it.

    The intervals carry the baseline's uncertainty: the distances of both medians from their limits are added
    in squares on a logarithmic scale, as for a ratio of independent estimates. At the baseline itself the
    speed-up is 1 by definition and has no interval.

    Returns:
        `points` with baseline (its workers), speedup, efficiency, each with `_low` and `_high`, ideal_speedup
        and ideal_seconds.

    Raises:
        RecordError: no run has `baseline` workers.
    """
    sizes = points["workers"].tolist()
    if baseline is None:
        baseline = min(sizes)
    if baseline not in sizes:
        seen = ", ".join(map(str, sizes))
        raise RecordError(
            f"the baseline of {baseline} workers is in none of the runs, which have {seen}; "
            "give one of these numbers or add a run of that size"
        )
    base = points[points["workers"] == baseline].iloc[0]
    result = points.assign(baseline=baseline, ideal_speedup=points["workers"] / baseline)
    rate = result["events_per_second"]
    speedup = rate / base["events_per_second"]
    below = np.hypot(
        np.log(rate / result["events_per_second_low"]),
        math.log(base["events_per_second_high"] / base["events_per_second"]),
    )
    above = np.hypot(
        np.log(result["events_per_second_high"] / rate),
        math.log(base["events_per_second"] / base["events_per_second_low"]),
    )
    itself = result["workers"] == baseline
    result["speedup"] = speedup
    result["speedup_low"] = (speedup * np.exp(-below)).mask(itself)
    result["speedup_high"] = (speedup * np.exp(above)).mask(itself)
    for name in ("", "_low", "_high"):
        result[f"efficiency{name}"] = result[f"speedup{name}"] / result["ideal_speedup"]
    result["ideal_seconds"] = result["events"] / (base["events_per_second"] * result["ideal_speedup"])
    return result


def median_interval(values: np.ndarray) -> tuple[float, float]:
    """The 95% interval of the median of `values` (1-d), from their ranks; NaN below 3 values.

    The number B of n values that lie below the median is binomial with p = 1/2, whatever their distribution.
    The interval leaves out the most values on each side that keep P(B <= left out) at 2.5% or less (Hoefler
    and Belli, SC'15). It covers the median in 95% of samples or more from n = 6 on. Below that it is the
    range of the values, which covers it in 1 - 2^(1-n): 75% at 3 and 94% at 5.
    """
    if len(values) < 3:
        return math.nan, math.nan
    ordered = np.sort(values)
    left_out = _ranks_outside(len(values))
    return float(ordered[left_out]), float(ordered[-1 - left_out])


@functools.cache
def _ranks_outside(n: int) -> int:
    """The largest k with P(B <= k) <= 1/40 for B binomial (n, 1/2); 0 where there is none."""
    tails = itertools.accumulate(math.comb(n, k) for k in range(n))
    return max(0, sum(1 for _ in itertools.takewhile(lambda tail: 40 * tail <= 2**n, tails)) - 1)


def differences(runs: Sequence[Run]) -> dict[str, dict[str, list[str]]]:
    """What differs between runs beyond their size: setting -> value as text -> paths of the runs with it.

    Settings outside `MAY_DIFFER`, the batch size per worker, the number of training events and the data files
    (names and events; a folder may differ, since data is staged to other places) are compared.
    """
    descriptions = [_description(run) for run in runs]
    found: dict[str, dict[str, list[str]]] = {}
    for name in sorted({name for description in descriptions for name in description}):
        values: dict[str, list[str]] = {}
        for run, description in zip(runs, descriptions, strict=True):
            values.setdefault(description.get(name, "not recorded"), []).append(str(run.path))
        if len(values) > 1:
            found[name] = values
    return found


def notes(runs: Sequence[Run], epochs: pd.DataFrame, skip_epochs: int = 1) -> list[str]:
    """What a reader of the curve must know: sentences on runs cut short, few epochs, unlike repeats."""
    said = []
    for number, run in enumerate(runs):
        own = epochs[epochs["run"] == number]
        if not run.complete:
            how = f"ended as {run.end.status}" if run.end else "has no end record: it is going on or was killed"
            said.append(f"{run.path} {how}; its {_count(len(run.epochs), 'finished epoch')} in the record.")
        if run.parts > 1:
            said.append(f"{run.path} was resumed; only epochs after {run.header.resumed_epochs} are used.")
        pieces = sum(e.epoch > run.header.resumed_epochs and e.resumed_steps > 0 for e in run.epochs)
        if pieces:
            said.append(f"{run.path}: {_count(pieces, 'epoch')} interrupted and continued left out.")
        unmeasured = sum(not _measured(e.seconds, e.events) for e in run.epochs)
        if unmeasured:
            said.append(f"{run.path}: {_count(unmeasured, 'epoch')} without a time or events left out.")
        if own.empty:
            said.append(f"{run.path} holds no epoch to use and is left out.")
        elif own["epoch"].max() <= run.header.resumed_epochs + skip_epochs:
            said.append(f"{run.path} has no epoch beyond the {skip_epochs} to skip; its last one is used.")
    used = epochs[epochs["used"]]
    counts = used.groupby("workers").size()
    for n in sorted(set(counts[counts < 6])):
        sizes = ", ".join(map(str, counts.index[counts == n]))
        meaning = "too few for an interval" if n < 3 else f"the interval covers {1 - 2.0 ** (1 - n):.0%} at most"
        said.append(f"n = {n} at {sizes} workers: {meaning}.")
    for workers, group in used.groupby("workers"):
        if group["nodes"].nunique() > 1:
            nodes = ", ".join(map(str, sorted(group["nodes"].unique())))
            said.append(f"{_count(workers, 'worker')}: repeats on different numbers of nodes ({nodes}) are pooled.")
    return said


def _measured(seconds: float, events: int) -> bool:
    return math.isfinite(seconds) and seconds > 0 and events > 0


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _description(run: Run) -> dict[str, str]:
    header = run.header
    values = {name: ascii(value) for name, value in header.settings.items() if name not in MAY_DIFFER}
    values["batch_size"] = str(header.batch_size)
    values["train_events"] = str(header.train_events)
    if header.files:
        values["data files"] = ", ".join(sorted(map(_file_name, header.files)))
    return values


def _file_name(file: Mapping[str, Any]) -> str:
    name = next((str(file[key]) for key in ("path", "name", "file") if key in file), "?")
    return f"{PurePath(name).name!a} ({file.get('events', '?')} events)"
