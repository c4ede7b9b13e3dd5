"""A fitted model: its parameters and forecasts, with intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from scaling.models.laws import MODELS, Model, Workload
from scaling.models.terms import MOST_RANKS
from scaling.models.weights import DRAWS, Data, Member, choose_weights, data_of, draw_weights, least_weights
from scaling.records import RecordError

__all__ = ["Fit", "choose", "fit"]


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A model that was fitted to one curve."""

    model: Model
    workload: Workload
    baseline: int
    """Workers that speed-up and efficiency refer to. The model gives the time at the baseline, even if the curve has
    its baseline from other runs."""
    measured: np.ndarray
    """Workers of the fitted points, ascending."""
    residuals: np.ndarray
    """Relative residuals of the points (measured / model - 1), in the order of `measured`."""
    weights: np.ndarray
    """Best weights of `model`."""
    members: Sequence[Member]
    """Fitted models whose draws form the band: `model` first, then others with about the same prediction error."""
    errors: Mapping[str, float] = field(default_factory=dict)
    """Relative prediction error in cross-validation of each model. Empty if models were not compared."""

    def parameters(self, level: float = 0.95) -> pd.DataFrame:
        """Return the parameters of the model with their intervals.

        A lower limit of 0 means that the points do not prove the effect. Not-a-number means that no measured size has
        the effect, such as the exchange between nodes if all runs used one node.

        Args:
            level: probability of the intervals.

        Returns:
            One row per parameter, with columns parameter, value, low and high.
        """
        known = np.where(self.model.terms(self.measured.astype(float), self.workload).any(axis=0), 1.0, math.nan)
        value = self.model.parameters(self.weights[None, :] * known, self.workload)
        drawn = self.model.parameters(self.members[0].draws * known, self.workload)
        rows = []
        for name, best in value.items():
            low, high = (
                np.nanquantile(drawn[name], _tails(level)) if np.isfinite(drawn[name]).any() else (math.nan,) * 2
            )
            rows.append({"parameter": name, "value": float(best[0]), "low": float(low), "high": float(high)})
        return pd.DataFrame(rows)

    def forecast(self, workers: Sequence[int], level: float = 0.95) -> pd.DataFrame:
        """Return time per epoch, speed-up and efficiency on other numbers of workers, with their intervals.

        The intervals include the scatter of the points and, if models were compared, the choice between models with
        about the same prediction error. They do not include effects that occur at no measured size, such as a slower
        switch.

        Args:
            workers: numbers of workers.
            level: probability of the intervals.

        Returns:
            Columns workers, nodes (missing if the runs do not record them), seconds, speedup and efficiency, the last
            three with `_low` and `_high`, and extrapolated (True outside the range of measured sizes).

        Raises:
            RecordError: a number of workers is below 1 or above `terms.MOST_RANKS`.
        """
        sizes = np.array(list(workers), dtype=float)
        if len(sizes) and sizes.min() < 1:
            raise RecordError(f"cannot forecast {sizes.min():.0f} workers; give numbers of 1 or more")
        if len(sizes) and sizes.max() > MOST_RANKS:
            raise RecordError(f"cannot forecast {sizes.max():.0f} workers; give numbers up to {MOST_RANKS}")
        result = pd.DataFrame({"workers": sizes.astype(int)})
        nodes = (
            np.ceil(sizes / self.workload.workers_per_node)
            if self.workload.nodes_known
            else np.full(len(sizes), math.nan)
        )
        result["nodes"] = pd.array(nodes, dtype="Int64")
        best = self._at(self.model, self.weights, sizes)
        for name, value, draws in zip(("seconds", "speedup"), best, self.drawn(sizes), strict=True):
            low, high = np.quantile(draws, _tails(level), axis=0)
            result[name] = value
            # The band mixes several models. The curve of the chosen one may lie outside it.
            result[f"{name}_low"], result[f"{name}_high"] = np.minimum(low, value), np.maximum(high, value)
        for end in ("", "_low", "_high"):
            result[f"efficiency{end}"] = result[f"speedup{end}"] * self.baseline / sizes
        result["extrapolated"] = (sizes < self.measured.min()) | (sizes > self.measured.max())
        return result

    def seconds(self, workers: np.ndarray) -> np.ndarray:
        """Return seconds per epoch, from the best weights."""
        return self._at(self.model, self.weights, workers)[0]

    def efficiency(self, workers: np.ndarray) -> np.ndarray:
        """Return the parallel efficiency, from the best weights."""
        return self._at(self.model, self.weights, workers)[1] * self.baseline / workers

    def drawn(self, workers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return seconds per epoch and speed-up of all draws of the band, each of shape (draws, sizes)."""
        parts = [self._at(member.model, member.draws, workers) for member in self.members]
        seconds, speedup = (np.concatenate(part) for part in zip(*parts, strict=True))
        return seconds, speedup

    def _at(self, model: Model, weights: np.ndarray, workers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return seconds per epoch and speed-up of a model."""
        cost = model.cost(workers, weights, self.workload)
        base = model.cost(np.array([self.baseline]), weights, self.workload)
        return cost * self.workload.work(np.asarray(workers, dtype=float)), base / cost


def fit(curve: pd.DataFrame, model: str, draws: int = DRAWS, seed: int = 1, message_bytes: float | None = None) -> Fit:
    """Fit one model to a curve of one series.

    Args:
        curve: result of `metrics.curve` for one series.
        model: a key of `MODELS`.
        draws: number of draws for the intervals.
        seed: the same seed gives the same draws.
        message_bytes: bytes of gradients in a step. If it is given, the parameters include the bandwidth.

    Raises:
        RecordError: the model is unknown, or the curve has fewer than two sizes or several series.
    """
    if model not in MODELS:
        raise RecordError(f"model {model!r} is unknown; expected one of {', '.join(MODELS)}. Change --model")
    data = data_of(curve, message_bytes)
    weights = least_weights(MODELS[model], data)
    drawn = draw_weights(MODELS[model], data, weights, draws, seed)
    return _fit(curve, data, [Member(model=MODELS[model], weights=weights, draws=drawn)], {})


def choose(curve: pd.DataFrame, draws: int = DRAWS, seed: int = 1, message_bytes: float | None = None) -> Fit:
    """Fit all models to a curve, and choose the one that best predicts sizes outside its fit.

    `weights.choose_weights` explains the cross-validation. The band uses the draws of all models in proportion to
    1 / error^2. The band becomes wider if models with equal prediction errors diverge outside the points. With only two
    sizes models cannot be compared: the choice is then Amdahl's law, or Gustafson's law for weak scaling.

    Args:
        curve, draws, seed, message_bytes: as for `fit`.

    Raises:
        RecordError: the curve has fewer than two sizes or several series.
    """
    data = data_of(curve, message_bytes)
    simplest = "gustafson" if data.workload.mode == "weak" else "amdahl"
    if len(data.workers) < 3:
        return fit(curve, simplest, draws, seed, message_bytes)
    names = [simplest, *(name for name in MODELS if name not in ("amdahl", "gustafson"))]
    ranked = choose_weights(data, names, draws, seed)
    # Limit the weight of a model: on exact points one model may have no error, but the others are still possible.
    importance = np.array([1 / max(member.error, 1e-4) ** 2 for member in ranked])
    counts = np.floor(draws * importance / importance.max()).astype(int)
    others = zip(ranked[1:], counts[1:], strict=True)
    members = [ranked[0], *(replace(member, draws=member.draws[:count]) for member, count in others if count)]
    return _fit(curve, data, members, ranked[0].errors)


def _fit(curve: pd.DataFrame, data: Data, members: Sequence[Member], errors: Mapping[str, float]) -> Fit:
    best = members[0]
    baseline = int(curve["baseline"].iloc[0]) if "baseline" in curve else int(data.workers.min())
    return Fit(
        model=best.model,
        workload=data.workload,
        baseline=baseline,
        measured=data.workers.astype(int),
        residuals=data.cost / best.model.cost(data.workers, best.weights, data.workload) - 1,
        weights=best.weights,
        members=members,
        errors=errors,
    )


def _tails(level: float) -> tuple[float, float]:
    if not 0 < level < 1:
        raise RecordError(f"the confidence level is {level}; give a number between 0 and 1, such as 0.95")
    return (1 - level) / 2, (1 + level) / 2
