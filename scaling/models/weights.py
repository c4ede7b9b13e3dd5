"""Fit the weights of a model to the points of a curve, draw weights for intervals, and choose among models.

`fits` turns weights into parameters and forecasts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import scipy.optimize
import scipy.stats

from scaling.models.laws import MODELS, Model, Workload
from scaling.records import RecordError

__all__ = ["DRAWS", "Data", "Member", "choose_weights", "data_of", "draw_weights", "least_weights"]

DRAWS = 400
"""Number of bootstrap draws of a fit."""
_FLOOR = 1e-3
"""Smallest relative standard error of a point. Clocks and sizes are not known more accurately."""
_UNKNOWN = 5e-3
"""Smallest relative scatter of points without intervals."""
_ROBUST_SCATTER = 0.03
"""Relative residual above which a point without an interval counts as an outlier."""
_ROBUST_SIGMAS = 2.0
"""Residual above which a point with an interval counts as an outlier, in standard errors."""
_DRAWN_TOLERANCE = 1e-5
"""Tolerance of the fits to draws. It is far below the scatter of the draws, and few steps reach it."""
_Z95 = 1.959964
"""Half width of the 95% interval of a normal distribution, in standard errors."""
_COMPARABLE = 1.05
"""A model with fewer weights is preferred if its prediction error is at most this multiple of the smallest error."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """The points of a curve that a model is fitted to, sorted by workers."""

    workers: np.ndarray
    cost: np.ndarray
    """Seconds per work, see `Workload`."""
    sigma: np.ndarray | None
    """Relative standard errors of the cost. None if no point has an interval."""
    workload: Workload

    def part(self, index: np.ndarray) -> Data:
        """Return the points with these indices."""
        sigma = None if self.sigma is None else self.sigma[index]
        return Data(workers=self.workers[index], cost=self.cost[index], sigma=sigma, workload=self.workload)


@dataclass(frozen=True, kw_only=True)
class Member:
    """A fitted model: its best weights, and draws of them for intervals."""

    model: Model
    weights: np.ndarray
    """Best weights, shape (k,)."""
    draws: np.ndarray
    """Draws of the weights, shape (draws, k)."""
    error: float = math.nan
    """Relative prediction error in cross-validation (root mean square)."""
    errors: Mapping[str, float] = field(default_factory=dict)
    """Prediction error of each model that was compared."""


def data_of(curve: pd.DataFrame, message_bytes: float | None = None) -> Data:
    """Return the points of a curve.

    Args:
        curve: result of `metrics.curve` for one series.
        message_bytes: bytes of gradients in a step, if known.

    Raises:
        RecordError: the curve has several series, or fewer than two sizes.
    """
    if "series" in curve and curve["series"].nunique() > 1:
        raise RecordError(
            f"a model needs one series, but the curve has {', '.join(sorted(set(curve['series'])))}; fit each one alone"
        )
    ordered = curve.sort_values("workers")
    if len(ordered) < 2:
        raise RecordError(
            f"a model needs runs on two numbers of workers or more, but there is only {len(ordered)}; "
            "add runs on another number of workers"
        )
    workload = Workload.of(ordered, message_bytes)
    workers = ordered["workers"].to_numpy(dtype=float)
    if "events" in ordered and ordered["events"].notna().all():
        cost = 1 / ordered["events_per_second"].to_numpy(dtype=float)
    else:
        cost = ordered["seconds"].to_numpy(dtype=float) / workload.work(workers)
    low, high = (ordered.get(f"seconds_{end}", pd.Series(math.nan, ordered.index)) for end in ("low", "high"))
    sigma = np.log((high / low).to_numpy(dtype=float)) / (2 * _Z95)
    if np.isnan(sigma).all():
        return Data(workers=workers, cost=cost, sigma=None, workload=workload)
    # A size with too few epochs for an interval gets the largest standard error of the others.
    sigma = np.where(np.isnan(sigma), np.nanmax(sigma), sigma)
    return Data(workers=workers, cost=cost, sigma=np.maximum(sigma, _FLOOR), workload=workload)


def least_weights(model: Model, data: Data, terms: np.ndarray | None = None, tolerance: float = 1e-10) -> np.ndarray:
    """Return the weights >= 0 that minimize a robust sum of squares of relative residuals.

    The function minimizes sum rho((log cost - log model)^2 / s^2) with rho(z) = 2 (sqrt(1 + z) - 1), SciPy's `soft_l1`,
    by Gauss-Newton steps of non-negative least squares. s is `_ROBUST_SIGMAS` times the standard error of a point, or
    `_ROBUST_SCATTER` without intervals. The result is the same as from `scipy.optimize.least_squares` with bounds, but
    it takes a hundredth of the time, so that hundreds of draws can be fitted.

    Args:
        model: the model to fit.
        data: the points to fit it to.
        terms: `model.terms` at the workers of the data, if already computed.
        tolerance: the steps end when no weight changes by more than this fraction of the largest weight.

    Returns:
        Weights of shape (k,).
    """
    columns = model.terms(data.workers, data.workload) if terms is None else terms
    target = 1 / data.cost if model.of_rate else data.cost
    sigma = np.full(len(target), _ROBUST_SCATTER) if data.sigma is None else _ROBUST_SIGMAS * data.sigma
    size = np.abs(columns / target[:, None]).max(axis=0)
    # A term that is 0 at all these sizes, such as the exchange on one node, cannot be fitted. Its weight stays 0.
    fitted = size > 0
    scaled = columns[:, fitted] / size[fitted]
    weights = scipy.optimize.nnls(scaled / target[:, None], np.ones(len(target)))[0]
    # The first term of every model is above 0 at every size. This keeps the logarithm finite.
    weights[0] = max(weights[0], 0.01)
    for _ in range(50):
        model_values = scaled @ weights
        residual = np.log(target / model_values)
        importance = (1 + (residual / sigma) ** 2) ** -0.25 / sigma
        jacobian = scaled / model_values[:, None]
        fresh = scipy.optimize.nnls(jacobian * importance[:, None], (1 + residual) * importance)[0]
        # Halve a step that would make the model nearly 0 at any size.
        while (scaled @ fresh <= 0.1 * model_values).any():
            fresh = (fresh + weights) / 2
        change = np.abs(fresh - weights).max()
        weights = fresh
        if change <= tolerance * weights.max():
            break
    result = np.zeros(columns.shape[1])
    result[fitted] = weights / size[fitted]
    return result


def draw_weights(model: Model, data: Data, weights: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Return weights fitted to points that are drawn around the model (a parametric bootstrap).

    If the points have intervals, the scatter of the draws follows from them. If the residuals are larger than expected
    from the intervals, the scatter is multiplied by the Birge ratio. Without intervals the scatter is the standard
    deviation of the residuals with n - k degrees of freedom, where k counts the weights above 0, times the ratio of the
    Student and normal quantiles.

    Args:
        model, data: the model and the points that it was fitted to.
        weights: best weights, shape (k,).
        draws: number of draws.
        seed: the same seed gives the same draws.

    Returns:
        Weights of shape (draws, k).
    """
    terms = model.terms(data.workers, data.workload)
    value = terms @ weights
    modeled = 1 / value if model.of_rate else value
    residual = np.log(data.cost / modeled)
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
        drawn = Data(workers=data.workers, cost=modeled * np.exp(row), sigma=data.sigma, workload=data.workload)
        result.append(least_weights(model, drawn, terms, _DRAWN_TOLERANCE))
    return np.array(result)


