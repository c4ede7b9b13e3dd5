"""Draws plots with plotly, for the HTML page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from gan.evaluation.drawing.describe import Curve, Curves, Floats, Maps, Plot, colour, positive_limits

__all__ = ["CONFIG", "interactive"]

CONFIG = {
    "displaylogo": False,
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "sendChartToCloud"],
    "plotlyServerURL": "",
    "responsive": True,
    "showSendToCloud": False,
    "typesetMath": False,
}
"""Options of plotly: no button sends data anywhere."""
_FONT = {"family": "system-ui, sans-serif", "size": 13, "color": "#222222"}
_GRID = {"gridcolor": "#e6e6e6", "linecolor": "#444444", "zeroline": False}


def interactive(plot: Plot) -> go.Figure:
    """Return a plot as a plotly figure."""
    return _curves(plot) if isinstance(plot, Curves) else _maps(plot)


def _curves(plot: Curves) -> go.Figure:
    two = bool(plot.ratios)
    figure = make_subplots(
        rows=2 if two else 1,
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.04,
        row_heights=[0.74, 0.26] if two else None,
    )
    for curve in plot.curves:
        figure.add_trace(_trace(curve, named=True), row=1, col=1)
    for curve in plot.ratios:
        figure.add_trace(_trace(curve, named=False), row=2, col=1)
    figure.update_xaxes(**_GRID, type="log" if plot.x_log else "linear")
    figure.update_yaxes(**_GRID)
    figure.update_yaxes(title_text=_escaped(plot.y_label), row=1, col=1)
    figure.update_xaxes(title_text=_escaped(plot.x_label), row=2 if two else 1, col=1)
    if plot.y_log:
        low, high = positive_limits(plot.curves)
        figure.update_yaxes(type="log", range=[math.log10(low), math.log10(high)], dtick=1, row=1, col=1)
    if two:
        figure.add_hline(1.0, row=2, col=1, line={"color": "#6e6e6e", "dash": "dash", "width": 1})
        figure.update_yaxes(range=[0, 2], title_text="ratio", row=2, col=1)
    figure.update_layout(
        font=_FONT, paper_bgcolor="white", plot_bgcolor="white", hovermode="closest", height=470 if two else 400,
        margin={"l": 64, "r": 16, "t": 16, "b": 48},
        legend={"orientation": "h", "y": -0.16, "yanchor": "top", "x": 0, "font": {"size": 12}},
    )  # fmt: skip
    return figure


def _trace(curve: Curve, *, named: bool) -> go.Scatter:
    ink = colour(curve.style)
    x, y = curve.x, curve.y
    line: dict[str, Any] = {"color": ink, "width": 1.8}
    if curve.form == "steps":
        # plotly's steps need the last edge as a point of its own.
        y = np.append(y, y[-1:])
        line["shape"] = "hv"
    elif curve.form == "dashes":
        line["dash"] = "dash"
    error = None
    if curve.error is not None:
        error = {"type": "data", "array": _plain(curve.error), "thickness": 1.2, "width": 3}
    return go.Scatter(
        name=_escaped(curve.label), legendgroup=str(curve.style), showlegend=named, x=_plain(x), y=_plain(y), line=line,
        mode="markers" if curve.form == "points" else "lines", marker={"color": ink, "size": 6}, error_y=error,
        hovertemplate="%{x:.4~g}: <b>%{y:.4~g}</b><extra>%{fullData.name}</extra>",
    )  # fmt: skip


def _maps(plot: Maps) -> go.Figure:
    rows, columns = len(plot.maps), max(len(row) for row in plot.maps)
    titles = [_escaped(row[c].title) if c < len(row) else "" for row in plot.maps for c in range(columns)]
    named = any(each.names for row in plot.maps for each in row)
    figure = make_subplots(
        rows=rows, cols=columns, subplot_titles=titles, vertical_spacing=0.28 / rows,
        horizontal_spacing=(0.4 if named else 0.16) / columns,
    )  # fmt: skip
    for r, row in enumerate(plot.maps, start=1):
        for c, each in enumerate(row, start=1):
            values = each.values
            if plot.log:
                values = np.log10(np.where(values > 0, values, np.nan))
            figure.add_trace(
                go.Heatmap(
                    z=[_plain(line) for line in values], x=list(each.names) or None, y=list(each.names) or None,
                    coloraxis="coloraxis", hovertemplate="%{x}, %{y}: %{z:.3f}<extra></extra>",
                ),
                row=r, col=c,
            )  # fmt: skip
            figure.update_xaxes(title_text=_escaped(each.x_label), title_standoff=2, row=r, col=c)
            figure.update_yaxes(title_text=_escaped(each.y_label), title_standoff=2, row=r, col=c)
    low, high = (math.log10(value) if plot.log else value for value in (plot.low, plot.high))
    unit = f"log10 ({plot.unit})" if plot.log else plot.unit
    figure.update_layout(
        font={**_FONT, "size": 11}, paper_bgcolor="white", plot_bgcolor="white",
        height=90 + (430 if named else 235) * rows, margin={"l": 56, "r": 16, "t": 36, "b": 44},
        coloraxis={
            "cmin": low, "cmax": high, "colorscale": "Viridis" if plot.log else "RdBu_r",
            "colorbar": {"title": {"text": _escaped(unit), "side": "right"}, "thickness": 14},
        },
    )  # fmt: skip
    figure.update_annotations(font_size=12)
    return figure


def _plain(values: Floats | Sequence[float]) -> list[float | None]:
    """Return values that JSON can hold, with None for NaN, which plotly shows as a gap."""
    return [float(value) if math.isfinite(value) else None for value in values]


def _escaped(text: str) -> str:
    # plotly reads names as text with tags, and fills in %{...}.
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("%{", "&#37;{")
