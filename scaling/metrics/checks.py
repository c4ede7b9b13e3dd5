"""What keeps runs from being compared, and what a reader of their curve must know."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from scaling.metrics.bootstrap import FEWEST, effective_size
from scaling.metrics.epochs import listed, run_value, series_labels, timed
from scaling.records.wording import count
from scaling.runs import RunLog

__all__ = ["differences", "notes"]

_SIZES = ("batch_size", "global_batch_size", "train_events")


def differences(
    runs: Sequence[RunLog], mode: str = "fixed-local", series: Sequence[str] = ()
) -> dict[str, dict[str, list[str]]]:
    """What differs between runs of one curve beyond their size: setting -> value as text -> sources with it.

    All `settings` are compared, and what the mode promises to keep: batch_size (fixed-local, weak) or
    global_batch_size (strong), train_events (fixed-local, strong) or train_events per worker (weak, to three figures;
    the limit of events and the data files then may differ). Settings named by `series` make curves of their own.
    """
    found: dict[str, dict[str, list[str]]] = {}
    labels = series_labels(runs, series)
    for label in dict.fromkeys(labels):
        own = [run for run, name in zip(runs, labels, strict=True) if name == label]
        descriptions = [_description(run, mode) for run in own]
        for name in sorted({name for description in descriptions for name in description} - set(series)):
            values: dict[str, list[str]] = {}
            for run, description in zip(own, descriptions, strict=True):
                # One worker exchanges nothing, whatever it would do it with.
                if name == "communicator" and run.workers == 1:
                    continue
                values.setdefault(description.get(name, "not recorded"), []).append(run.source)
            if len(values) > 1:
                found[f"{name} ({label})" if label else name] = values
    return found


def _description(run: RunLog, mode: str) -> dict[str, str]:
    # Records hold the sizes among their settings too; which of them must agree depends on the mode.
    values = {name: value for name, value in run.settings.items() if name not in _SIZES}
    batch = "global_batch_size" if mode == "strong" else "batch_size"
    values[batch] = run_value(run, batch)
    if mode == "weak":
        for name in ("events", "data files"):
            values.pop(name, None)
        if run.train_events is not None:
            values["train_events per worker"] = f"{run.train_events / run.workers:.3g}"
    else:
        values["train_events"] = run_value(run, "train_events")
    return values


def notes(runs: Sequence[RunLog], epochs: pd.DataFrame, skip_epochs: int = 1) -> list[str]:
    """Sentences on runs cut short, few epochs, unlike repeats, and what the readers of files noted."""
    said: list[str] = []
    for number, run in enumerate(runs):
        said += _of_run(run, epochs[epochs["run"] == number], skip_epochs)
    used = epochs[epochs["used"]]
    unknown = sorted(set(used[used["events"].isna()]["workers"]))
    if unknown:
        said.append(f"Events are not known at {listed(unknown)} workers: epochs count as equal work.")
    counts = used.groupby(["series", "workers"]).size()
    for n in sorted(set(counts[counts < FEWEST])):
        sizes = listed(sorted({workers for _, workers in counts.index[counts == n]}))
        said.append(f"n = {n} at {sizes} workers: too few for an interval.")
    runs_of = used.groupby(["series", "workers"])["run"].nunique()
    single = sorted({workers for _, workers in counts.index[(runs_of == 1) & (counts >= FEWEST)]})
    if single:
        said.append(
            f"One run at {listed(single)} workers: the interval is over its epochs; how much runs differ is not in it."
        )
    for (_, workers), group in used.groupby(["series", "workers"]):
        size = count(workers, "worker")
        if group["nodes"].nunique() > 1:
            nodes = listed(sorted(group["nodes"].dropna().unique()))
            said.append(f"{size}: repeats on different numbers of nodes ({nodes}) are pooled.")
        repeats = [part.to_numpy() for _, part in group.groupby("run")["seconds"]]
        few = 2 <= len(repeats) <= 3 and len(group) > len(repeats)
        if few and effective_size(repeats) < 2 * len(repeats):
            covers = "80%" if len(repeats) == 2 else "90%"
            said.append(
                f"{size}: {len(repeats)} repeats differ from each other more than their epochs do; with so few of them "
                f"the 95% interval holds the median in about {covers} of studies. Repeat it more often."
            )
    return said


def _of_run(run: RunLog, own: pd.DataFrame, skip_epochs: int) -> list[str]:
    said = []
    seen = count(len(run.epochs), "finished epoch")
    if run.status in ("interrupted", "failed"):
        said.append(f"{run.source} ended as {run.status}; its {seen} in the record.")
    elif run.record is not None and run.record.end is None:
        said.append(f"{run.source} has no end record: it is going on or was killed; its {seen} in the record.")
    if run.resumed_epochs:
        said.append(f"{run.source} was resumed; only epochs after {run.resumed_epochs} are used.")
    newest = [e for e in run.epochs if e.epoch > run.resumed_epochs]
    pieces = sum(not e.whole for e in newest)
    if pieces:
        said.append(f"{run.source}: {count(pieces, 'epoch')} interrupted and continued left out.")
    unmeasured = sum(not timed(e) for e in newest)
    if unmeasured:
        said.append(f"{run.source}: {count(unmeasured, 'epoch')} without a time or events left out.")
    if own.empty:
        said.append(f"{run.source} holds no epoch to use and is left out.")
    elif not run.summary and own["epoch"].max() <= run.resumed_epochs + skip_epochs:
        said.append(f"{run.source} has no epoch beyond the {skip_epochs} to skip; its last one is used.")
    return said + [f"{run.source}: {note}" for note in run.notes]
