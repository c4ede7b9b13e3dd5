"""The figures of the 3DGAN authors: moment error, profile error, sampling fraction, shape MSE.

Sources: the public 3DGAN validation code (`GANutils`, 2018-2021) for the moment and profile errors and the energy bins;
Carminati et al. (J. Phys. Conf. Ser. 1085, 2018) for the sampling fraction. The public code adds the moment
error twice to the total: here each error stands alone.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gan.physics.formulas import profile_error
from gan.physics.observables import Observables

__all__ = [
    "mean_profile_error",
    "moment_error",
    "sampling_fraction_error",
    "shape_mse",
]

Floats = npt.NDArray[np.float64]

FRACTION_EDGES = np.linspace(0.0, 500.0, 101)
"""GeV. Energy bins of the sampling fraction."""


def moment_error(reference: Observables, sample: Observables) -> float:
    """Return the mean over two moments and three axes of |<reference> - <sample>| / <reference>."""
    real = np.concatenate([reference.mean.mean(axis=0), reference.variance.mean(axis=0)])
    fake = np.concatenate([sample.mean.mean(axis=0), sample.variance.mean(axis=0)])
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        # A mean moment is 0 if all energy is in the first cells.
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
