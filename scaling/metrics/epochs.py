"""A row per epoch: which epochs of a run count, and which curve each run belongs to."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import pandas as pd

from scaling.records import RecordError
from scaling.records.wording import count
from scaling.runs import EpochTimes, RunLog

__all__ = ["epochs_table", "events_known", "listed", "measured_epochs", "run_value", "series_labels", "timed"]

_FIELDS = ("batch_size", "global_batch_size", "train_events", "format")
"""Fields of a run that can tell curves apart, as the settings can."""


def epochs_table(runs: Sequence[RunLog], skip_epochs: int = 1, series: Sequence[str] = ()) -> pd.DataFrame:
    """One row per epoch of every run.

    After a resume only the newest part of a run is taken, since earlier epochs may have run on other workers. The first
    `skip_epochs` epochs of that part are marked as not `used`: they hold start-up work such as compilation. A part that
    is not longer than that keeps its last epoch, and `notes` says so. An epoch that was interrupted and continued is
    left out: no part of the run measured it whole. What stands for a whole run is used as it is.

    Args:
        series: settings (or batch_size, train_events, format) whose values tell curves apart, as `series_labels` does.

    Returns:
        Columns run (number in `runs`), path, series, workers, nodes, cores (of all nodes), batch_size,
        global_batch_size, train_events, epoch, seconds (training only), events, events_per_second (over events really
        processed), validation_seconds, checkpoint_seconds, input_seconds, communication_seconds, slowest_ratio and
        used. Counts that a file does not tell are missing (`Int64`), times are not-a-number.

    Raises:
        RecordError: no run has a finished epoch with a time.
    """
    rows = []
    for number, (run, label) in enumerate(zip(runs, series_labels(runs, series), strict=True)):
        newest = measured_epochs(run)
        first = run.resumed_epochs + (0 if run.summary else skip_epochs) + 1
        if newest:
            first = min(first, newest[-1].epoch)
        cores = run.nodes * run.cores_per_node if run.nodes and run.cores_per_node else None
        rows += [
            {
                "run": number,
                "path": run.source,
                "series": label,
                "workers": run.workers,
                "nodes": run.nodes,
                "cores": cores,
                "batch_size": run.batch_size,
                "global_batch_size": run.global_batch_size,
                "train_events": run.train_events,
                "epoch": e.epoch,
                "seconds": float(e.seconds),
                "events": e.events,
                "validation_seconds": e.validation_seconds,
                "checkpoint_seconds": e.checkpoint_seconds,
                "input_seconds": e.input_seconds,
                "communication_seconds": e.communication_seconds,
                "slowest_ratio": e.slowest_ratio,
                "used": e.epoch >= first,
            }
            for e in newest
        ]
    if not rows:
        raise RecordError(
            f"of {count(len(runs), 'run')} none holds a finished epoch with a time; "
            "let them train for two epochs or more"
        )
    table = pd.DataFrame(rows)
    counts = ("nodes", "cores", "batch_size", "global_batch_size", "train_events", "events")
    table = table.astype(dict.fromkeys(counts, "Int64"))
    rate = table["events"].astype("Float64").to_numpy(dtype=float, na_value=math.nan) / table["seconds"]
    table.insert(table.columns.get_loc("events") + 1, "events_per_second", rate)
    return table


def measured_epochs(run: RunLog) -> list[EpochTimes]:
    """The epochs of the newest part of a run that were measured whole, in order."""
    whole = (e for e in run.epochs if e.epoch > run.resumed_epochs and e.whole and timed(e))
    return sorted(whole, key=lambda e: e.epoch)


def timed(epoch: EpochTimes) -> bool:
    """Whether it has a time, and events where they were counted."""
    return math.isfinite(epoch.seconds) and epoch.seconds > 0 and (epoch.events is None or epoch.events > 0)


def events_known(table: pd.DataFrame) -> bool:
    """Whether every row of a table of epochs or points has its events; else times compare as those of equal work."""
    return bool(table["events"].notna().all())


def series_labels(runs: Sequence[RunLog], keys: Sequence[str]) -> list[str]:
    """The curve of each run: its values of `keys`, such as `precision bf16, filters 16`; empty without keys.

    Raises:
        RecordError: no run has such a setting.
    """
    known = {name for run in runs for name in run.settings} | set(_FIELDS)
    for key in keys:
        if key not in known:
            raise RecordError(
                f"the series {key!r} is a setting of none of the runs; expected one of {', '.join(sorted(known))}"
            )
    return [", ".join(f"{key} {run_value(run, key)}" for key in keys) for run in runs]


def run_value(run: RunLog, key: str) -> str:
    """The value of a setting or field of a run as text."""
    value = getattr(run, key) if key in _FIELDS else run.settings.get(key)
    return "not recorded" if value is None else str(value)


def listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))
