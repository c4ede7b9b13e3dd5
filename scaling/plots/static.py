"""Draw plots with matplotlib, for files. `scaling.report` saves them.

Figures are made without pyplot, so that importing this module does not change the state of matplotlib.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter

from scaling.plots.describe import (
    CELL_COLOURS,
    COLOURS,
    DASHES,
    GREY,
    HATCHES,
    MARKERS,
    Cells,
    Line,
    Panel,
    Plot,
    Side,
    rank_text,
    size_limits,
    size_text,
    spaced,
    tint,
)
from scaling.plots.panels import curve_panels

__all__ = ["as_text", "draw", "scaling_figure"]

_OFFSETS: dict[Side, tuple[tuple[int, int], str]] = {
    "above": ((6, 5), "left"),
    "right": ((6, -12), "left"),
    "below": ((0, -15), "center"),
}


def as_text() -> AbstractContextManager[None]:
    """Return a context in which matplotlib prints `$` unchanged, because names from files can contain it."""
    return matplotlib.rc_context({"text.parse_math": False})


def scaling_figure(curve: pd.DataFrame, title: str = "", panels: Sequence[Panel] = ()) -> Figure:
    """Draw time per epoch, speed-up and efficiency side by side, with 95% intervals as error bars.

    Args:
        curve: result of `metrics.curve`.
        title: heading of the figure, such as the model and batch size.
        panels: three panels to draw instead of the panels of the curve, for example with a forecast.
    """
    figure = Figure(figsize=(11.5, 4.0), layout="constrained")
    with as_text():
        for number, (axes, panel) in enumerate(zip(figure.subplots(1, 3), panels or curve_panels(curve), strict=True)):
            _panel(axes, panel)
            if number == 0:
                axes.legend(frameon=False, fontsize=9)
        if title:
            figure.suptitle(title, fontsize=11)
    return figure


def draw(plot: Plot) -> Figure:
    """Draw one plot as a figure."""
    with as_text():
        return _figure(plot)


def _figure(plot: Plot) -> Figure:
    if isinstance(plot, Cells):
        height = 0.9 + 0.55 * len(plot.rows)
        figure = Figure(figsize=(min(14.0, 1.6 + 0.5 * len(plot.rows[0])), height), layout="constrained")
        _cells(figure.subplots(), plot)
    else:
        figure = Figure(figsize=(6.4, 4.4), layout="constrained")
        axes = figure.subplots()
        _panel(axes, plot)
        if sum(line.named for line in plot.lines) > 1 or plot.bars:
            axes.legend(frameon=False, fontsize=8.5, **_legend_place(plot))
    # Shorten the title: a long one would leave no space for the axes.
    figure.suptitle(plot.title if len(plot.title) < 90 else f"{plot.title[:88]}...", fontsize=11)
    return figure


def _legend_place(panel: Panel) -> dict[str, Any]:
    """Return the place of the legend: below the axes for bars or more than four lines."""
    names = [part.label for part in panel.bars] or [line.label for line in panel.lines if line.named]
    if not panel.bars and len(names) <= 4:
        return {}
    return {"loc": "upper center", "bbox_to_anchor": (0.5, -0.16), "ncols": 3 if max(map(len, names)) <= 16 else 2}


def _panel(axes: Axes, panel: Panel) -> None:
    for line in panel.lines:
        _line(axes, panel, line)
    if panel.bars:
        _bars(axes, panel)
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)
    axes.grid(True, axis="y" if panel.bars else "both", color="#e2e2e2", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)
    if panel.x_ticks:
        _size_axis(axes, panel.x_ticks)
    elif panel.lines:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    if panel.y_scale == "log":
        _log_scale(axes)
    if panel.from_zero:
        axes.set_ylim(0, 1.0 if panel.bars else _top(panel))
    if panel.percent:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def _line(axes: Axes, panel: Panel, line: Line) -> None:
    label = line.label if line.named else "_nolegend_"
    x, y = np.array(line.x, dtype=float), np.array(line.y, dtype=float)
    if line.role == "ideal":
        axes.plot(x, y, label=label, color=GREY, linestyle=(0, (5, 3)), linewidth=1.3, zorder=2)
        return
    colour, marker = COLOURS[line.style % len(COLOURS)], MARKERS[line.style % len(MARKERS)][0]
    on_off = DASHES[line.style % len(DASHES)][0]
    style = (0, on_off) if on_off else "-"
    known = line.low is not None and line.high is not None
    low, high = np.array(line.low or [], dtype=float), np.array(line.high or [], dtype=float)
    if line.role == "forecast":
        axes.fill_between(x, low, high, color=colour, alpha=0.16, linewidth=0, zorder=1)
        axes.plot(x, y, label=label, color=colour, linestyle=":", linewidth=1.6, zorder=2.5)
        return
    if line.role == "published":
        axes.plot(x, y, label=label, color=colour, marker=marker, markerfacecolor="none", linestyle=style, linewidth=1)
        return
    errors = [np.clip(y - low, 0, None), np.clip(high - y, 0, None)] if known else None
    axes.errorbar(
        x, y, yerr=errors, label=label, color=colour, marker=marker, linestyle=style, capsize=3, zorder=3,
        markersize=5.5 if len(x) < 60 else 2.5, linewidth=1.8 if line.role == "measured" else 1.0,
    )  # fmt: skip
    if line.values:
        offset, side = _OFFSETS[line.values]
        # Put the text below the error bar, not across it.
        heights = np.where(np.isfinite(low), low, y) if known and line.values == "below" else y
        for workers, value, height in zip(x, y, heights, strict=True):
            axes.annotate(
                _text(value, panel.digits), (workers, height), offset, textcoords="offset points", ha=side, fontsize=8
            )


def _bars(axes: Axes, panel: Panel) -> None:
    places = np.arange(len(panel.categories))
    below = np.zeros(len(places))
    for part in panel.bars:
        axes.bar(
            places, part.y, bottom=below, width=0.7, label=part.label, color=tint(part.style, 0.75),
            edgecolor="white", linewidth=0.6, hatch=HATCHES[part.style % len(HATCHES)][0],
        )  # fmt: skip
        below = below + np.array(part.y)
    every = math.ceil(len(places) / 12)
    axes.set_xticks(places[::every], [text.replace("<br>", "\n") for text in panel.categories[::every]])


def _cells(axes: Axes, plot: Cells) -> None:
    """Draw CPUs as a grid of coloured squares, each with its number and the ranks of its workers."""
    height, width = len(plot.rows), len(plot.rows[0])
    values = np.ma.masked_all((height, width))
    for row, cells in enumerate(plot.rows):
        for column, cell in enumerate(cells):
            if cell is None:
                continue
            cpu, ranks = cell
            values[row, column] = 1 + ranks[0] % len(COLOURS) if ranks else 0
            text = f"{cpu}\n{rank_text(ranks)}"
            axes.text(column, row, text, ha="center", va="center", fontsize=6.5, linespacing=1.3)
    edges_x, edges_y = np.arange(width + 1) - 0.5, np.arange(height + 1) - 0.5
    axes.pcolormesh(
        edges_x, edges_y, values, cmap=ListedColormap(list(CELL_COLOURS)), vmin=-0.5, vmax=len(CELL_COLOURS) - 0.5,
        edgecolors="white", linewidth=1.5,
    )  # fmt: skip
    axes.invert_yaxis()
    axes.set_yticks(range(height), plot.labels)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _size_axis(axes: Axes, sizes: Sequence[float]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xlim(*size_limits(sizes))
    axes.xaxis.set_major_locator(FixedLocator(spaced(sizes)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: size_text(x)))


def _log_scale(axes: Axes) -> None:
    """Make the y axis logarithmic, with a range of at least a factor of 4.

    The ticks are at 1, 2 and 5 in each decade, and at more digits if the range is small.
    """
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    widen = max(1.05, math.sqrt(4 / (high / low)))
    axes.set_ylim(low / widen, high * widen)
    digits = (1, 2, 5) if high / low > 8 else (1, 1.5, 2, 3, 4, 5, 6, 8)
    axes.yaxis.set_major_locator(LogLocator(subs=digits))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))


def _top(panel: Panel) -> float:
    """Return the upper end of the y axis: above all values and upper limits.

    Limits above twice the largest value are cut off, so that the rest of the plot stays readable.
    """
    largest = max((v for line in panel.lines for v in line.y if math.isfinite(v)), default=0.0)
    highest = max((v for line in panel.lines for v in line.high or () if math.isfinite(v)), default=0.0)
    top = 1.08 * max(largest, min(highest, 2 * largest))
    # Show at least the ideal efficiency of 1.
    return max(1.1, top) if panel.percent else top or 1.0


def _text(value: float, digits: str) -> str:
    return f"{value:.0f}" if digits == ".4g" and value >= 1000 else format(value, digits)
