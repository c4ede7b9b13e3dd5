"""What the plots inside an epoch show: the spread of step times, the slowest rank, and the losses.

Taken from runs as they were read; runs that do not tell are left out.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from statistics import median

from scaling.metrics.epochs import measured_epochs
from scaling.plots.describe import Line, Panel
from scaling.plots.panels import plain
from scaling.runs import EpochTimes, RunLog

__all__ = ["loss_panels", "rank_panel", "slowest_panel", "step_panel"]

_MOST_LINES = 7
_MOST_LOSSES = 8
_MOST_SERIES = 2
"""Of step times, which draw three lines each."""


def step_panel(runs: Sequence[RunLog], labels: Sequence[str] = (), skip_epochs: int = 1) -> Panel | None:
    """Median, 95th percentile and maximum of the seconds of a step over workers; None where no run tells them.

    Each point is the median over epochs of all steps on all ranks, its bar the range over epochs.

    Args:
        labels: the series of each run; runs of the same series and size are pooled.
    """
    pooled: dict[str, dict[int, list[EpochTimes]]] = defaultdict(lambda: defaultdict(list))
    for run, series in zip(runs, labels or [""] * len(runs), strict=True):
        epochs = [e for e in _used(run, skip_epochs) if e.step_seconds is not None and e.step_seconds.median > 0]
        if epochs:
            pooled[series][run.workers] += epochs
    lines: list[Line] = []
    for series, sizes in list(pooled.items())[:_MOST_SERIES]:
        for quantile, text in (("median", "median"), ("p95", "95th percentile"), ("max", "slowest step")):
            found = {workers: [getattr(e.step_seconds, quantile) for e in sizes[workers]] for workers in sorted(sizes)}
            lines.append(
                Line(
                    label=f"{plain(series)}: {text}" if len(pooled) > 1 and series else text,
                    x=[float(workers) for workers in found],
                    y=[median(values) for values in found.values()],
                    low=[min(values) for values in found.values()],
                    high=[max(values) for values in found.values()],
                    style=len(lines),
                    role="measured" if quantile == "median" else "quantile",
                    hover=[f"{len(values)} epochs, {plain(series)}".rstrip(", ") for values in found.values()],
                )
            )
    if not lines:
        return None
    return Panel(
        name="steps",
        title="Time of a step",
        x_label="Workers",
        y_label="Time of a step (s)",
        lines=lines,
        x_ticks=sorted({x for line in lines for x in line.x}),
        y_scale="log",
        caption="Over all steps and ranks of an epoch; bars are the range over epochs. What lies far over the median "
        "holds every other rank up.",
    )


def rank_panel(runs: Sequence[RunLog], labels: Sequence[str] = (), skip_epochs: int = 1) -> Panel | None:
    """Computing time of a step on every rank, of the largest run of each series that tells it; None where none does.

    Each point is the median over epochs, its bar the range over them.
    """
    largest: dict[str, RunLog] = {}
    for run, series in zip(runs, labels or [""] * len(runs), strict=True):
        if any(_by_rank(run, skip_epochs)) and (series not in largest or run.workers > largest[series].workers):
            largest[series] = run
    lines = []
    for style, (series, run) in enumerate(list(largest.items())[:_MOST_LINES]):
        by_rank = {rank: values for rank, values in enumerate(_by_rank(run, skip_epochs)) if values}
        hosts = run.record.header.hosts if run.record else ()
        lines.append(
            Line(
                label=f"{plain(series)}, {run.workers} workers" if series else f"{run.workers} workers",
                x=[float(rank) for rank in by_rank],
                y=[median(values) for values in by_rank.values()],
                low=[min(values) for values in by_rank.values()],
                high=[max(values) for values in by_rank.values()],
                style=style,
                hover=[plain(hosts[rank]) for rank in by_rank] if len(hosts) == run.workers else None,
            )
        )
    if not lines:
        return None
    return Panel(
        name="ranks",
        title="Computing time by rank",
        x_label="Rank",
        y_label="Computing time of a step (s)",
        lines=lines,
        from_zero=True,
        caption="Without waiting for events or for other ranks, of the largest run; bars are the range over epochs. "
        "Ranks that stand out hold all others up.",
    )


def _by_rank(run: RunLog, skip_epochs: int) -> list[list[float]]:
    """The times of a step that each rank has, over epochs; a rank without one has none."""
    epochs = [e.rank_step_seconds for e in _used(run, skip_epochs) if len(e.rank_step_seconds) == run.workers]
    return [[value for value in values if math.isfinite(value)] for values in zip(*epochs, strict=True)]


def slowest_panel(runs: Sequence[RunLog], labels: Sequence[str] = ()) -> Panel | None:
    """Computing time of the slowest rank over the median of ranks, epoch by epoch, a line for each size."""

    def hover(run: RunLog, epoch: EpochTimes) -> str:
        record = next((e for e in run.record.epochs if e.epoch == epoch.epoch), None) if run.record else None
        return f"rank {record.slowest_rank} on {record.slowest_host}" if record else ""

    lines = _by_epoch(runs, labels, lambda epoch: epoch.slowest_ratio, hover)
    if not lines:
        return None
    return Panel(
        name="slowest",
        title="The slowest rank",
        x_label="Epoch",
        y_label="Slowest rank over the median",
        lines=[
            Line(label="all alike", x=_span(lines), y=[1.0] * len(_span(lines)), role="ideal", named=False),
            *lines,
        ],
        digits=".3f",
        caption="Computing time; 1 where all ranks compute equally fast. In the page a point names the rank.",
    )


def loss_panels(runs: Sequence[RunLog], labels: Sequence[str] = ()) -> list[Panel]:
    """A plot for every loss, over epochs, a line for each size."""
    names = list(dict.fromkeys(name for run in runs for epoch in run.epochs for name in epoch.losses))
    panels = []
    files = _file_names(names[:_MOST_LOSSES])
    for name, file in zip(names, files, strict=False):

        def value(epoch: EpochTimes, name: str = name) -> float:
            return epoch.losses.get(name, math.nan)

        lines = _by_epoch(runs, labels, value, lambda *_: "")
        if not lines:
            continue
        heights = [y for line in lines for y in line.y if math.isfinite(y)]
        wide = min(heights) > 0 and max(heights) / min(heights) > 20
        panels.append(
            Panel(
                name=f"loss-{file}",
                title=f"Loss: {name.replace('_', ' ')}",
                x_label="Epoch",
                y_label=name.replace("_", " "),
                lines=lines,
                y_scale="log" if wide else "linear",
                caption="Mean over the epoch and over ranks.",
            )
        )
    return panels


def _file_names(names: Sequence[str]) -> list[str]:
    """What is left of each name in a file's; what is left of several alike is numbered, also where case is one."""
    found: list[str] = []
    for name in names:
        stem = "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in name)[:60]
        taken = {other.lower() for other in found}
        tries = (f"{stem}-{number}" if number > 1 else stem for number in itertools.count(1))
        found.append(next(one for one in tries if one.lower() not in taken))
    return found


