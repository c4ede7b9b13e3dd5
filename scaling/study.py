"""A scaling study, read and computed: what every command of `scaling` begins with.

Puts `parsers`, `metrics` and `models` together; writes nothing and draws nothing.
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

__all__ = ["Options", "Study", "fits_of", "forecast_sizes", "forecast_tables", "listed", "read_study"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """How runs are read and compared."""

    skip_epochs: int = 1
    """Left out at the start of each run, or after its last resume."""
    baseline: int | None = None
    """Workers; by default the fewest of each curve."""
    baseline_from: Path | None = None
    """Runs that the baseline is taken from, where it is not among those of the study."""
    mode: str = "fixed-local"
    """One of `metrics.MODES`."""
    allow_different: bool = False
    """Compare runs though they differ in more than size."""
    series: Sequence[str] = ()
    """Settings whose values make curves of their own."""
    hints: Hints = field(default_factory=Hints)
    """What the files do not tell."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """Runs and what was computed from them."""

    runs: Sequence[RunLog]
    labels: Sequence[str]
    """The series of each run."""
    epochs: pd.DataFrame
    points: pd.DataFrame
    curve: pd.DataFrame
    notes: Sequence[str]
    unlike: Mapping[str, Mapping[str, Sequence[str]]]
    """What differs beyond size, as `metrics.differences` gives it; empty unless that was allowed."""


def read_study(paths: Sequence[Path], options: Options) -> Study:
    """Read the runs at `paths` and compute their curves.

    Raises:
        RecordError: a file cannot be read, no run has an epoch, the runs of one curve differ in more than size and that
            is not allowed, or the baseline is in none of them.
    """
    runs = read_runs(paths, options.hints)
    unlike = metrics.differences(runs, options.mode, options.series)
    if unlike and not options.allow_different:
        raise RecordError(
            f"the runs differ in more than size, so that their times do not compare:\n{listed(unlike)}\n"
            "Leave out the runs that do not belong, name a setting with --series to give each of its values a curve, "
            "or give --allow-different to compare them all the same"
        )
    epochs = metrics.epochs_table(runs, options.skip_epochs, options.series)
    notes = metrics.notes(runs, epochs, options.skip_epochs)
    if unlike:
        notes.insert(0, f"The runs differ in more than size:\n{listed(unlike)}")
    points = metrics.points(epochs)
    reference = None
    if options.baseline_from is not None:
        others = read_runs([options.baseline_from], options.hints)
        differ = metrics.differences([*runs, *others], options.mode, options.series)
        if differ and not options.allow_different:
            raise RecordError(
                f"the runs of the baseline in {options.baseline_from} differ from the others in more than size:\n"
                f"{listed(differ)}\nTake a baseline that was measured alike, or give --allow-different"
            )
        keys = [key for key in options.series if any(key in run.settings or hasattr(run, key) for run in others)]
        reference = metrics.points(metrics.epochs_table(others, options.skip_epochs, keys))
        notes.append(f"The baseline is taken from {options.baseline_from}.")
    return Study(
        runs=runs,
        labels=metrics.series_labels(runs, options.series),
        epochs=epochs,
        points=points,
        curve=metrics.curve(points, options.baseline, options.mode, reference),
        notes=notes,
        unlike=unlike,
    )


def fits_of(curve: pd.DataFrame, model: str | None = None) -> dict[str, models.Fit]:
    """A fit of every series of a curve: of the model asked for, or of the one that predicts best.

    Raises:
        RecordError: the model is unknown or a series has fewer than two sizes.
    """
    return {
        str(series): models.fit(part, model) if model else models.choose(part)
        for series, part in curve.groupby("series")
    }


def forecast_sizes(curve: pd.DataFrame, fit: models.Fit, nodes: Sequence[int], workers: Sequence[int]) -> list[int]:
    """Workers at which a forecast is asked for, ascending: those on full `nodes`, and `workers` themselves.

    Raises:
        RecordError: nodes are asked for and the runs do not tell how many workers a node has.
    """
    if nodes and curve["nodes"].isna().any():
        raise RecordError(
            "the runs do not tell their nodes, so that none can be forecast; give --at-workers with their numbers, "
            r"or tell the nodes with --name-pattern such as '(?P<nodes>\d+)nodes'"
        )
    return sorted({*(round(n * fit.study.workers_per_node) for n in nodes), *workers})


def forecast_tables(
    curve: pd.DataFrame, fits: Mapping[str, models.Fit], sizes: Sequence[int]
) -> dict[str, pd.DataFrame]:
    """Forecasts of every series that are dense enough to draw, from its smallest to the largest of all sizes."""
    tables = {}
    for series, part in curve.groupby("series"):
        first, last = int(part["workers"].min()), max([*sizes, int(part["workers"].max())])
        dense = np.geomspace(first, last, 40).round().astype(int)
        tables[str(series)] = fits[str(series)].forecast(sorted({*dense.tolist(), *sizes, *part["workers"].tolist()}))
    return tables


def listed(unlike: Mapping[str, Mapping[str, Sequence[str]]]) -> str:
    """One line per setting and value: `  batch_size: 8 in a/run.jsonl, b/run.jsonl`."""
    return "\n".join(
        f"  {name}: {value} in {', '.join(paths)}" for name, values in unlike.items() for value, paths in values.items()
    )
