"""What a plot shows, independent of the library that draws it, and the styles that both libraries share.

Colours are those of Okabe and Ito (2008), which people with any common colour blindness tell apart; markers and dashes
differ as well, so that a plot can be read in grey. Yellow is left out: it vanishes on white paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = [
    "COLOURS",
    "DASHES",
    "GREY",
    "HATCHES",
    "MARKERS",
    "Bars",
    "Cells",
    "Line",
    "Panel",
    "Plot",
    "Role",
    "Side",
    "spaced",
    "tint",
]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
GREY = "#6e6e6e"
MARKERS = (
    ("o", "circle"),
    ("s", "square"),
    ("^", "triangle-up"),
    ("D", "diamond"),
    ("v", "triangle-down"),
    ("P", "cross"),
    ("X", "x"),
)
"""Names of a marker in matplotlib and in plotly."""
DASHES: Sequence[tuple[tuple[float, ...], str]] = (
    ((), "solid"),
    ((6, 2), "dash"),
    ((5, 2, 1, 2), "dashdot"),
    ((9, 3), "longdash"),
    ((9, 2, 1, 2), "longdashdot"),
)
"""On and off in points for matplotlib, and plotly's name."""
HATCHES = (("", ""), ("//", "/"), ("xx", "x"), ("..", "."), ("\\\\", "\\"), ("++", "+"))
"""Filling patterns of bars in matplotlib and in plotly."""

Role: TypeAlias = Literal["measured", "ideal", "forecast", "published", "quantile"]
Side: TypeAlias = Literal["above", "right", "below"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """Values over x. Not-a-number is a gap."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    """Lower limits of y: error bars of what was measured, the band of a forecast."""
    high: Sequence[float] | None = None
    style: int = 0
    """Number of the colour, marker and dash."""
    role: Role = "measured"
    hover: Sequence[str] | None = None
    """What a browser shows at each point beside x and y."""
    named: bool = True
    """Whether the legend names it."""
    values: Side | None = None
    """Where each value is written beside its point on paper; nowhere by default."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bars:
    """One part of stacked bars: a height for each category of the panel."""

    label: str
    y: Sequence[float]
    style: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """One plot with axes."""

    name: str
    """Of the files and of the element in the page."""
    title: str
    x_label: str
    y_label: str
    lines: Sequence[Line] = ()
    bars: Sequence[Bars] = ()
    categories: Sequence[str] = ()
    """Under the bars."""
    x_ticks: Sequence[float] = ()
    """Sizes on a logarithmic x axis; without them x is linear, as for epochs."""
    y_scale: Literal["log", "linear"] = "linear"
    percent: bool = False
    from_zero: bool = False
    digits: str = ".4g"
    """Format of a value of y."""
    caption: str = ""
    """What a reader must know, under the plot in the page."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cells:
    """A grid of CPUs, each with the workers that may run on it."""

    name: str
    title: str
    rows: Sequence[Sequence[tuple[int, tuple[int, ...]] | None]]
    """Top to bottom; a cell is the number of a CPU and the local ranks of its workers, None leaves a gap."""
    labels: Sequence[str]
    """Of each row; empty where a row goes on with the one above."""
    caption: str = ""


Plot: TypeAlias = Panel | Cells


def tint(style: int, strength: float = 0.45) -> str:
    """Colour number `style`, mixed with white so that black text can be read on it."""
    colour = COLOURS[style % len(COLOURS)]
    # Black as a background would be grey, which means idle.
    colour = "#f0e442" if colour == "#000000" else colour
    parts = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(255 - strength * (255 - part)):02x}" for part in parts)


def spaced(sizes: Sequence[float]) -> list[float]:
    """The sizes that can be labelled without overlap on a logarithmic axis, the largest always among them."""
    ordered = sorted(set(sizes))
    most = {1: 10, 2: 10, 3: 10, 4: 7}.get(len(f"{ordered[-1]:.0f}"), 5)
    gap = (ordered[-1] / ordered[0]) ** (1 / most)
    kept = [ordered[-1]]
    for size in reversed(ordered[:-1]):
        if kept[-1] / size >= gap:
            kept.append(size)
    return kept[::-1]
