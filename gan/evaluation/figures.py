"""The figures of a comparison: each with its standard error, in energy bins and for all events.

All functions take two sets of observables with the same number of events. The figures are those of `physics.metrics`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from gan.physics.metrics.authors import (
    mean_profile_error,
    moment_error,
    sampling_fraction_error,
    shape_mse,
)
from gan.physics.metrics.distances import separation_power, standardised, wasserstein
from gan.physics.metrics.embedding import Estimate, fpd, kpd
from gan.physics.metrics.means import mean_figures
from gan.physics.metrics.neighbours import prdc
from gan.physics.metrics.resolution import fitted_resolution, resolution
from gan.physics.observables import SCALARS, Observables

__all__ = ["FEWEST", "IDEAL", "REPLICATES", "bootstrapped", "direct_figures", "embedding_figures"]

REPLICATES = 50
"""Bootstrap samples: the standard error is then known to 10%."""
FEWEST = 20
"""Events that a figure needs."""
IDEAL: Mapping[str, float] = {"precision": 1.0, "recall": 1.0, "density": 1.0, "coverage": 1.0}
"""Values for equal distributions, for the figures where it is not 0."""


def direct_figures(reference: Observables, sample: Observables) -> dict[str, float]:
    """Return the figures that take milliseconds, by name."""
    real, fake = reference.scalars(), sample.scalars()
    separations, distances = separation_power(real, fake), wasserstein(real, fake)
    return {
        **mean_figures(reference, sample),
        "moment error": moment_error(reference, sample),
        "profile error": mean_profile_error(reference, sample),
        "sampling fraction error": sampling_fraction_error(reference, sample),
        "shape MSE": shape_mse(reference, sample),
        "separation, mean": float(separations.mean()),
        "Wasserstein, mean": float(distances.mean()),
        **{f"separation, {name}": float(value) for name, value in zip(SCALARS, separations, strict=True)},
        **{f"Wasserstein, {name}": float(value) for name, value in zip(SCALARS, distances, strict=True)},
        **_resolution_figures(reference, sample),
    }


def _resolution_figures(reference: Observables, sample: Observables) -> dict[str, float]:
    """Return the mean relative error of sigma/E, and those of its fitted terms; empty if the energies are too few."""
    real, fake = resolution(reference), resolution(sample)
    if len(real.energies) < 3 or len(real.energies) != len(fake.energies):
        return {}
    (a, b), (of_a, of_b) = fitted_resolution(real), fitted_resolution(fake)
    return {
        "resolution error": float(np.mean(np.abs(fake.widths - real.widths) / real.widths)),
        "resolution, stochastic term": abs(of_a - a) / abs(a),
        "resolution, constant term": abs(of_b - b),
    }


def bootstrapped(
    reference: Observables, sample: Observables, *, replicates: int = REPLICATES, seed: int = 0
) -> dict[str, Estimate]:
    """Return the direct figures with their standard errors from a bootstrap over events.

    The reference and the sample are resampled independently. The error is the standard deviation over the replicates:
    the percentiles themselves would be too high, since resampling adds to a distance.
    """
    values = direct_figures(reference, sample)
    rng = np.random.default_rng(seed)
    seen: dict[str, list[float]] = {name: [] for name in values}
    for _ in range(replicates):
        one, other = (each.take(rng.integers(0, len(each), len(each))) for each in (reference, sample))
        for name, value in direct_figures(one, other).items():
            seen.setdefault(name, []).append(value)
    return {name: Estimate(value, _spread(seen[name])) for name, value in values.items()}


def _spread(values: list[float]) -> float:
    finite = np.array(values)[np.isfinite(values)]
    return float(finite.std(ddof=1)) if len(finite) > 1 else float("nan")


@dataclass(frozen=True, slots=True)
class _Binomial:
    """The standard error of a fraction of n events."""

    events: int

    def __call__(self, fraction: float) -> float:
        # At 0 or 1 the error would be 0: one event more is added on each side.
        near = (fraction * self.events + 1) / (self.events + 2)
        return float(np.sqrt(near * (1 - near) / self.events))


def embedding_figures(reference: Observables, sample: Observables, *, seed: int = 0) -> dict[str, Estimate]:
    """Return FPD, KPD, precision, recall, density and coverage of the standardised features."""
    real, fake = standardised(reference.features(), sample.features())
    error = _Binomial(min(len(real), len(fake)))
    return {
        "FPD": fpd(real, fake, seed=seed),
        "KPD": kpd(real, fake, seed=seed),
        **dict(_neighbours(real, fake, error)),
    }


def _neighbours(real: np.ndarray, fake: np.ndarray, error: _Binomial) -> Iterator[tuple[str, Estimate]]:
    found = prdc(real, fake)
    for name in ("precision", "recall", "coverage"):
        value = getattr(found, name)
        yield name, Estimate(value, error(value))
    yield "density", Estimate(found.density, found.density_error)
