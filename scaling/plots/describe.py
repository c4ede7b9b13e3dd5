"""Descriptions of plots that do not depend on a plotting library, and the styles that both libraries share.

The colours come from Okabe and Ito (2008): people with any common colour blindness can distinguish them. Yellow is
omitted, because it is hard to see on white paper. Markers and dashes differ too, so that plots are readable in grey.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = [
    "CELL_COLOURS",
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
    "rank_text",
    "size_limits",
    "size_text",
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
"""Name of each marker in matplotlib and in plotly."""
DASHES: Sequence[tuple[tuple[float, ...], str]] = (
    ((), "solid"),
    ((6, 2), "dash"),
    ((5, 2, 1, 2), "dashdot"),
    ((9, 3), "longdash"),
    ((9, 2, 1, 2), "longdashdot"),
)
"""Lengths of dashes and gaps in points for matplotlib, and the name of the dash in plotly."""
HATCHES = (("", ""), ("//", "/"), ("xx", "x"), ("..", "."), ("\\\\", "\\"), ("++", "+"))
"""Name of each fill pattern of bars in matplotlib and in plotly."""

Role: TypeAlias = Literal["measured", "ideal", "forecast", "published", "quantile"]
Side: TypeAlias = Literal["above", "right", "below"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A line of values y over x. Not-a-number makes a gap."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    """Lower limits of y: the error bars of measurements or the band of a forecast."""
    high: Sequence[float] | None = None
    """Upper limits of y."""
    style: int = 0
    """Index of the colour, marker and dash."""
    role: Role = "measured"
    hover: Sequence[str] | None = None
    """Text that a browser shows at each point, after x and y."""
    named: bool = True
    """Whether the line is in the legend."""
    values: Side | None = None
    """Side of a point on which the static plot prints its value. None prints no values."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bars:
    """One part of stacked bars, with a height for each category of the panel."""

    label: str
    y: Sequence[float]
    style: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """A plot with axes."""

    name: str
    """Name of the plot in its file names and in the HTML page."""
    title: str
    x_label: str
    y_label: str
    lines: Sequence[Line] = ()
    bars: Sequence[Bars] = ()
    categories: Sequence[str] = ()
    """Labels under the bars."""
    x_ticks: Sequence[float] = ()
    """Sizes with a label on a logarithmic x axis. Empty for a linear axis, such as epochs."""
    y_scale: Literal["log", "linear"] = "linear"
    percent: bool = False
    """Whether the y axis is in percent."""
    from_zero: bool = False
    """Whether the y axis begins at 0."""
    digits: str = ".4g"
    """Format of the values of y."""
    caption: str = ""
    """Explanation under the plot in the page."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cells:
    """A grid of CPUs, with the workers that may run on each of them."""

    name: str
    title: str
    rows: Sequence[Sequence[tuple[int, tuple[int, ...]] | None]]
    """Rows from top to bottom. A cell is the number of a CPU and the local ranks of its workers; None is a gap."""
    labels: Sequence[str]
    """Label of each row. Empty if the row continues the one above."""
    caption: str = ""


Plot: TypeAlias = Panel | Cells


def tint(style: int, strength: float = 0.45) -> str:
    """Return the colour with index `style`, mixed with white so that black text is readable on it."""
    colour = COLOURS[style % len(COLOURS)]
    # Black mixed with white would be grey, which means an idle CPU. Use yellow instead.
    colour = "#f0e442" if colour == "#000000" else colour
    parts = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(255 - strength * (255 - part)):02x}" for part in parts)


CELL_COLOURS = ("#f0f0f0", *(tint(i) for i in range(len(COLOURS))))
"""Colours of a cell: idle, then by the lowest local rank of its workers."""


def rank_text(ranks: Sequence[int]) -> str:
    """Return the workers of a CPU as the text of a cell: `w2`, `w0+w1`, `w0+3` for w0 and three others, `-` if idle."""
    if len(ranks) > 2:
        return f"w{ranks[0]}+{len(ranks) - 1}"
    return "+".join(f"w{rank}" for rank in ranks) or "-"


def size_limits(sizes: Sequence[float]) -> tuple[float, float]:
    """Return the limits of a logarithmic axis with these sizes. The margin grows with their range."""
    margin = 1.2 * (max(sizes) / min(sizes)) ** 0.06
    return min(sizes) / margin, max(sizes) * margin


def size_text(size: float) -> str:
    """Return the label of a size on an axis, without an exponent."""
    return f"{size:g}" if size < 1e6 else f"{size:.0f}"


def spaced(sizes: Sequence[float]) -> list[float]:
    """Return the sizes whose labels do not overlap on a logarithmic axis. The largest size is always included."""
    ordered = sorted(set(sizes))
    most = {1: 10, 2: 10, 3: 10, 4: 7}.get(len(f"{ordered[-1]:.0f}"), 5)
    gap = (ordered[-1] / ordered[0]) ** (1 / most)
    kept = [ordered[-1]]
    for size in reversed(ordered[:-1]):
        if kept[-1] / size >= gap:
            kept.append(size)
    return kept[::-1]
