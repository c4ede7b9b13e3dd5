"""The figures of the 3DGAN authors: moment error, profile error, sampling fraction, energy resolution, shape MSE.

Sources: the public 3DGAN validation code (`GANutils`, 2018-2021) for the moment and profile errors and the energy bins;
Carminati et al. (J. Phys. Conf. Ser. 1085, 2018) for sampling fraction and resolution. The public code adds the moment
error twice to the total: here each error stands alone.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import curve_fit

from gan.physics.formulas import profile_error
from gan.physics.observables import Observables

__all__ = [
    "Resolution",
    "fitted_resolution",
    "mean_profile_error",
    "moment_error",
    "resolution",
    "sampling_fraction_error",
    "shape_mse",
]

Floats = npt.NDArray[np.float64]

FRACTION_EDGES = np.linspace(0.0, 500.0, 101)
"""GeV. Energy bins of the sampling fraction."""
RESOLUTION_EDGES = np.array([2.0, 10, 25, 50, 75, 100, 150, 200, 250, 300, 350, 400, 450, 500])
"""GeV. Energy bins of the resolution."""
FEWEST = 20
"""Events that a bin must hold for a width."""


def moment_error(reference: Observables, sample: Observables) -> float:
    """Return the mean over two moments and three axes of |<reference> - <sample>| / <reference>."""
    real = np.concatenate([reference.mean.mean(axis=0), reference.variance.mean(axis=0)])
    fake = np.concatenate([sample.mean.mean(axis=0), sample.variance.mean(axis=0)])
    return float(np.mean(np.abs(real - fake) / real))


def mean_profile_error(reference: Observables, sample: Observables) -> float:
    """Return the profile error of `formulas.profile_error` for mean showers.

    It is not symmetric, and 1 for a generator without output.
    """
    real, fake = ([each.x.mean(axis=0), each.y.mean(axis=0), each.z.mean(axis=0)] for each in (reference, sample))
    return profile_error(real, fake)


def shape_mse(reference: Observables, sample: Observables) -> float:
    """Return the shower-shape MSE: the mean over axes and cells of ((<sample> - <reference>) / <reference>)^2.

    <...> is the mean energy profile along an axis. The talks print an MSE of shower shapes without its formula
    (float32 0.061, int8 0.053 to 0.340; Conv3D 0.048, Conv2D 0.027). A relative error gives values of this size: 0.061
    is a deviation of 25% of a profile's cells. An absolute error in GeV^2 would not. So values of this formula may be
    compared with each other, and with the talks only roughly.
    """
    errors = []
    for name in ("x", "y", "z"):
        real, fake = (getattr(each, name).mean(axis=0) for each in (reference, sample))
        reached = real > 0
        errors.append(np.mean(((fake - real)[reached] / real[reached]) ** 2))
    return float(np.mean(errors))


def sampling_fraction_error(reference: Observables, sample: Observables) -> float:
    """Return the mean over 100 energy bins of |<f sample> - <f reference>| / <f reference>, f the sampling fraction.

    Bins without events of both are left out.
    """
    real, fake = (_binned_mean(each.energies, each.sampling_fraction) for each in (reference, sample))
    both = np.isfinite(real) & np.isfinite(fake) & (real > 0)
    return float(np.mean(np.abs(fake - real)[both] / real[both])) if both.any() else float("nan")


def _binned_mean(energies: Floats, values: Floats) -> Floats:
    counts, _ = np.histogram(energies, FRACTION_EDGES)
    sums, _ = np.histogram(energies, FRACTION_EDGES, weights=values)
    with np.errstate(invalid="ignore"):
        return sums / counts


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
