"""Descriptions of plots of the validation: the quality of the showers against epochs, time and number of workers.

They are made from records of this project. Other logs have no such figures.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from scaling.metrics.epochs import unquoted
from scaling.plots.describe import Line, Panel
from scaling.plots.steps import lines_by_run
from scaling.records.wording import count
from scaling.runs import EpochTimes, RunLog

__all__ = ["quality_panels"]

Figures = Mapping[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Quantity:
    """One quantity of the validation, drawn against the epoch, the time and the number of workers."""

    name: str
    title: str
    label: str
    value: Callable[[Figures], float]
    ideal: float
    caption: str
    log: bool = False


def _figure(name: str) -> Callable[[Figures], float]:
    return lambda figures: figures.get(name, math.nan)


def _ratio(name: str) -> Callable[[Figures], float]:
    def value(figures: Figures) -> float:
        real = figures.get(f"{name}_real", math.nan)
        return figures.get(name, math.nan) / real if real else math.nan

    return value


def _profile(figures: Figures) -> float:
    own = [figures[name] for name in figures if name.startswith("profile_l1_")]
    return sum(own) / len(own) if own else math.nan


_QUANTITIES = (
    _Quantity(
        name="shower-distance",
        title="Shower distance",
        label="Shower distance",
        value=_figure("shower_distance"),
        ideal=0.0,
        caption="Figure of merit of the validation: 0 for showers like the simulation's, 1 for a generator without "
        "output. The epoch with the smallest distance is the best one.",
    ),
    _Quantity(
        name="visible-energy",
        title="Visible energy",
        label="Generated / real - 1",
        value=_figure("sampling_fraction_error"),
        ideal=0.0,
        caption="Mean sampling fraction of generated showers over that of real ones, minus 1.",
    ),
    _Quantity(
        name="profiles",
        title="Profiles",
        label="L1 distance",
        value=_profile,
        ideal=0.0,
        caption="L1 distance of the mean profiles of generated and real showers, mean over x, y and z; at most 2.",
    ),
    _Quantity(
        name="active-cells",
        title="Active cells",
        label="Generated / real",
        value=_ratio("active_cells"),
        ideal=1.0,
        caption="Share of cells above zero, of generated over real showers. Below 0.1 the generator is dead.",
        log=True,
    ),
    _Quantity(
        name="hits",
        title="Hits",
        label="Generated / real",
        value=_ratio("hits"),
        ideal=1.0,
        caption="Number of cells above the threshold of a hit, of generated over real showers.",
        log=True,
    ),
    _Quantity(
        name="moments",
        title="Moments",
        label="Moment error",
        value=_figure("moment_error"),
        ideal=0.0,
        caption="Relative error of the first and second moments, mean over the axes.",
    ),
)


def quality_panels(runs: Sequence[RunLog], labels: Sequence[str] = ()) -> list[Panel]:
    """Return two or three panels for each quantity that a run has.

    Over epochs and over hours, there is a line for each series and size. If there are several sizes, the third panel
    shows the last epoch over the number of workers.

    Args:
        runs: the runs of a study.
        labels: name of the curve of each run. Empty for one curve.
    """
    panels = []
    for quantity in _QUANTITIES:

        def value(epoch: EpochTimes, quantity: _Quantity = quantity) -> float:
            return quantity.value(epoch.validation)

        over_epochs = lines_by_run(runs, labels, value, _hover)
        if over_epochs:
            panels.append(_panel(quantity, "", "Epoch", over_epochs))
            panels.append(_panel(quantity, "-time", "Time (hours)", lines_by_run(runs, labels, value, _hover, _hours)))
            over_workers = _lines_over_workers(runs, labels, value)
            if over_workers:
                panels.append(_panel(quantity, "-workers", "Workers, virtual ones included", over_workers))
    return panels


def _lines_over_workers(
    runs: Sequence[RunLog], labels: Sequence[str], value: Callable[[EpochTimes], float]
) -> list[Line]:
    """Return a line for each series with several sizes: medians of the last epochs, and the range over repeats."""
    finals: dict[str, dict[int, list[float]]] = {}
    for run, series in zip(runs, labels or [""] * len(runs), strict=True):
        values = [each for each in map(value, run.epochs) if math.isfinite(each)]
        if values:
            finals.setdefault(series, {}).setdefault(run.trained_workers, []).append(values[-1])
    return [
        Line(
            label=unquoted(series) or "last epoch",
            x=sorted(sizes),
            y=[statistics.median(sizes[size]) for size in sorted(sizes)],
            low=[min(sizes[size]) for size in sorted(sizes)],
            high=[max(sizes[size]) for size in sorted(sizes)],
            style=style,
            hover=[count(len(sizes[size]), "run") for size in sorted(sizes)],
        )
        for style, (series, sizes) in enumerate(finals.items())
        if len(sizes) > 1
    ]


def _panel(quantity: _Quantity, suffix: str, axis: str, lines: Sequence[Line]) -> Panel:
    seen = [x for line in lines for x in line.x]
    span = [min(seen), max(seen)]
    heights = [quantity.ideal, *(y for line in lines for y in line.y if math.isfinite(y))]
    # A logarithmic axis has no place for a generator without output.
    log = quantity.log and min(heights) > 0 and max(heights) / min(heights) > 5
    over_workers = suffix == "-workers"
    return Panel(
        name=f"quality-{quantity.name}{suffix}",
        title=f"{quantity.title} against {suffix.lstrip('-') or 'epochs'}",
        x_label=axis,
        x_ticks=sorted({int(x) for x in seen}) if over_workers else (),
        y_label=quantity.label,
        lines=[
            Line(label="like the real showers", x=span, y=[quantity.ideal] * 2, role="ideal", named=False),
            *lines,
        ],
        y_scale="log" if log else "linear",
        digits=".4g",
        caption=quantity.caption + (" Points are medians of the last epochs, bars the range." if over_workers else ""),
    )


def _hover(_run: RunLog, epoch: EpochTimes) -> str:
    return f"epoch {epoch.epoch}"


def _hours(run: RunLog) -> list[float]:
    """Return the hours from the first epoch of the log to the end of each epoch, with validation and checkpoint."""
    seconds = (
        sum(part for part in (epoch.seconds, epoch.validation_seconds, epoch.checkpoint_seconds) if math.isfinite(part))
        for epoch in run.epochs
    )
    return [total / 3600 for total in itertools.accumulate(seconds)]
