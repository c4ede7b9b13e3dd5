"""Figures of the validation during a training: cheap, and finite for any output of a generator.

`evaluation` has the figures for a closer look. These here come after every epoch, on a few hundred to a few thousand
events, so that a user sees whether the training learns.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gan.physics.metrics.authors import moment_error
from gan.physics.metrics.bins import wide_bins
from gan.physics.metrics.means import (
    position_differences,
    profile_distances,
    relative_difference,
    width_differences,
)
from gan.physics.observables import Observables

__all__ = ["COLLAPSED", "SHOWER_DISTANCE", "SILENT", "WORST", "validation_figures", "variety"]

Floats = npt.NDArray[np.float64]

SHOWER_DISTANCE = "shower_distance"
"""Name of the figure of merit: 0 for showers like the real ones, up to WORST. It decides which epoch is the best."""
WORST = 1.0
"""Shower distance of a generator without output, or with a single output."""
SILENT = 1e-3
"""A generator counts as one without output if its active cells or its energy are below this share of the real ones."""
COLLAPSED = 0.01
"""Variety below which a generator counts as one with a single output. Simulated showers of one energy have over 0.1."""


def validation_figures(real: Observables, fake: Observables, variety: float, cells: int) -> dict[str, float]:
    """Compare generated showers with real showers of the same primary energies, event by event in the same order.

    Args:
        real: observables of the held-out showers.
        fake: observables of the generated showers.
        variety: result of `variety` for the generator. NaN if it is unknown.
        cells: number of cells of a shower.

    Returns:
        By name:
        `shower_distance`: the figure of merit, 0 to 1: the mean of three symmetric distances, each 0 to 1: half of the
        mean profile distance, the difference over the sum of the sampling fractions (mean over the energy bins), and
        that of the hits. It is 1 for a generator without output, or with the same output for every latent vector.
        `profile_l1_x` to `_z`: `formulas.profile_distance` of the mean showers, 0 to 2.
        `sampling_fraction_error`: mean of the generated over mean of the real showers, minus 1; also in the bins of
        `bins.wide_bins` that have events, such as `sampling_fraction_error/10-108`.
        `active_cells`, `active_cells_real`: share of cells above zero.
        `hits`, `hits_real`: mean number of cells above `observables.HIT`.
        `mean_error_x` to `_z`: difference of the mean first moments in cells.
        `width_error_x` to `_z`: square root of the mean second moment, generated over real, minus 1.
        `moment_error`: that of the 3DGAN authors, see `authors.moment_error`.
        `variety`: as given.
    """
    fractions = {
        f"sampling_fraction_error/{each.low:.0f}-{each.high:.0f}": _relative(
            real.sampling_fraction[inside], fake.sampling_fraction[inside]
        )
        for each in wide_bins()
        if (inside := each.holds(real.energies)).any()
    }
    distances = profile_distances(real, fake)
    overall = _relative(real.sampling_fraction, fake.sampling_fraction)
    parts = (
        float(np.mean(list(distances.values()))) / 2,
        float(np.mean([_symmetric(error) for error in fractions.values() or (overall,)])),
        _symmetric(_relative(real.hits, fake.hits)),
    )
    useless = (
        fake.active.sum() < SILENT * real.active.sum()
        or fake.visible.sum() < SILENT * real.visible.sum()
        or variety < COLLAPSED
    )
    return {
        SHOWER_DISTANCE: WORST if useless else float(np.mean(parts)),
        **{f"profile_l1_{axis}": value for axis, value in distances.items()},
        "sampling_fraction_error": overall,
        **fractions,
        "active_cells": float(fake.active.mean() / cells),
        "active_cells_real": float(real.active.mean() / cells),
        "hits": float(fake.hits.mean()),
        "hits_real": float(real.hits.mean()),
        **{f"mean_error_{axis}": value for axis, value in position_differences(real, fake).items()},
        **{f"width_error_{axis}": value for axis, value in width_differences(real, fake).items()},
        "moment_error": moment_error(real, fake),
        "variety": variety,
    }


def variety(one: npt.NDArray[np.floating], other: npt.NDArray[np.floating]) -> Floats:
    """Return the difference between showers of the same energy from different latent vectors, (n,).

    It is half of the L1 distance of the cells, each shower divided by its sum: 0 for equal showers, 1 for showers
    without a common cell. Two showers without energy are equal.

    Args:
        one, other: cells, (n, X, Y, Z).
    """
    shapes = []
    for each in (one, other):
        flat = each.reshape(len(each), -1).astype(np.float64)
        sums = flat.sum(axis=1, keepdims=True)
        shapes.append(np.divide(flat, sums, out=np.zeros_like(flat), where=sums > 0))
    return np.abs(shapes[0] - shapes[1]).sum(axis=1) / 2


def _relative(real: Floats, fake: Floats) -> float:
    return relative_difference(float(real.mean()), float(fake.mean()))


def _symmetric(error: float) -> float:
    """Return |f - r| / (f + r) for a relative difference f / r - 1: 0 to 1, and symmetric in f and r."""
    return abs(error) / abs(error + 2) if error >= -1 else 1.0
