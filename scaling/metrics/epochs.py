"""The table of epochs: which epochs of a run are used, and which curve a run belongs to."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence

import pandas as pd

from scaling.records import RecordError
from scaling.records.wording import count
from scaling.runs import EpochTimes, RunLog

__all__ = [
    "epochs_table",
    "events_known",
    "has_time",
    "joined",
    "measured_epochs",
    "run_value",
    "series_labels",
    "unquoted",
    "workers_text",
]

_FIELDS = ("batch_size", "global_batch_size", "train_events", "format")
"""Fields of a run that can separate curves, in addition to its settings."""


def epochs_table(runs: Sequence[RunLog], skip_epochs: int = 1, series: Sequence[str] = ()) -> pd.DataFrame:
    """Return one row for each epoch of each run.

    Only the epochs after the last resume of a run are used, because earlier epochs may have run on other workers. The
    first `skip_epochs` of them are marked as not `used`, because they include start-up work such as compilation. If no
    epoch remains, the last one is used, and `notes` says so. An epoch that was interrupted and continued is left out,
    because no part of the run measured it completely. An entry that stands for a whole run (`RunLog.summary`) is always
    used.

    Args:
        runs: the runs of a study.
        skip_epochs: epochs to skip at the start of each run, or after its last resume.
        series: settings (or batch_size, global_batch_size, train_events, format) that separate the curves, as for
            `series_labels`.

    Returns:
        Columns run (index in `runs`), path, series, workers, nodes, cores (of all nodes), batch_size,
        global_batch_size, train_events, epoch, seconds (training only), events (processed), events_per_second,
        validation_seconds, checkpoint_seconds, input_seconds, communication_seconds, slowest_ratio and used. Counts
        that a log does not give are missing (`Int64`), times that it does not give are not-a-number.

    Raises:
        RecordError: no run has a finished epoch with a time, or a setting of `series` is in none of the runs.
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
            f"no finished epoch with a time in {count(len(runs), 'run')}; expected one or more. "
            "Train for two epochs or more"
        )
    table = pd.DataFrame(rows)
    counts = ("nodes", "cores", "batch_size", "global_batch_size", "train_events", "events")
    table = table.astype(dict.fromkeys(counts, "Int64"))
    rate = table["events"].astype("Float64").to_numpy(dtype=float, na_value=math.nan) / table["seconds"]
    table.insert(table.columns.get_loc("events") + 1, "events_per_second", rate)
    return table


def measured_epochs(run: RunLog) -> list[EpochTimes]:
    """Return the epochs after the last resume that were measured completely, in order."""
    whole = (e for e in run.epochs if e.epoch > run.resumed_epochs and e.whole and has_time(e))
    return sorted(whole, key=lambda e: e.epoch)


def has_time(epoch: EpochTimes) -> bool:
    """Return True if an epoch has a time above 0 and, if its events are known, at least one event."""
    return math.isfinite(epoch.seconds) and epoch.seconds > 0 and (epoch.events is None or epoch.events > 0)


def events_known(table: pd.DataFrame) -> bool:
    """Return True if every row of a table of epochs or points has its events. Otherwise rates are in epochs/s."""
    return bool(table["events"].notna().all())


def series_labels(runs: Sequence[RunLog], keys: Sequence[str]) -> list[str]:
    """Return the name of each run's curve, such as `precision bf16, filters 16`. The name is empty without `keys`.

    Args:
        runs: the runs of a study.
        keys: settings whose values separate the curves.

    Raises:
        RecordError: a setting of `keys` is in none of the runs.
    """
    known = {name for run in runs for name in run.settings} | set(_FIELDS)
    for key in keys:
        if key not in known:
            raise RecordError(
                f"no run has the setting {key!r} for a series; expected one of {joined(sorted(known))}. Change --series"
            )
    return [", ".join(f"{key} {run_value(run, key)}" for key in keys) for run in runs]


def unquoted(label: str) -> str:
    """Return the name of a curve without the quotes that records put around settings: `precision bf16`."""
    return label.replace("'", "")


def run_value(run: RunLog, key: str) -> str:
    """Return the value of a setting or field of a run as text."""
    value = getattr(run, key) if key in _FIELDS else run.settings.get(key)
    return "not recorded" if value is None else str(value)


def joined(values: Iterable[object]) -> str:
    """Return values as text, separated by commas."""
    return ", ".join(map(str, values))


def workers_text(sizes: Collection[int]) -> str:
    """Return numbers of workers in words: `1 worker`, `1, 2, 4 workers`."""
    return f"{joined(sorted(sizes))} worker{'' if set(sizes) == {1} else 's'}"
