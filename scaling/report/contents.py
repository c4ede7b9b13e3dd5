"""The contents of a report, and their computation from runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from scaling import metrics
from scaling.metrics.epochs import unquoted
from scaling.models import Fit
from scaling.plots import (
    Plot,
    breakdown_panels,
    curve_panels,
    loss_panels,
    placement_plots,
    quality_panels,
    rank_panel,
    slowest_panel,
    step_panel,
)
from scaling.published import Published, read_published
from scaling.records import RecordError
from scaling.runs import RunLog
from scaling.study import StudyOptions, fits_of, forecast_sizes, forecast_tables, read_study

__all__ = ["Report", "make_report"]

_TITLE_SETTINGS = ("model", "filters", "precision", "optimizer")
"""Settings in the title of a report."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """The contents of a report on a scaling study."""

    curve: pd.DataFrame
    """Result of `metrics.curve`, with a row for each series and number of workers."""
    notes: Sequence[str]
    """Sentences to print under the table."""
    title: str
    """Heading: the settings that all runs have in common."""
    runs: Sequence[RunLog] = ()
    labels: Sequence[str] = ()
    """Name of the curve of each run."""
    skip_epochs: int = 1
    """Epochs that were skipped at the start of each run."""
    breakdown: pd.DataFrame = field(default_factory=pd.DataFrame)
    """Result of `metrics.breakdown`."""
    fits: Mapping[str, Fit] = field(default_factory=dict)
    """Fit of each series. Empty for a report without a forecast."""
    forecasts: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    """Forecast of each series at many sizes, for a smooth line in the plots."""
    forecast_workers: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Numbers of workers in the table of forecasts, for each series."""
    published: Sequence[Published] = ()
    """Published studies to add to the plots."""

    def plots(self) -> list[Plot]:
        """Return the plots for which the runs have data, in reading order. The first three show the curve."""
        steps = (
            step_panel(self.runs, self.labels, self.skip_epochs),
            rank_panel(self.runs, self.labels, self.skip_epochs),
            slowest_panel(self.runs, self.labels),
        )
        return [
            *curve_panels(self.curve, self.forecasts, self.published),
            *breakdown_panels(self.breakdown),
            *(panel for panel in steps if panel is not None),
            *quality_panels(self.runs, self.labels),
            *loss_panels(self.runs, self.labels),
            *self._placements(),
        ]

    def _placements(self) -> Sequence[Plot]:
        """Return drawings of the nodes of the largest run that records them. A small run may not fill a node."""
        records = [run.record for run in self.runs if run.record is not None and run.record.header.placement]
        if not records:
            return ()
        return placement_plots(max(records, key=lambda record: record.header.workers).header.placement)


def make_report(
    paths: Sequence[Path],
    options: StudyOptions | None = None,
    forecast_nodes: Sequence[int] = (),
    forecast_workers: Sequence[int] = (),
    model: str | None = None,
    published: bool = False,
) -> Report:
    """Read the runs at `paths` and compute their report.

    Args:
        paths: logs or folders. A log that is given twice counts once.
        options: how to read and compare the runs. None means the defaults.
        forecast_nodes: numbers of full nodes to forecast.
        forecast_workers: numbers of workers to forecast. If there is no size to forecast, no model is fitted.
        model: a key of `models.MODELS`. None means the model with the smallest prediction error.
        published: whether to add published studies to the plots.

    Raises:
        RecordError: `study.read_study` fails, no model can be fitted, or a forecast is combined with a baseline from
            other runs.
    """
    options = options or StudyOptions()
    study = read_study(paths, options)
    fits: dict[str, Fit] = {}
    workers: dict[str, list[int]] = {}
    if forecast_nodes or forecast_workers:
        if options.baseline_from is not None:
            raise RecordError(
                "a forecast needs the baseline among its own runs, but --baseline-from takes it from others; "
                "give either --baseline-from or sizes to forecast, or add the runs of the baseline to RUN..."
            )
        fits = fits_of(study.curve, model)
        for series, part in study.curve.groupby("series"):
            workers[str(series)] = forecast_sizes(part, fits[str(series)], forecast_nodes, forecast_workers)
    sizes = sorted({size for own in workers.values() for size in own})
    differing = {name.partition(" ")[0] for name in study.differences}
    return Report(
        curve=study.curve,
        notes=study.notes,
        title=_title(study.runs[0], without={*differing, *options.series}),
        runs=study.runs,
        labels=study.labels,
        skip_epochs=options.skip_epochs,
        breakdown=metrics.breakdown(study.runs, options.skip_epochs, options.series, options.baseline, options.mode),
        fits=fits,
        forecasts=forecast_tables(study.curve, fits, sizes) if fits else {},
        forecast_workers=workers,
        published=read_published() if published else (),
    )


def _title(run: RunLog, without: set[str]) -> str:
    """Return the main settings of the runs in words, without those that differ between runs."""
    parts = [f"{name} {run.settings[name]}" for name in _TITLE_SETTINGS if name in run.settings and name not in without]
    if run.batch_size is not None and "batch_size" not in without:
        parts.append(f"batch size {run.batch_size} per worker")
    return unquoted(", ".join(parts))
