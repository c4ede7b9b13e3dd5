"""Find the reasons why runs cannot be compared, and write the notes for the reader of a curve."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from scaling.metrics.bootstrap import FEWEST, effective_size
from scaling.metrics.epochs import has_time, joined, run_value, series_labels, workers_text
from scaling.records.wording import count
from scaling.runs import RunLog

__all__ = ["differences", "notes"]

_SIZES = ("batch_size", "global_batch_size", "train_events")


def differences(
    runs: Sequence[RunLog], mode: str = "fixed-local", series: Sequence[str] = ()
) -> dict[str, dict[str, list[str]]]:
    """Find the settings that differ between runs of the same curve.

    The function compares all `settings` and the sizes that the mode keeps constant: batch_size (fixed-local, weak) or
    global_batch_size (strong), and train_events (fixed-local, strong) or train_events per worker (weak, to three
    digits). In weak scaling the limit of events and the data files may differ.

    Args:
        runs: the runs of one or several curves.
        mode: one of `runs.MODES`.
        series: settings that separate the curves. Their values may differ.

    Returns:
        A dictionary for each differing setting, from each of its values as text to the sources of the runs with it.
    """
    result: dict[str, dict[str, list[str]]] = {}
    labels = series_labels(runs, series)
    for label in dict.fromkeys(labels):
        own = [run for run, name in zip(runs, labels, strict=True) if name == label]
        descriptions = [_description(run, mode) for run in own]
        for name in sorted({name for description in descriptions for name in description} - set(series)):
            values: dict[str, list[str]] = {}
            for run, description in zip(own, descriptions, strict=True):
                # A single worker exchanges no gradients, so its communicator does not matter.
                if name == "communicator" and run.workers == 1:
                    continue
                values.setdefault(description.get(name, "not recorded"), []).append(run.source)
            if len(values) > 1:
                result[f"{name} ({label})" if label else name] = values
    return result


def _description(run: RunLog, mode: str) -> dict[str, str]:
    # The settings of a record include the sizes. The mode decides which of them must be equal.
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
    """Return sentences about incomplete runs, few epochs and repeats that disagree, and the notes of the parsers.

    Args:
        runs: the runs of a study.
        epochs: result of `epochs_table` for these runs.
        skip_epochs: as for `epochs_table`.
    """
    sentences: list[str] = []
    for number, run in enumerate(runs):
        sentences += _run_notes(run, epochs[epochs["run"] == number], skip_epochs)
    used = epochs[epochs["used"]]
    unknown = set(used[used["events"].isna()]["workers"])
    if unknown:
        sentences.append(f"Events are not known at {workers_text(unknown)}: every epoch counts as the same work.")
    counts = used.groupby(["series", "workers"]).size()
    for n in sorted(set(counts[counts < FEWEST])):
        sizes = {workers for _, workers in counts.index[counts == n]}
        sentences.append(f"n = {n} at {workers_text(sizes)}: too few epochs for an interval.")
    runs_of = used.groupby(["series", "workers"])["run"].nunique()
    single = {workers for _, workers in counts.index[(runs_of == 1) & (counts >= FEWEST)]}
    if single:
        sentences.append(
            f"Only one run at {workers_text(single)}: the interval covers the variation between its epochs, but not "
            "between runs."
        )
    for (_, workers), group in used.groupby(["series", "workers"]):
        sentences += _repeat_notes(count(workers, "worker"), group)
    return sentences


def _repeat_notes(size: str, group: pd.DataFrame) -> list[str]:
    """Return notes on the repeats of one size, given their epochs."""
    sentences = []
    if group["nodes"].nunique() > 1:
        nodes = joined(sorted(group["nodes"].dropna().unique()))
        sentences.append(f"{size}: the repeats ran on different numbers of nodes ({nodes}); their epochs are pooled.")
    repeats = [part.to_numpy() for _, part in group.groupby("run")["seconds"]]
    few = 2 <= len(repeats) <= 3 and len(group) > len(repeats)
    if few and effective_size(repeats) < 2 * len(repeats):
        # Coverage as measured for `bootstrap.median_draws`.
        coverage = "80%" if len(repeats) == 2 else "90%"
        sentences.append(
            f"{size}: the {len(repeats)} repeats differ more from each other than their epochs do. With so few repeats "
            f"the 95% interval contains the true median in only about {coverage} of studies; run more repeats."
        )
    return sentences


def _run_notes(run: RunLog, own: pd.DataFrame, skip_epochs: int) -> list[str]:
    """Return notes on one run, given its rows of the table of epochs."""
    sentences = []
    finished = count(len(run.epochs), "finished epoch")
    if run.status in ("interrupted", "failed"):
        sentences.append(f"{run.source} ended as {run.status} after {finished}.")
    elif run.record is not None and run.record.end is None:
        sentences.append(f"{run.source} has no end record: it is still running or was killed after {finished}.")
    if run.resumed_epochs:
        sentences.append(f"{run.source} was resumed: only the epochs after epoch {run.resumed_epochs} are used.")
    newest = [e for e in run.epochs if e.epoch > run.resumed_epochs]
    pieces = sum(not e.whole for e in newest)
    if pieces:
        sentences.append(f"{run.source}: {count(pieces, 'interrupted and continued epoch')} left out.")
    unmeasured = sum(not has_time(e) for e in newest)
    if unmeasured:
        sentences.append(f"{run.source}: {count(unmeasured, 'epoch')} without a time or without events left out.")
    if own.empty:
        sentences.append(f"{run.source} has no usable epoch and is left out.")
    elif not run.summary and own["epoch"].max() <= run.resumed_epochs + skip_epochs:
        skipped = count(skip_epochs, "epoch")
        sentences.append(f"{run.source} has no epoch after the {skipped} to skip: its last epoch is used.")
    return sentences + [f"{run.source}: {note}" for note in run.notes]