def choose_weights(data: Data, names: Sequence[str], draws: int, seed: int) -> list[Member]:
    """Fit several models and rank them by cross-validation. The chosen model comes first, then the others by error.

    Each model predicts the larger sizes from the smaller ones (for every split with at least half of the sizes in the
    fit), and each size except the smallest from all others. The prediction error is the root mean square of the
    relative errors of both kinds. Among the models within 5% of the smallest error, the one with the fewest weights is
    chosen.

    Args:
        data: the points to fit the models to.
        names: keys of `MODELS`.
        draws, seed: as for `draw_weights`.
    """
    errors = {name: _prediction_error(MODELS[name], data) for name in names}
    smallest = min(errors.values())
    close = [name for name in names if errors[name] <= max(_COMPARABLE * smallest, _UNKNOWN)]
    chosen = min(close, key=lambda name: (_weight_count(name), errors[name]))
    order = [chosen, *sorted((name for name in names if name != chosen), key=errors.__getitem__)]
    members = []
    for name in order:
        weights = least_weights(MODELS[name], data)
        drawn = draw_weights(MODELS[name], data, weights, draws, seed)
        members.append(Member(model=MODELS[name], weights=weights, draws=drawn, error=errors[name], errors=errors))
    return members


def _weight_count(name: str) -> int:
    return MODELS[name].terms(np.array([1.0]), Workload()).shape[1]


def _prediction_error(model: Model, data: Data) -> float:
    """Return the relative error of a model in cross-validation, see `choose_weights`."""
    count = len(data.workers)
    everything = np.arange(count)
    folds = [(everything[:m], everything[m:]) for m in range(max(2, (count + 1) // 2), count)]
    if count > 2:
        folds += [(np.delete(everything, i), everything[i : i + 1]) for i in range(1, count)]
    squares = []
    for kept, left in folds or [(everything, everything)]:
        weights = least_weights(model, data.part(kept))
        predicted = model.cost(data.workers[left], weights, data.workload)
        squares.append(float(np.mean(np.log(data.cost[left] / predicted) ** 2)))
    return math.sqrt(float(np.mean(squares)))
