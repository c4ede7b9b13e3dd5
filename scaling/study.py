"""A scaling study: runs read from logs, with the tables and fits computed from them.

The module connects `parsers`, `metrics` and `models`. Every command that reads runs begins with `read_study`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from scaling import metrics, models
from scaling.parsers import Hints, read_runs
from scaling.records import RecordError
from scaling.runs import RunLog

__all__ = ["Study", "StudyOptions", "differences_text", "fits_of", "forecast_sizes", "forecast_tables", "read_study"]

_DRAWN_SIZES = 40
"""Number of sizes of a forecast curve in a plot."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyOptions:
    """How to read and compare runs."""

    skip_epochs: int = 1
    """Epochs to skip at the start of each run, or after its last resume."""
    baseline: int | None = None
    """Workers that speed-up and efficiency refer to. None means the smallest number of each curve."""
    baseline_from: Path | None = None
    """Log or folder with the runs of the baseline. None means that the baseline is among the runs of the study."""
    mode: str = "fixed-local"
    """One of `runs.MODES`."""
    allow_different: bool = False
    """Whether to compare runs that differ in more than the number of workers."""
    series: Sequence[str] = ()
    """Settings that separate the curves: each combination of their values is one curve."""
    hints: Hints = field(default_factory=Hints)
    """Facts from the user that are missing in the logs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """Runs and the tables computed from them."""

    runs: Sequence[RunLog]
    labels: Sequence[str]
    """Name of the curve of each run, see `metrics.series_labels`."""
    epochs: pd.DataFrame
    """Result of `metrics.epochs_table`."""
    points: pd.DataFrame
    """Result of `metrics.points`."""
    curve: pd.DataFrame
    """Result of `metrics.curve`."""
    notes: Sequence[str]
    """Sentences for the reader of the table."""
    differences: Mapping[str, Mapping[str, Sequence[str]]]
    """Result of `metrics.differences`. Empty unless `StudyOptions.allow_different` is set."""


def read_study(paths: Sequence[Path], options: StudyOptions) -> Study:
    """Read the runs at `paths`, each a log or a folder, and compute their curves.

    Raises:
        RecordError: a log cannot be read, no run has an epoch, the runs of one curve differ in more than the number of
            workers and the options do not allow this, or no run has the size of the baseline.
    """
    runs = read_runs(paths, options.hints)
    differences = metrics.differences(runs, options.mode, options.series)
    if differences and not options.allow_different:
        raise RecordError(
            "the runs differ in more than the number of workers, so their times cannot be compared:\n"
            f"{differences_text(differences)}\n"
            "Leave out the runs that do not belong, draw one curve for each value of a setting with --series SETTING, "
            "or compare them anyway with --allow-different"
        )
    epochs = metrics.epochs_table(runs, options.skip_epochs, options.series)
    notes = metrics.notes(runs, epochs, options.skip_epochs)
    if differences:
        notes.insert(0, f"The runs differ in more than the number of workers:\n{differences_text(differences)}")
    points = metrics.points(epochs)
    reference = None
    if options.baseline_from is not None:
        reference = _reference_points(runs, options.baseline_from, options)
        notes.append(f"The baseline is from {options.baseline_from}.")
    return Study(
        runs=runs,
        labels=metrics.series_labels(runs, options.series),
        epochs=epochs,
        points=points,
        curve=metrics.curve(points, options.baseline, options.mode, reference),
        notes=notes,
        differences=differences,
    )


def _reference_points(runs: Sequence[RunLog], path: Path, options: StudyOptions) -> pd.DataFrame:
    """Return the points of the runs at `path`, which serve as the baseline of `runs`."""
    others = read_runs([path], options.hints)
    differences = metrics.differences([*runs, *others], options.mode, options.series)
    if differences and not options.allow_different:
        raise RecordError(
            f"the baseline runs in {path} differ from the others in more than the number of workers:\n"
            f"{differences_text(differences)}\n"
            "Give a baseline with the same settings, or compare them anyway with --allow-different"
        )
    keys = [key for key in options.series if any(key in run.settings or hasattr(run, key) for run in others)]
    return metrics.points(metrics.epochs_table(others, options.skip_epochs, keys))


def fits_of(curve: pd.DataFrame, model: str | None = None) -> dict[str, models.Fit]:
    """Fit a model to each series of a curve.

    Args:
        curve: result of `metrics.curve`.
        model: a key of `models.MODELS`. None means the model chosen by `models.choose`.

    Returns:
        The fit of each series.

    Raises:
        RecordError: the model is unknown or a series has fewer than two sizes.
    """
    return {
        str(series): models.fit(part, model) if model else models.choose(part)
        for series, part in curve.groupby("series")
    }


def forecast_sizes(curve: pd.DataFrame, fit: models.Fit, nodes: Sequence[int], workers: Sequence[int]) -> list[int]:
    """Return the numbers of workers to forecast, sorted: the workers on full `nodes`, and `workers`.

    Raises:
        RecordError: `nodes` is not empty, but some runs do not record their nodes.
    """
    if nodes and curve["nodes"].isna().any():
        raise RecordError(
            "some runs do not record their nodes, so a number of nodes cannot be forecast; give numbers of workers "
            r"with --at-workers, or the nodes of the runs with --name-pattern such as '(?P<nodes>\d+)nodes'"
        )
    return sorted({*(round(n * fit.workload.workers_per_node) for n in nodes), *workers})


def forecast_tables(
    curve: pd.DataFrame, fits: Mapping[str, models.Fit], sizes: Sequence[int]
) -> dict[str, pd.DataFrame]:
    """Return a forecast of each series with enough sizes for a smooth line in a plot.

    The sizes go from the smallest measured size of the series to its largest one, or to the largest of `sizes`.
    """
    tables = {}
    for series, part in curve.groupby("series"):
        first, last = int(part["workers"].min()), max([*sizes, int(part["workers"].max())])
        dense = np.geomspace(first, last, _DRAWN_SIZES).round().astype(int)
        tables[str(series)] = fits[str(series)].forecast(sorted({*dense.tolist(), *sizes, *part["workers"].tolist()}))
    return tables


def differences_text(differences: Mapping[str, Mapping[str, Sequence[str]]]) -> str:
    """Return a line for each setting and value, such as `  batch_size: 8 in a/run.jsonl, b/run.jsonl`."""
    return "\n".join(
        f"  {name}: {value} in {', '.join(paths)}"
        for name, values in differences.items()
        for value, paths in values.items()
    )
