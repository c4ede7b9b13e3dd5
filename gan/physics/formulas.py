"""Formulas for the physics of a shower, shared by training, validation and tests; binning is left to them.

Cells are arrays of shape (n, X, Y, Z) in GeV with the depth as the last axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["geant4_ecal", "moments", "profile_error", "profiles", "sampling_fraction"]

Array = npt.NDArray[np.floating[Any]]


def geant4_ecal(energy: Any) -> Any:
    """Return the visible energy, GeV, that GEANT4 gives on average for primary energies in units of 100 GeV.

    The fit by the authors of 3DGAN for the CLIC calorimeter, made for 0.02 to 5 (2-500 GeV). Plain arithmetic
    only: floats, NumPy arrays and TensorFlow tensors of any shape go in, and the same comes out.
    """
    percent = 2.21 + energy * (-0.28 + energy * (0.11 + energy * (-0.023 + energy * 0.0018)))
    return energy * percent


def sampling_fraction(cells: Array, energies: Array) -> Array:
    """Return the visible over the primary energy of every event; `energies` are n values in GeV."""
    return cells.sum(axis=(1, 2, 3), dtype=np.float64) / energies


def profiles(cells: Array) -> tuple[Array, Array, Array]:
    """Return the energy along x, y and z of every event, shapes (n, X), (n, Y) and (n, Z), GeV."""
    along_z = cells.sum(axis=(1, 2), dtype=np.float64)
    over_z = cells.sum(axis=3, dtype=np.float64)
    return over_z.sum(axis=2), over_z.sum(axis=1), along_z


def moments(profile: Array) -> tuple[Array, Array]:
    """Return M1 = sum(i E_i)/E and M2 = sum((i - M1)^2 E_i)/E, i from 0, of profiles of shape (n, cells).

    A shower without energy has no place and no width: both are NaN.
    """
    place = np.arange(profile.shape[1])
    with np.errstate(invalid="ignore"):
        weights = profile / profile.sum(axis=1, keepdims=True)
    first = weights @ place
    second = (weights * (place - first[:, np.newaxis]) ** 2).sum(axis=1)
    return first, second


def profile_error(mc: Sequence[Array], gan: Sequence[Array]) -> float:
    """Return the mean over the axes of the mean over an axis's cells of |E_MC - E_GAN|/E_MC.

    One energy bin of the 3DGAN authors' profile error. Each argument holds a profile per axis, summed over
    the events of the bin; both sums are over the same primary energies. Cells that no Monte Carlo event
    reached have no relative error and are left out; an axis without any other cell gives NaN.
    """
    return float(np.mean([_mean_relative_error(m, g) for m, g in zip(mc, gan, strict=True)]))


def _mean_relative_error(mc: Array, gan: Array) -> float:
    reached = mc > 0
    if not reached.any():
        return float("nan")
    return float(np.mean(np.abs(mc - gan)[reached] / mc[reached]))
