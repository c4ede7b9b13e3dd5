"""The energy resolution: the relative width of the visible energy against the primary energy, and its fit.

Source: Carminati et al. (J. Phys. Conf. Ser. 1085, 2018).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import curve_fit

from gan.physics.observables import Observables

__all__ = ["Resolution", "fitted_resolution", "resolution"]

Floats = npt.NDArray[np.float64]

RESOLUTION_EDGES = np.array([2.0, 10, 25, 50, 75, 100, 150, 200, 250, 300, 350, 400, 450, 500])
"""GeV. Energy bins of the resolution."""
FEWEST = 20
"""Events that a bin must hold for a width."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolution:
    """Relative width of the visible energy in energy bins."""

    energies: Floats
    """Mean primary energy of each bin, GeV."""
    widths: Floats
    """Standard deviation over mean of the sampling fraction in each bin."""
    errors: Floats
    """Standard errors of the widths."""


def resolution(observables: Observables) -> Resolution:
    """Return sigma/E of the visible energy against the primary energy.

    The width is that of the sampling fraction, not of the visible energy: so the spread of primary energies within a
    bin does not count. Bins with fewer than FEWEST events are left out.
    """
    rows = []
    fractions = observables.sampling_fraction
    for low, high in itertools.pairwise(RESOLUTION_EDGES):
        inside = (observables.energies >= low) & (observables.energies < high)
        number, values = int(inside.sum()), fractions[inside]
        if number >= FEWEST and values.mean() > 0:
            width = values.std(ddof=1) / values.mean()
            rows.append((observables.energies[inside].mean(), width, width / np.sqrt(2 * (number - 1))))
    table = np.array(rows).reshape(-1, 3).T
    return Resolution(energies=table[0], widths=table[1], errors=table[2])


def fitted_resolution(points: Resolution) -> tuple[float, float]:
    """Return the stochastic term a (square root of GeV) and the constant term b of sigma/E = a / sqrt(E) + b.

    NaN for both with fewer than three bins, or if the widths are zero.
    """
    if len(points.energies) < 3 or not np.all(points.errors > 0):
        return float("nan"), float("nan")
    (a, b), _ = curve_fit(_resolution_curve, points.energies, points.widths, p0=(0.2, 0.01), sigma=points.errors)
    return float(a), float(b)


def _resolution_curve(energies: Floats, a: float, b: float) -> Floats:
    return a / np.sqrt(energies) + b