def _by_epoch(
    runs: Sequence[RunLog],
    labels: Sequence[str],
    value: Callable[[EpochTimes], float],
    hover: Callable[[RunLog, EpochTimes], str],
) -> list[Line]:
    """A line for the first run of every series and size that tells the value; of many, some from small to large."""
    told: dict[tuple[str, int], RunLog] = {}
    for run, series in zip(runs, labels or [""] * len(runs), strict=True):
        if any(math.isfinite(value(epoch)) for epoch in run.epochs):
            told.setdefault((series, run.workers), run)
    keys = sorted(told)
    if len(keys) > _MOST_LINES:
        keys = [keys[round(i * (len(keys) - 1) / (_MOST_LINES - 1))] for i in range(_MOST_LINES)]
    several = len({series for series, _ in keys}) > 1
    return [
        Line(
            label=f"{plain(series)}, {workers} workers"
            if several and series
            else f"{workers} worker{'s' * (workers > 1)}",
            x=[float(epoch.epoch) for epoch in told[series, workers].epochs],
            y=[value(epoch) for epoch in told[series, workers].epochs],
            style=style,
            hover=[hover(told[series, workers], epoch) for epoch in told[series, workers].epochs],
        )
        for style, (series, workers) in enumerate(keys)
    ]


def _used(run: RunLog, skip_epochs: int) -> list[EpochTimes]:
    """The epochs that the table of epochs uses, by the same rule: never all of them are skipped."""
    newest = measured_epochs(run)
    return [e for e in newest if e.epoch > run.resumed_epochs + skip_epochs] or newest[-1:]


def _span(lines: Sequence[Line]) -> list[float]:
    seen = [x for line in lines for x in line.x]
    return [min(seen), max(seen)]
