"""Draws plots with matplotlib, for PNG and SVG files. pyplot is not used, so importing changes no global state."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from gan.evaluation.drawing.describe import Curve, Curves, Maps, Plot, colour, positive_limits

__all__ = ["draw"]

MAP_SIZE = 2.6
"""Inches of one map."""


def draw(plot: Plot) -> Figure:
    """Return a plot as a figure."""
    # Names of samples come from users: a dollar sign in one must not begin a formula.
    with matplotlib.rc_context({"text.parse_math": False}):
        return _curves(plot) if isinstance(plot, Curves) else _maps(plot)


def _curves(plot: Curves) -> Figure:
    figure = Figure(figsize=(6.4, 5.4 if plot.ratios else 4.4), layout="constrained")
    if plot.ratios:
        axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        for curve in plot.ratios:
            _curve(below, curve)
        below.axhline(1.0, color="#6e6e6e", linewidth=1, linestyle="--")
        below.set(ylim=(0, 2), ylabel="ratio", xlabel=plot.x_label)
    else:
        axes = figure.subplots()
        axes.set_xlabel(plot.x_label)
    for curve in plot.curves:
        _curve(axes, curve, label=curve.label)
    axes.set(ylabel=plot.y_label, xscale="log" if plot.x_log else "linear")
    if plot.y_log:
        axes.set(yscale="log", ylim=positive_limits(plot.curves))
        axes.yaxis.set_major_formatter(FuncFormatter(_plain))
    if plot.x_log:
        figure.axes[-1].xaxis.set_major_formatter(FuncFormatter(_plain))
    for each in figure.axes:
        each.grid(color="#e6e6e6", linewidth=0.6)
        each.set_axisbelow(True)
    axes.legend(frameon=False, fontsize=8.5)
    figure.suptitle(plot.title, fontsize=11)
    return figure


def _curve(axes: Axes, curve: Curve, label: str = "") -> None:
    ink = colour(curve.style)
    if curve.form == "steps":
        axes.stairs(curve.y, curve.x, color=ink, linewidth=1.4, label=label)
    elif curve.form == "points":
        axes.errorbar(
            curve.x, curve.y, curve.error, fmt="o", markersize=3.5, color=ink, elinewidth=1, capsize=2, label=label
        )
    else:
        axes.plot(curve.x, curve.y, color=ink, linewidth=1.4, linestyle="--" if curve.form == "dashes" else "-",
                  label=label)  # fmt: skip


def _maps(plot: Maps) -> Figure:
    rows, columns = len(plot.maps), max(len(row) for row in plot.maps)
    named = any(each.names for row in plot.maps for each in row)
    side = 4.4 if named else MAP_SIZE
    figure = Figure(figsize=(1.2 + side * columns, 0.6 + side * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    norm = LogNorm(plot.low, plot.high) if plot.log else Normalize(plot.low, plot.high)
    image = None
    for axes, each in ((grid[r][c], each) for r, row in enumerate(plot.maps) for c, each in enumerate(row)):
        values = np.ma.masked_less_equal(each.values, 0) if plot.log else each.values
        image = axes.imshow(
            values, origin="lower", norm=norm, cmap="viridis" if plot.log else "RdBu_r", aspect="auto",
            interpolation="nearest",
        )  # fmt: skip
        axes.set_title(each.title, fontsize=8.5)
        axes.set_xlabel(each.x_label, fontsize=8)
        axes.set_ylabel(each.y_label, fontsize=8)
        axes.tick_params(labelsize=7)
        if each.names:
            axes.set_xticks(range(len(each.names)), each.names, rotation=90)
            axes.set_yticks(range(len(each.names)), each.names)
    for row_number, row in enumerate(plot.maps):
        for number in range(len(row), columns):
            grid[row_number][number].set_visible(False)
    if image is not None:
        bar = figure.colorbar(image, ax=grid, label=plot.unit, fraction=0.03, aspect=40)
        if plot.log:
            bar.ax.yaxis.set_major_formatter(FuncFormatter(_plain))
    figure.suptitle(plot.title, fontsize=11)
    return figure


def _plain(value: float, _: int) -> str:
    """Return a tick label. matplotlib's own labels of logarithmic axes are formulas."""
    return f"{value:g}"
