"""Draw plots with plotly, for a browser. `scaling.report` puts them into a page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

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
    rank_text,
    size_limits,
    size_text,
    spaced,
    tint,
)

__all__ = ["config", "interactive"]

_FONT = {"family": "system-ui, sans-serif", "size": 13, "color": "#222222"}


def config(plot: Plot) -> dict[str, Any]:
    """Return the plotly configuration of a plot: zoom buttons for panels, and no button that sends data to a server."""
    return {
        "displayModeBar": False if isinstance(plot, Cells) else "hover",
        "displaylogo": False,
        "modeBarButtonsToRemove": ["select2d", "lasso2d", "sendChartToCloud"],
        "plotlyServerURL": "",
        "responsive": True,
        "showSendToCloud": False,
        "typesetMath": False,
    }


def interactive(plot: Plot) -> go.Figure:
    """Return a plot as a plotly figure. Hovering over a point shows its `Line.hover` text."""
    return _cells(plot) if isinstance(plot, Cells) else _panel(plot)


def _panel(panel: Panel) -> go.Figure:
    traces: list[Any] = []
    for number, line in enumerate(panel.lines):
        traces += _line(panel, line, f"{number}")
    for part in panel.bars:
        traces.append(
            go.Bar(
                name=part.label,
                x=list(panel.categories),
                y=_plain(part.y),
                marker={
                    "color": tint(part.style, 0.75),
                    "line": {"color": "white", "width": 1},
                    "pattern": {"shape": HATCHES[part.style % len(HATCHES)][1], "fgcolor": "#333333", "size": 6},
                },
                hovertemplate=f"{part.label}: %{{y:.1%}}<extra></extra>",
            )
        )
    names = len(panel.bars) or sum(line.named for line in panel.lines)
    figure = go.Figure(
        traces,
        layout={
            "font": _FONT,
            "paper_bgcolor": "white",
            "plot_bgcolor": "white",
            "barmode": "stack",
            "hovermode": "closest",
            "height": 400 + 11 * max(0, names - 4),
            "margin": {"l": 64, "r": 16, "t": 32, "b": 48},
            "showlegend": names > 1,
            "legend": {"orientation": "h", "y": -0.2, "yanchor": "top", "x": 0, "font": {"size": 12}},
            "xaxis": _x_axis(panel),
            "yaxis": _y_axis(panel),
        },
    )
    return figure


def _line(panel: Panel, line: Line, group: str) -> list[Any]:
    x, y = _plain(line.x), _plain(line.y)
    if line.role == "ideal":
        return [
            go.Scatter(
                name=line.label, x=x, y=y, mode="lines", line={"color": GREY, "dash": "dash", "width": 1.5},
                showlegend=line.named, hoverinfo="skip", meta="ideal",
            )
        ]  # fmt: skip
    colour = COLOURS[line.style % len(COLOURS)]
    marker: dict[str, Any] = {"symbol": MARKERS[line.style % len(MARKERS)][1], "size": 8, "color": colour}
    stroke: dict[str, Any] = {"color": colour, "dash": DASHES[line.style % len(DASHES)][1], "width": 2.2}
    shape = {".4g": ",.4~g", ".1%": ".1%", ".2f": ".2f", ".3f": ".3f"}[panel.digits]
    # plotly interprets tags in text. Names of series and ranks come from files, so the character < must be escaped.
    hover = [_escaped(text, breaks=True) for text in line.hover or [""] * len(x)]
    common: dict[str, Any] = {
        "name": _escaped(line.label),
        "x": x,
        "y": y,
        "legendgroup": group,
        "showlegend": line.named,
        "customdata": hover,
        "meta": line.role,
        "hovertemplate": f"%{{x}} {panel.x_label.lower()}: <b>%{{y:{shape}}}</b><br>%{{customdata}}"
        "<extra>%{fullData.name}</extra>",
    }
    if line.role == "forecast":
        low, high = _plain(line.low or []), _plain(line.high or [])
        clear = {"width": 0, "color": colour}
        band: dict[str, Any] = {"legendgroup": group, "showlegend": False, "hoverinfo": "skip", "mode": "lines"}
        return [
            go.Scatter(x=x, y=high, line=clear, meta="band high", **band),
            go.Scatter(x=x, y=low, line=clear, fill="tonexty", fillcolor=_faint(colour), meta="band low", **band),
            go.Scatter(mode="lines", line=stroke | {"dash": "dot"}, **common),
        ]
    if line.role == "published":
        marker["symbol"] = f"{marker['symbol']}-open"
        stroke["width"] = 1.2
    elif line.role == "quantile":
        stroke["width"] = 1.2
    if line.low is not None and line.high is not None and line.role != "published":
        common["error_y"] = {
            "type": "data",
            "symmetric": False,
            "array": _distance(line.high, line.y),
            "arrayminus": _distance(line.y, line.low),
            "thickness": 1.5,
            "width": 4,
        }
    return [go.Scatter(mode="lines+markers", line=stroke, marker=marker, **common)]


def _cells(plot: Cells) -> go.Figure:
    """Return a heat map. Colour and text of a cell show its workers."""
    height, width = len(plot.rows), len(plot.rows[0])
    number = len(CELL_COLOURS)
    scale = [[(i + end) / number, colour] for i, colour in enumerate(CELL_COLOURS) for end in (0, 1)]
    values: list[list[int | None]] = []
    texts: list[list[str]] = []
    hover: list[list[str]] = []
    for row in plot.rows:
        values.append([None if cell is None else 1 + cell[1][0] % len(COLOURS) if cell[1] else 0 for cell in row])
        texts.append(["" if cell is None else f"{cell[0]}<br><b>{rank_text(cell[1])}</b>" for cell in row])
        hover.append(["" if cell is None else f"CPU {cell[0]}: {_owners(cell[1])}" for cell in row])
    figure = go.Figure(
        go.Heatmap(
            z=values, text=texts, texttemplate="%{text}", hovertext=hover, hoverinfo="text", colorscale=scale,
            zmin=-0.5, zmax=number - 0.5, showscale=False, xgap=3, ygap=3, textfont={"size": 10, "color": "#111111"},
        ),
        layout={
            "font": _FONT,
            "paper_bgcolor": "white",
            "plot_bgcolor": "white",
            "height": 60 + 46 * height,
            "margin": {"l": 84, "r": 16, "t": 12, "b": 12},
            "xaxis": {"visible": False, "fixedrange": True, "range": [-0.5, max(width, 16) - 0.5]},
            "yaxis": {
                "autorange": "reversed",
                "fixedrange": True,
                "showgrid": False,
                "tickvals": list(range(height)),
                "ticktext": list(plot.labels),
            },
        },
    )  # fmt: skip
    return figure


def _x_axis(panel: Panel) -> dict[str, Any]:
    axis: dict[str, Any] = {"title": {"text": _escaped(panel.x_label)}, "gridcolor": "#e6e6e6", "linecolor": "#444444"}
    if panel.bars:
        return axis | {"type": "category"}
    if not panel.x_ticks:
        return axis | {"rangemode": "tozero", "zeroline": False}
    ticks = spaced(panel.x_ticks)
    return axis | {
        "type": "log",
        "range": [math.log10(limit) for limit in size_limits(panel.x_ticks)],
        "tickvals": ticks,
        "ticktext": [size_text(x) for x in ticks],
    }


def _y_axis(panel: Panel) -> dict[str, Any]:
    axis: dict[str, Any] = {"title": {"text": _escaped(panel.y_label)}, "gridcolor": "#e6e6e6", "linecolor": "#444444"}
    axis["zeroline"] = False
    if panel.y_scale == "log":
        values = [v for line in panel.lines for v in line.y if math.isfinite(v) and v > 0]
        ticks = _log_ticks(min(values, default=1.0), max(values, default=1.0))
        # By default plotly labels ticks between decades with a single digit.
        axis |= {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}
    if panel.percent:
        axis["tickformat"] = ".0%"
    if panel.from_zero:
        axis["rangemode"] = "tozero"
    if panel.bars:
        axis["range"] = [0, 1]
    return axis


def _log_ticks(low: float, high: float) -> list[float]:
    """Return ticks at 1, 2 and 5 in each decade of the values, and in one decade more on each side for zooming out."""
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    digits: tuple[float, ...] = (1, 2, 5) if high / low < 1e4 else (1,)
    if high / low < 4:
        digits = (1, 1.2, 1.5, 2, 3, 4, 5, 6, 8)
    return [float(f"{digit}e{decade}") for decade in decades for digit in digits]


def _plain(values: Sequence[float]) -> list[float | None]:
    """Return values that JSON can represent. None makes a gap."""
    return [float(v) if math.isfinite(v) else None for v in values]


def _distance(high: Sequence[float], low: Sequence[float]) -> list[float | None]:
    # Skip missing values: max() of 0 and not-a-number would be 0, which draws an interval without width.
    return [None if d is None else max(0.0, d) for d in _plain([a - b for a, b in zip(high, low, strict=True)])]


def _owners(ranks: Sequence[int]) -> str:
    if not ranks:
        return "idle"
    return f"{'worker' if len(ranks) == 1 else 'workers'} {', '.join(map(str, ranks))}"


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, 0.16)"


def _escaped(text: str, breaks: bool = False) -> str:
    # plotly replaces %{...} in names and titles with its own values.
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("%{", "&#37;{")
    return escaped.replace("&lt;br&gt;", "<br>") if breaks else escaped
