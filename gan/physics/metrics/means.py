"""Figures of mean showers: profiles, visible energy, cells, positions and widths. The goals of a training are in them.

All functions take observables of events with the same primary energies. All figures are 0 for equal samples.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gan.physics.formulas import profile_distance
from gan.physics.observables import AXES, Observables

__all__ = ["mean_figures"]


def mean_figures(reference: Observables, sample: Observables) -> Mapping[str, float]:
    """Return the figures by name.

    Returns:
        `visible energy`, `hits` and `active cells`: relative difference of the means of the sampling fraction, the
        number of hits and the number of cells above zero. `profile L1, x` and others: `formulas.profile_distance` of
        the mean showers, 0 to 2. `position, x` and others: difference of the mean first moments in cells. `width, x`
        and others: relative difference of the square roots of the mean second moments.
    """
    first = np.abs(sample.mean.mean(axis=0) - reference.mean.mean(axis=0))
    second = np.sqrt([np.maximum(each.variance.mean(axis=0), 0) for each in (reference, sample)])
    return {
        "visible energy": _difference(reference.sampling_fraction, sample.sampling_fraction),
        "hits": _difference(reference.hits, sample.hits),
        "active cells": _difference(reference.active, sample.active),
        **{
            f"profile L1, {axis}": profile_distance(*(getattr(each, axis).sum(axis=0) for each in (reference, sample)))
            for axis in AXES
        },
        **{f"position, {axis}": float(value) for axis, value in zip(AXES, first, strict=True)},
        **{f"width, {axis}": _difference(real, fake) for axis, real, fake in zip(AXES, *second, strict=True)},
    }


def _difference(reference: np.ndarray, sample: np.ndarray) -> float:
    """Return |<sample> / <reference> - 1|. NaN if the reference is 0 and the sample is not."""
    real, fake = float(np.mean(reference)), float(np.mean(sample))
    return abs(fake / real - 1) if real else 0.0 if fake == real else float("nan")
