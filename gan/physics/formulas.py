"""Formulas for the physics of a shower, shared by training, validation, generation and tests.

Cells are arrays of shape (n, X, Y, Z) in GeV; the last axis is the depth. Callers choose the energy bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["geant4_ecal", "moments", "profile_distance", "profile_error", "profiles", "sampling_fraction"]

Array = npt.NDArray[np.floating[Any]]
Float64s = npt.NDArray[np.float64]


def geant4_ecal(energy: Any) -> Any:
    """Return GEANT4's mean visible energy in GeV for primary energies in units of 100 GeV.

    The formula is a fit by the authors of 3DGAN for the CLIC calorimeter, valid from 0.02 to 5 (2 to 500 GeV). It uses
    operators only, so it takes a float, a NumPy array or a TensorFlow tensor of any shape, and returns the same type.
    """
    percent = 2.21 + energy * (-0.28 + energy * (0.11 + energy * (-0.023 + energy * 0.0018)))
    return energy * percent


def sampling_fraction(cells: Array, energies: Array) -> Array:
    """Return visible energy / primary energy of every event, shape (n,).

    Args:
        cells: energy in each cell in GeV, (n, X, Y, Z).
        energies: primary energies in GeV, (n,) or a shape that broadcasts to it.
    """
    return cells.sum(axis=(1, 2, 3), dtype=np.float64) / energies


def profiles(cells: Array) -> tuple[Float64s, Float64s, Float64s]:
    """Return the energy of every event along x, y and z in GeV: shapes (n, X), (n, Y) and (n, Z)."""
    along_z = cells.sum(axis=(1, 2), dtype=np.float64)
    over_z = cells.sum(axis=3, dtype=np.float64)
    return over_z.sum(axis=2), over_z.sum(axis=1), along_z


def moments(profile: Array) -> tuple[Float64s, Float64s]:
    """Return the mean position and the variance of every shower along one axis, in cells and cells squared.

    M1 = sum(i E_i) / E and M2 = sum((i - M1)^2 E_i) / E, with cells counted from 0.

    Args:
        profile: energy along the axis, (n, cells).

    Returns:
        M1 and M2, (n,) each. Both are NaN for a shower without energy.
    """
    place = np.arange(profile.shape[1])
    with np.errstate(invalid="ignore"):
        weights = profile / profile.sum(axis=1, keepdims=True)
    first = weights @ place
    second = (weights * (place - first[:, np.newaxis]) ** 2).sum(axis=1)
    return first, second


def profile_error(mc: Sequence[Array], gan: Sequence[Array]) -> float:
    """Return the 3DGAN authors' profile error of one energy bin: |E_MC - E_GAN| / E_MC, averaged over cells, then axes.

    Cells without energy in the Monte Carlo have no relative error and do not count. If an axis has only such cells, the
    result is NaN.

    Args:
        mc: one profile per axis, summed over the simulated events of the bin.
        gan: the same for generated events with the same primary energies.
    """
    return float(np.mean([_mean_relative_error(m, g) for m, g in zip(mc, gan, strict=True)]))


def profile_distance(one: Array, other: Array) -> float:
    """Return the L1 distance of two profiles, each divided by its sum: the sum over cells of |p - q|.

    It is symmetric, 0 for equal shapes and 2 for profiles without a common cell. A profile without energy has no shape:
    its distance to any other profile is 2. Negative energies count as 0.

    Args:
        one, other: energy along an axis, (cells,), for example summed over events.
    """
    one, other = np.maximum(one, 0), np.maximum(other, 0)
    sums = one.sum(dtype=np.float64), other.sum(dtype=np.float64)
    if min(sums) == 0:
        return 0.0 if max(sums) == 0 else 2.0
    return float(np.abs(one / sums[0] - other / sums[1]).sum())


def _mean_relative_error(mc: Array, gan: Array) -> float:
    reached = mc > 0
    if not reached.any():
        return float("nan")
    return float(np.mean(np.abs(mc - gan)[reached] / mc[reached]))
