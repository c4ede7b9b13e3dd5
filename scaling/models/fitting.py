"""Fits a model to the points of a curve, with draws of its weights, and chooses among models by what they predict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import scipy.optimize
import scipy.stats

from scaling.models.laws import MODELS, Model, Study
from scaling.records import RecordError

__all__ = ["DRAWS", "Data", "Member", "choose_weights", "data_of", "draw_weights", "least_weights"]

DRAWS = 400
_FLOOR = 1e-3
"""Relative standard error below which no point is trusted: clocks and sizes are not better known."""
_UNKNOWN = 5e-3
"""The least relative scatter that is assumed where points have no intervals."""
_ROBUST_SCATTER = 0.03
"""Relative distance from which a point without an interval counts as an outlier."""
_ROBUST_SIGMAS = 2.0
"""The same for points with intervals, in standard errors."""
_DRAWN_TOLERANCE = 1e-5
"""Far below the scatter of the draws, and few steps."""
_Z95 = 1.959964
_COMPARABLE = 1.05
"""A model with fewer weights is chosen if its error of prediction is within this factor of the best."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """Points as a fit takes them, sorted by workers."""

    workers: np.ndarray
    cost: np.ndarray
    """Seconds per work."""
    sigma: np.ndarray | None
    """Relative standard errors; None where points have no intervals."""
    study: Study

    def part(self, index: np.ndarray) -> Data:
        sigma = None if self.sigma is None else self.sigma[index]
        return Data(workers=self.workers[index], cost=self.cost[index], sigma=sigma, study=self.study)


@dataclass(frozen=True, kw_only=True)
class Member:
    """A model with its best weights and draws of them."""

    model: Model
    weights: np.ndarray
    """Shape (k,)."""
    draws: np.ndarray
    """Shape (draws, k)."""
    error: float = math.nan
    """Relative error of prediction in cross-validation, root mean square."""
    errors: Mapping[str, float] = field(default_factory=dict)
    """The same of every model that was tried."""


def data_of(curve: pd.DataFrame, message_bytes: float | None = None) -> Data:
    """The points of a curve of one series.

    Raises:
        RecordError: the curve has several series, or fewer than two sizes.
    """
    if "series" in curve and curve["series"].nunique() > 1:
        raise RecordError(f"a model is fitted to one curve at a time, but there are {', '.join(set(curve['series']))}")
    ordered = curve.sort_values("workers")
    if len(ordered) < 2:
        raise RecordError(
            f"a model needs runs of two sizes or more; there is {len(ordered)}. Add a run of another size"
        )
    study = Study.of(ordered, message_bytes)
    workers = ordered["workers"].to_numpy(dtype=float)
    if "events" in ordered and ordered["events"].notna().all():
        cost = 1 / ordered["events_per_second"].to_numpy(dtype=float)
    else:
        cost = ordered["seconds"].to_numpy(dtype=float) / study.work(workers)
    low, high = (ordered.get(f"seconds_{end}", pd.Series(math.nan, ordered.index)) for end in ("low", "high"))
    sigma = np.log((high / low).to_numpy(dtype=float)) / (2 * _Z95)
    if np.isnan(sigma).all():
        return Data(workers=workers, cost=cost, sigma=None, study=study)
    # A size with too few epochs for an interval is known no better than the worst of the others.
    sigma = np.where(np.isnan(sigma), np.nanmax(sigma), sigma)
    return Data(workers=workers, cost=cost, sigma=np.maximum(sigma, _FLOOR), study=study)


def least_weights(model: Model, data: Data, terms: np.ndarray | None = None, tolerance: float = 1e-10) -> np.ndarray:
    """The weights >= 0 with the least robust sum of squares of relative residuals.

    Minimises sum rho((log cost - log model)^2 / (scale sigma)^2) with rho(z) = 2 (sqrt(1 + z) - 1), SciPy's `soft_l1`,
    by Gauss-Newton steps of non-negative least squares: the same minimum as `scipy.optimize.least_squares` with bounds
    at a hundredth of its time, which is what drawing hundreds of fits needs.

    Args:
        terms: of the model at the data's workers, where they are known already.
        tolerance: change of the largest weight, relative to it, that ends the steps.

    Returns:
        Shape (k,).
    """
    columns = model.terms(data.workers, data.study) if terms is None else terms
    target = 1 / data.cost if model.of_rate else data.cost
    sigma = np.full(len(target), _ROBUST_SCATTER) if data.sigma is None else _ROBUST_SIGMAS * data.sigma
    size = np.abs(columns / target[:, None]).max(axis=0)
    # A term that is nothing at all these sizes, such as exchange on one node, cannot be told and stays at 0.
    told = size > 0
    scaled = columns[:, told] / size[told]
    weights = scipy.optimize.nnls(scaled / target[:, None], np.ones(len(target)))[0]
    # The first term of every model is above 0 at every size, which keeps the logarithm finite.
    weights[0] = max(weights[0], 0.01)
    for _ in range(50):
        model_values = scaled @ weights
        residual = np.log(target / model_values)
        importance = (1 + (residual / sigma) ** 2) ** -0.25 / sigma
        jacobian = scaled / model_values[:, None]
        fresh = scipy.optimize.nnls(jacobian * importance[:, None], (1 + residual) * importance)[0]
        # A step so long that the model would vanish somewhere is halved.
        while (scaled @ fresh <= 0.1 * model_values).any():
            fresh = (fresh + weights) / 2
        change = np.abs(fresh - weights).max()
        weights = fresh
        if change <= tolerance * weights.max():
            break
    result = np.zeros(columns.shape[1])
    result[told] = weights / size[told]
    return result


def draw_weights(model: Model, data: Data, weights: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Weights fitted to points drawn around the model with their scatter (a parametric bootstrap).

    With intervals the scatter is theirs, enlarged by the Birge ratio where the points lie farther from the model than
    they should. Without intervals it is the residuals' standard deviation with n - k degrees of freedom, k being the
    weights above 0, enlarged by Student's t over the normal quantile.

    Returns:
        Shape (draws, k).
    """
    terms = model.terms(data.workers, data.study)
    value = terms @ weights
    fitted = 1 / value if model.of_rate else value
    residual = np.log(data.cost / fitted)
    freedom = max(1, len(residual) - int(np.count_nonzero(weights)))
    if data.sigma is None:
        robust = np.sqrt(1 + (residual / _ROBUST_SCATTER) ** 2)
        scatter = max(_UNKNOWN, math.sqrt(float((residual**2 / robust).sum()) / freedom))
        spread = np.full(len(residual), scatter * scipy.stats.t.ppf(0.975, freedom) / _Z95)
    else:
        relative = residual / data.sigma
        robust = np.sqrt(1 + (relative / _ROBUST_SIGMAS) ** 2)
        spread = data.sigma * max(1.0, math.sqrt(float((relative**2 / robust).sum()) / freedom))
    noise = np.random.default_rng(seed).normal(size=(draws, len(residual))) * spread
    result = []
    for row in noise:
        drawn = Data(workers=data.workers, cost=fitted * np.exp(row), sigma=data.sigma, study=data.study)
        result.append(least_weights(model, drawn, terms, _DRAWN_TOLERANCE))
    return np.array(result)


