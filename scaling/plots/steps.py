"""Descriptions of plots of the epochs: step times, computing time by rank, the slowest rank, and losses.

They are made from the runs. If the log of a run lacks a quantity, the plot of this quantity leaves the run out.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from scaling.metrics.epochs import measured_epochs, unquoted
from scaling.plots.describe import Line, Panel
from scaling.records.wording import count
from scaling.runs import EpochTimes, RunLog

__all__ = ["lines_by_run", "loss_panels", "rank_panel", "slowest_panel", "step_panel"]

_MOST_LINES = 7
"""Largest number of lines in a plot."""
_MOST_LOSSES = 8
"""Largest number of plots of losses."""
_MOST_SERIES = 2
"""Largest number of series in the plot of step times, which draws three lines for each."""


def step_panel(runs: Sequence[RunLog], labels: Sequence[str] = (), skip_epochs: int = 1) -> Panel | None:
    """Return a panel of the time of a step over workers: median, 95th percentile and maximum.

    Each epoch has these three numbers, over all its steps and ranks. A point is the median of such a number over
    epochs, and its error bar is the range over epochs.

    Args:
        runs: the runs of a study. Runs of the same series and size are pooled.
        labels: name of the curve of each run. Empty for one curve.
        skip_epochs: epochs to skip at the start of each run.

    Returns:
        The panel, or None if no run has step times.
    """
    pooled: dict[str, dict[int, list[EpochTimes]]] = defaultdict(lambda: defaultdict(list))
    for run, series in _labelled(runs, labels):
        epochs = [e for e in _used(run, skip_epochs) if e.step_seconds is not None and e.step_seconds.median > 0]
        if epochs:
            pooled[series][run.workers] += epochs
    lines: list[Line] = []
    for series, sizes in list(pooled.items())[:_MOST_SERIES]:
        for quantile, text in (("median", "median"), ("p95", "95th percentile"), ("max", "slowest step")):
            times = {workers: [getattr(e.step_seconds, quantile) for e in sizes[workers]] for workers in sorted(sizes)}
            lines.append(
                _range_line(
                    times,
                    label=f"{unquoted(series)}: {text}" if len(pooled) > 1 and series else text,
                    style=len(lines),
                    role="measured" if quantile == "median" else "quantile",
                    hover=[
                        f"{count(len(values), 'epoch')}, {unquoted(series)}".rstrip(", ") for values in times.values()
                    ],
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
        caption="Over all steps and ranks of an epoch; error bars are the range over epochs. All ranks wait for the "
        "slowest one, so steps far above the median cost time on every rank.",
    )


def rank_panel(runs: Sequence[RunLog], labels: Sequence[str] = (), skip_epochs: int = 1) -> Panel | None:
    """Return a panel of the computing time of a step on every rank, for the largest run of each series.

    A point is the median over epochs, and its error bar is the range over epochs.

    Args:
        runs, labels, skip_epochs: as for `step_panel`.

    Returns:
        The panel, or None if no run has times by rank.
    """
    largest: dict[str, RunLog] = {}
    for run, series in _labelled(runs, labels):
        if any(_by_rank(run, skip_epochs)) and (series not in largest or run.workers > largest[series].workers):
            largest[series] = run
    lines = []
    for style, (series, run) in enumerate(list(largest.items())[:_MOST_LINES]):
        by_rank = {rank: values for rank, values in enumerate(_by_rank(run, skip_epochs)) if values}
        hosts = run.record.header.hosts if run.record else ()
        lines.append(
            _range_line(
                by_rank,
                label=_name(series, run.workers),
                style=style,
                hover=[unquoted(hosts[rank]) for rank in by_rank] if len(hosts) == run.workers else None,
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
        caption="Largest run of each curve, without the wait for input and for other ranks; error bars are the range "
        "over epochs. All ranks wait for the slowest one.",
    )


def _range_line(values: Mapping[int, Sequence[float]], **fields: Any) -> Line:
    """Return a line of the medians of `values` over their keys. The error bars are their ranges."""
    return Line(
        x=[float(x) for x in values],
        y=[median(own) for own in values.values()],
        low=[min(own) for own in values.values()],
        high=[max(own) for own in values.values()],
        **fields,
    )


def _by_rank(run: RunLog, skip_epochs: int) -> list[list[float]]:
    """Return the computing times of a step by rank. Each rank has one time for each epoch that records it."""
    epochs = [e.rank_step_seconds for e in _used(run, skip_epochs) if len(e.rank_step_seconds) == run.workers]
    return [[value for value in values if math.isfinite(value)] for values in zip(*epochs, strict=True)]


def slowest_panel(runs: Sequence[RunLog], labels: Sequence[str] = ()) -> Panel | None:
    """Return a panel of the ratio of the slowest rank's computing time to the median rank's, or None without data.

    It shows the ratio over epochs, with a line for each series and size.

    Args:
        runs, labels: as for `step_panel`.
    """

    def hover(run: RunLog, epoch: EpochTimes) -> str:
        record = next((e for e in run.record.epochs if e.epoch == epoch.epoch), None) if run.record else None
        return f"rank {record.slowest_rank} on {record.slowest_host}" if record else ""

    lines = lines_by_run(runs, labels, lambda epoch: epoch.slowest_ratio, hover)
    if not lines:
        return None
    return Panel(
        name="slowest",
        title="The slowest rank",
        x_label="Epoch",
        y_label="Slowest rank / median rank",
        lines=[
            Line(label="all equal", x=_span(lines), y=[1.0] * len(_span(lines)), role="ideal", named=False),
            *lines,
        ],
        digits=".3f",
        caption="Ratio of computing times; 1 means that all ranks are equally fast. Move the pointer over a point to "
        "see which rank was the slowest.",
    )


def loss_panels(runs: Sequence[RunLog], labels: Sequence[str] = ()) -> list[Panel]:
    """Return a panel for each loss over epochs, with a line for each series and size.

    Args:
        runs, labels: as for `step_panel`.
    """
    names = list(dict.fromkeys(name for run in runs for epoch in run.epochs for name in epoch.losses))
    panels = []
    files = _file_names(names[:_MOST_LOSSES])
    for name, file in zip(names, files, strict=False):

        def value(epoch: EpochTimes, name: str = name) -> float:
            return epoch.losses.get(name, math.nan)

        lines = lines_by_run(runs, labels, value, lambda *_: "")
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
                caption="Mean over the steps of the epoch and over ranks.",
            )
        )
    return panels


def _file_names(names: Sequence[str]) -> list[str]:
    """Return a file name for each loss.

    Unusual characters become `_`. Equal names get a number. Names that differ only in case count as equal, because some
    file systems ignore case.
    """
    result: list[str] = []
    for name in names:
        stem = "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in name)[:60]
        taken = {other.lower() for other in result}
        tries = (f"{stem}-{number}" if number > 1 else stem for number in itertools.count(1))
        result.append(next(one for one in tries if one.lower() not in taken))
    return result


def _numbers(run: RunLog) -> list[float]:
    """Return the numbers of the epochs."""
    return [float(epoch.epoch) for epoch in run.epochs]


def lines_by_run(
    runs: Sequence[RunLog],
    labels: Sequence[str],
    value: Callable[[EpochTimes], float],
    hover: Callable[[RunLog, EpochTimes], str],
    places: Callable[[RunLog], Sequence[float]] = _numbers,
) -> list[Line]:
    """Return a line over epochs for each series and size.

    Each line shows the first run that has the value. If there are too many lines, some are chosen from small to large.

    Args:
        value: function that returns the value of an epoch, or not-a-number if the epoch has none.
        hover: function that returns the text that a browser shows at an epoch.
        places: function that returns the place of each epoch on the x axis. By default its number.
    """
    first: dict[tuple[str, int], RunLog] = {}
    for run, series in _labelled(runs, labels):
        if any(math.isfinite(value(epoch)) for epoch in run.epochs):
            first.setdefault((series, run.trained_workers), run)
    keys = sorted(first)
    if len(keys) > _MOST_LINES:
        keys = [keys[round(i * (len(keys) - 1) / (_MOST_LINES - 1))] for i in range(_MOST_LINES)]
    several = len({series for series, _ in keys}) > 1
    return [
        Line(
            label=_name(series if several else "", workers),
            x=list(places(first[series, workers])),
            y=[value(epoch) for epoch in first[series, workers].epochs],
            style=style,
            hover=[hover(first[series, workers], epoch) for epoch in first[series, workers].epochs],
        )
        for style, (series, workers) in enumerate(keys)
    ]


def _labelled(runs: Sequence[RunLog], labels: Sequence[str]) -> Iterator[tuple[RunLog, str]]:
    """Return pairs of a run and the name of its curve, which is empty without labels."""
    return zip(runs, labels or [""] * len(runs), strict=True)


def _name(series: str, workers: int) -> str:
    size = count(workers, "worker")
    return f"{unquoted(series)}, {size}" if series else size


def _used(run: RunLog, skip_epochs: int) -> list[EpochTimes]:
    """Return the epochs that `metrics.epochs_table` uses: after the skipped ones, or else the last one."""
    newest = measured_epochs(run)
    return [e for e in newest if e.epoch > run.resumed_epochs + skip_epochs] or newest[-1:]


def _span(lines: Sequence[Line]) -> list[float]:
    seen = [x for line in lines for x in line.x]
    return [min(seen), max(seen)]
