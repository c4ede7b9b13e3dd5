"""Draws a scaling curve: time per epoch, speed-up and efficiency beside their ideal.

Takes the table that `metrics.curve` makes and returns a matplotlib Figure; saving it is left to `report`.
Figures are made without pyplot, so that importing this module changes no state of matplotlib.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    LogLocator,
    NullLocator,
    PercentFormatter,
)

__all__ = ["scaling_figure"]

# Measured and ideal differ in hue, in lightness, in line style and in marker: each alone tells them apart.
_MEASURED: dict[str, Any] = {
    "color": "#0072b2",
    "marker": "o",
    "markersize": 5.5,
    "linewidth": 1.8,
    "capsize": 3,
    "zorder": 3,
}
_IDEAL: dict[str, Any] = {"color": "#6e6e6e", "linestyle": (0, (5, 3)), "linewidth": 1.3, "zorder": 2}
_MOST_LABELS = 8


def scaling_figure(curve: pd.DataFrame, title: str = "") -> Figure:
    """Three panels over the number of workers, with the 95% intervals of the curve as error bars.

    Args:
        curve: as `metrics.curve` gives it, one row or more.
        title: a line on top, such as the model and batch size.
    """
    figure = Figure(figsize=(11.5, 4.0), layout="constrained")
    time, speedup, efficiency = figure.subplots(1, 3)
    baseline = int(curve["baseline"].iloc[0])
    _panel(time, curve, "seconds", curve["ideal_seconds"], "Time per epoch (s)")
    _panel(speedup, curve, "speedup", curve["ideal_speedup"], f"Speed-up over {_workers(baseline)}")
    _panel(efficiency, curve, "efficiency", pd.Series(1.0, index=curve.index), "Parallel efficiency")
    for axes in (time, speedup):
        _log_scale(axes)
    efficiency.set_ylim(0, max(1.1, 1.08 * curve[["efficiency", "efficiency_high"]].max().max()))
    efficiency.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    if len(curve) <= _MOST_LABELS:
        _label_points(time, curve, "seconds", _figures, (6, 5), "left")
        _label_points(speedup, curve, "speedup", "{:.2f}".format, (6, -12), "left")
        _label_points(efficiency, curve, "efficiency", "{:.1%}".format, (0, -15), "center")
    time.legend(frameon=False, fontsize=9)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def _panel(axes: Axes, curve: pd.DataFrame, name: str, ideal: pd.Series, label: str) -> None:
    """One quantity over workers with its ideal; intervals that are not known are not drawn."""
    value = curve[name]
    errors = [(value - curve[f"{name}_low"]).clip(lower=0), (curve[f"{name}_high"] - value).clip(lower=0)]
    axes.plot(curve["workers"], ideal, label="ideal", **_IDEAL)
    axes.errorbar(curve["workers"], value, yerr=errors, label="median, 95% interval", **_MEASURED)
    axes.set_xlabel("Workers")
    axes.set_ylabel(label)
    axes.grid(True, color="#e2e2e2", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    sizes = curve["workers"].tolist()
    axes.set_xscale("log", base=2)
    margin = 1.2 * (sizes[-1] / sizes[0]) ** 0.06
    axes.set_xlim(sizes[0] / margin, sizes[-1] * margin)
    axes.xaxis.set_major_locator(FixedLocator(_spaced(sizes)))
    axes.tick_params(labelsize=9)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))


def _label_points(
    axes: Axes,
    curve: pd.DataFrame,
    name: str,
    text: Callable[[float], str],
    offset: tuple[int, int],
    side: str,
) -> None:
    """The value on the side of its point that the curve leaves free, centred ones below the error bar."""
    value = curve[name]
    below = curve[f"{name}_low"].fillna(value) if side == "center" else value
    for workers, number, height in zip(curve["workers"], value, below, strict=True):
        axes.annotate(text(number), (workers, height), offset, textcoords="offset points", ha=side, fontsize=8)


def _log_scale(axes: Axes) -> None:
    """Logarithmic in y with ticks at 1, 2, 5, at more digits over less than a decade, and never a sliver."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    widen = max(1.05, math.sqrt(4 / (high / low)))
    axes.set_ylim(low / widen, high * widen)
    digits = (1, 2, 5) if high / low > 8 else (1, 1.5, 2, 3, 4, 5, 6, 8)
    axes.yaxis.set_major_locator(LogLocator(subs=digits))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))


def _spaced(sizes: Sequence[int]) -> list[int]:
    """The sizes that can be labelled without overlap on a logarithmic axis, the largest always among them."""
    gap = (sizes[-1] / sizes[0]) ** (1 / 10)
    kept = [sizes[-1]]
    for size in reversed(sizes[:-1]):
        if kept[-1] / size >= gap:
            kept.append(size)
    return kept[::-1]


def _figures(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:.4g}"


def _workers(number: int) -> str:
    return f"{number} worker" if number == 1 else f"{number} workers"