def choose_weights(data: Data, names: Sequence[str], draws: int, seed: int) -> list[Member]:
    """The models in the order of how well they predict points that they were not fitted to; the chosen one is first.

    Every model predicts the larger sizes from the smaller ones (from the smaller half on), and each size but the
    smallest from all others. The error is the root mean square of the relative errors of both kinds. Among models
    within 5% of the least error the one with the fewest weights is chosen.
    """
    errors = {name: _prediction_error(MODELS[name], data) for name in names}
    least = min(errors.values())
    close = [name for name in names if errors[name] <= max(_COMPARABLE * least, _UNKNOWN)]
    chosen = min(close, key=lambda name: (_weight_count(name), errors[name]))
    order = [chosen, *sorted((name for name in names if name != chosen), key=errors.__getitem__)]
    members = []
    for name in order:
        weights = least_weights(MODELS[name], data)
        drawn = draw_weights(MODELS[name], data, weights, draws, seed)
        members.append(Member(model=MODELS[name], weights=weights, draws=drawn, error=errors[name], errors=errors))
    return members


def _weight_count(name: str) -> int:
    return MODELS[name].terms(np.array([1.0]), Study()).shape[1]


def _prediction_error(model: Model, data: Data) -> float:
    count = len(data.workers)
    everything = np.arange(count)
    folds = [(everything[:m], everything[m:]) for m in range(max(2, (count + 1) // 2), count)]
    if count > 2:
        folds += [(np.delete(everything, i), everything[i : i + 1]) for i in range(1, count)]
    squares = []
    for kept, left in folds or [(everything, everything)]:
        weights = least_weights(model, data.part(kept))
        predicted = model.cost(data.workers[left], weights, data.study)
        squares.append(float(np.mean(np.log(data.cost[left] / predicted) ** 2)))
    return math.sqrt(float(np.mean(squares)))
