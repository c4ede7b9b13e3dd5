"""Figures of mean showers: profiles, visible energy, cells, positions and widths. The goals of a training are in them.

All functions take observables of events with the same primary energies. All figures are 0 for equal samples.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from gan.physics.formulas import profile_distance
from gan.physics.observables import AXES, Observables

__all__ = [
    "mean_figures",
    "position_differences",
    "profile_distances",
    "relative_difference",
    "width_differences",
]

Floats = npt.NDArray[np.float64]


def relative_difference(reference: float, sample: float) -> float:
    """Return sample / reference - 1. NaN if the reference is 0."""
    return sample / reference - 1 if reference else float("nan")


def profile_distances(reference: Observables, sample: Observables) -> Mapping[str, float]:
    """Return `formulas.profile_distance` of the mean showers along each axis, by the name of the axis."""
    return {axis: profile_distance(*(getattr(each, axis).sum(axis=0) for each in (reference, sample))) for axis in AXES}


def position_differences(reference: Observables, sample: Observables) -> Mapping[str, float]:
    """Return the mean first moment of the sample minus that of the reference, in cells, by the name of the axis."""
    differences = sample.mean.mean(axis=0) - reference.mean.mean(axis=0)
    return dict(zip(AXES, differences.tolist(), strict=True))


def width_differences(reference: Observables, sample: Observables) -> Mapping[str, float]:
    """Return the relative differences of the widths, by the name of the axis.

    A width is the square root of the mean second moment. Negative cells can make a second moment negative; it counts
    as 0.
    """
    widths = (np.sqrt(np.maximum(each.variance.mean(axis=0), 0)).tolist() for each in (reference, sample))
    return {axis: relative_difference(real, fake) for axis, real, fake in zip(AXES, *widths, strict=True)}


def mean_figures(reference: Observables, sample: Observables) -> Mapping[str, float]:
    """Return the figures by name, all without signs.

    Returns:
        `visible energy`, `hits` and `active cells`: relative difference of the means of the sampling fraction, the
        number of hits and the number of cells above zero. `profile L1, x`, `position, x`, `width, x` and those of the
        other axes: the functions of this module.
    """
    return {
        "visible energy": _size(reference.sampling_fraction, sample.sampling_fraction),
        "hits": _size(reference.hits, sample.hits),
        "active cells": _size(reference.active, sample.active),
        **{f"profile L1, {axis}": value for axis, value in profile_distances(reference, sample).items()},
        **{f"position, {axis}": abs(value) for axis, value in position_differences(reference, sample).items()},
        **{f"width, {axis}": abs(value) for axis, value in width_differences(reference, sample).items()},
    }


def _size(reference: Floats, sample: Floats) -> float:
    """Return the size of the relative difference of the means. 0 if both are 0."""
    real, fake = float(np.mean(reference)), float(np.mean(sample))
    return 0.0 if real == fake else abs(relative_difference(real, fake))
