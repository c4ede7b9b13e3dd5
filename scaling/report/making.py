"""Computes a report from runs: the curve and all that is drawn or told beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from scaling import metrics
from scaling.models import Fit
from scaling.plots import (
    Plot,
    breakdown_panels,
    curve_panels,
    loss_panels,
    placement_plots,
    rank_panel,
    slowest_panel,
    step_panel,
)
from scaling.plots.panels import plain
from scaling.published import Published, read_published
from scaling.records import RecordError
from scaling.runs import RunLog
from scaling.study import Options, Study, fits_of, forecast_sizes, forecast_tables, read_study

__all__ = ["Report", "make_report", "report_of"]

_TITLE_SETTINGS = ("model", "filters", "precision", "optimizer")


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """A scaling study, computed."""

    curve: pd.DataFrame
    """One row per series and number of workers, as `metrics.curve` gives it."""
    notes: Sequence[str]
    """Sentences that belong under the table."""
    title: str
    """What was run, for the head of the plot."""
    runs: Sequence[RunLog] = ()
    labels: Sequence[str] = ()
    """The series of each run."""
    skip_epochs: int = 1
    breakdown: pd.DataFrame = field(default_factory=pd.DataFrame)
    fits: Mapping[str, Fit] = field(default_factory=dict)
    """By series; empty where no forecast was asked for."""
    forecasts: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    """By series, dense enough to draw."""
    asked: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Workers at which a forecast was asked for, by series."""
    published: Sequence[Published] = ()

    def plots(self) -> list[Plot]:
        """All plots in the order of reading; those that the runs cannot fill are left out. The first three are the
        curve's."""
        inside = (
            step_panel(self.runs, self.labels, self.skip_epochs),
            rank_panel(self.runs, self.labels, self.skip_epochs),
            slowest_panel(self.runs, self.labels),
        )
        return [
            *curve_panels(self.curve, self.forecasts, self.published),
            *breakdown_panels(self.breakdown),
            *(panel for panel in inside if panel is not None),
            *loss_panels(self.runs, self.labels),
            *self._placements(),
        ]

    def _placements(self) -> Sequence[Plot]:
        """Of the largest run that tells it: smaller ones may not fill a node."""
        told = [run.record for run in self.runs if run.record is not None and run.record.header.placement]
        if not told:
            return ()
        return placement_plots(max(told, key=lambda record: record.header.workers).header.placement)


def make_report(
    paths: Sequence[Path],
    options: Options | None = None,
    forecast_nodes: Sequence[int] = (),
    forecast_workers: Sequence[int] = (),
    model: str | None = None,
    published: bool = False,
) -> Report:
    """Read the runs at `paths` (files or their folders; one named twice counts once) and compute their report.

    Args:
        forecast_nodes, forecast_workers: sizes to forecast; without them no model is fitted.
        model: a key of `models.MODELS`; by default the one that predicts best.
        published: whether what others published is drawn beside the curve.

    Raises:
        RecordError: as `study.read_study`, no model can be fitted, or a forecast is asked for with a baseline from
            another file.
    """
    options = options or Options()
    study = read_study(paths, options)
    return report_of(study, options, forecast_nodes, forecast_workers, model, published)


def report_of(
    study: Study,
    options: Options,
    forecast_nodes: Sequence[int] = (),
    forecast_workers: Sequence[int] = (),
    model: str | None = None,
    published: bool = False,
) -> Report:
    """The report of a study that was read already; see `make_report`."""
    fits: dict[str, Fit] = {}
    asked: dict[str, list[int]] = {}
    if forecast_nodes or forecast_workers:
        if options.baseline_from is not None:
            raise RecordError(
                "a forecast counts efficiency against the model at the baseline, which another file does not have; "
                "give either --baseline-from or sizes to forecast, or name the baseline's runs among the others"
            )
        fits = fits_of(study.curve, model)
        for series, part in study.curve.groupby("series"):
            asked[str(series)] = forecast_sizes(part, fits[str(series)], forecast_nodes, forecast_workers)
    sizes = sorted({size for own in asked.values() for size in own})
    return Report(
        curve=study.curve,
        notes=study.notes,
        title=_title(study.runs[0], without={*(name.partition(" ")[0] for name in study.unlike), *options.series}),
        runs=study.runs,
        labels=study.labels,
        skip_epochs=options.skip_epochs,
        breakdown=metrics.breakdown(study.runs, options.skip_epochs, options.series, options.baseline, options.mode),
        fits=fits,
        forecasts=forecast_tables(study.curve, fits, sizes) if fits else {},
        asked=asked,
        published=read_published() if published else (),
    )


def _title(run: RunLog, without: set[str]) -> str:
    """What the runs have in common, for the head of the plot."""
    parts = [f"{name} {run.settings[name]}" for name in _TITLE_SETTINGS if name in run.settings and name not in without]
    if run.batch_size is not None and "batch_size" not in without:
        parts.append(f"batch size {run.batch_size} per worker")
    return plain(", ".join(parts))
