"""What a plot shows, independent of the library that draws it.

The colours are those of Okabe and Ito (2008): people with any common colour blindness can tell them apart. The
reference is black.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["COLOURS", "Curve", "Curves", "Map", "Maps", "Plot", "colour", "positive_limits"]

Floats = npt.NDArray[np.float64]

COLOURS = ("#000000", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


def colour(style: int) -> str:
    """Return the colour of a sample. Style 0 is the reference."""
    return COLOURS[style if style < len(COLOURS) else 1 + (style - 1) % (len(COLOURS) - 1)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """Values of one sample. NaN is a gap."""

    label: str
    x: Floats
    """Positions (n,), or the n + 1 edges of bins for `steps`."""
    y: Floats
    """Values (n,)."""
    error: Floats | None = None
    """Half length of the error bars, (n,)."""
    style: int = 0
    """Number of the sample; 0 is the reference."""
    form: Literal["line", "points", "steps", "dashes"] = "line"


@dataclass(frozen=True, kw_only=True, slots=True)
class Curves:
    """One plot with axes, and below it the ratios to the reference if there are any."""

    name: str
    """Name of the files, and of the element in the page."""
    title: str
    x_label: str
    y_label: str
    curves: Sequence[Curve]
    ratios: Sequence[Curve] = ()
    x_log: bool = False
    y_log: bool = False
    caption: str = ""
    """What a reader must know, below the plot in the page."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Map:
    """A matrix as an image."""

    title: str
    values: Floats
    """(rows, columns), the first row at the bottom."""
    x_label: str = ""
    y_label: str = ""
    names: Sequence[str] = ()
    """Names of rows and columns, for matrices such as correlations."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Maps:
    """Matrices side by side, with the same colours."""

    name: str
    title: str
    maps: Sequence[Sequence[Map]]
    """Rows of maps."""
    low: float
    high: float
    """Values of the first and the last colour."""
    unit: str = ""
    log: bool = False
    """True for a logarithmic colour scale. Values of 0 and below are white."""
    caption: str = ""


Plot: TypeAlias = Curves | Maps


def positive_limits(curves: Sequence[Curve]) -> tuple[float, float]:
    """Return the range of a logarithmic axis: all positive values, but at most six decades below the highest."""
    values = np.concatenate([curve.y[np.isfinite(curve.y) & (curve.y > 0)] for curve in curves] or [np.ones(1)])
    if not len(values):
        return 0.1, 1.0
    high = float(values.max()) * 2
    return max(float(values.min()) / 2, high * 1e-6), high
