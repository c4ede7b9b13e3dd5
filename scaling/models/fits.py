"""A fitted model with its uncertainty: parameters, forecasts, and the sizes up to which an efficiency holds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from scaling.models.fitting import DRAWS, Data, Member, choose_weights, data_of, draw_weights, least_weights
from scaling.models.laws import MODELS, Model, Study
from scaling.models.terms import MOST_RANKS
from scaling.records import RecordError

__all__ = ["Fit", "choose", "fit"]


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A model of one curve."""

    model: Model
    study: Study
    """What stays when workers are added."""
    baseline: int
    """Workers that speed-up and efficiency are counted against; the time there is the model's too, also where the
    curve was measured against a baseline from another file."""
    measured: np.ndarray
    """Workers of the points that were fitted, ascending."""
    residuals: np.ndarray
    """Relative distances of the points from the model (measured over model less 1), in the order of `measured`."""
    weights: np.ndarray
    """The best weights of `model`."""
    members: Sequence[Member]
    """Draws that make the band: of `model` alone, or of all models that predict about as well."""
    errors: Mapping[str, float] = field(default_factory=dict)
    """Relative error of prediction in cross-validation of every model tried; empty where none was compared."""

    def parameters(self, level: float = 0.95) -> pd.DataFrame:
        """Columns parameter, value, low, high: what the weights mean in the terms of the model.

        A lower limit of 0 says that the points do not show the term. Not-a-number is a term that none of the measured
        sizes has, such as exchange between nodes where all ran on one.
        """
        told = np.where(self.model.terms(self.measured.astype(float), self.study).any(axis=0), 1.0, math.nan)
        value = self.model.parameters(self.weights[None, :] * told, self.study)
        drawn = self.model.parameters(self.members[0].draws * told, self.study)
        rows = []
        for name, best in value.items():
            low, high = (
                np.nanquantile(drawn[name], _tails(level)) if np.isfinite(drawn[name]).any() else (math.nan,) * 2
            )
            rows.append({"parameter": name, "value": float(best[0]), "low": float(low), "high": float(high)})
        return pd.DataFrame(rows)

    def forecast(self, workers: Sequence[int], level: float = 0.95) -> pd.DataFrame:
        """Time per epoch, speed-up and efficiency at `workers`, with the band of the curve.

        The band holds what the scatter of the points leaves open, and where models were compared also which of those
        that predict about as well is right. It does not hold what no measured size shows, such as a slower switch.

        Returns:
            Columns workers, nodes (missing where the runs do not tell), seconds, speedup, efficiency, each with `_low`
            and `_high`, and extrapolated: outside the sizes that were measured.

        Raises:
            RecordError: a number of workers below 1 or above `terms.MOST_RANKS`.
        """
        sizes = np.array(list(workers), dtype=float)
        if len(sizes) and sizes.min() < 1:
            raise RecordError(f"a forecast for {sizes.min():.0f} workers was asked for; expected 1 or more")
        if len(sizes) and sizes.max() > MOST_RANKS:
            raise RecordError(
                f"a forecast for {sizes.max():.0f} workers was asked for; expected {MOST_RANKS} at the most"
            )
        result = pd.DataFrame({"workers": sizes.astype(int)})
        nodes = (
            np.ceil(sizes / self.study.workers_per_node) if self.study.nodes_known else np.full(len(sizes), math.nan)
        )
        result["nodes"] = pd.array(nodes, dtype="Int64")
        best = self._at(self.model, self.weights, sizes)
        for name, value, draws in zip(("seconds", "speedup"), best, self.drawn(sizes), strict=True):
            low, high = np.quantile(draws, _tails(level), axis=0)
            result[name] = value
            # The chosen model is one of several: its curve may lie at the edge of all their draws.
            result[f"{name}_low"], result[f"{name}_high"] = np.minimum(low, value), np.maximum(high, value)
        for end in ("", "_low", "_high"):
            result[f"efficiency{end}"] = result[f"speedup{end}"] * self.baseline / sizes
        result["extrapolated"] = (sizes < self.measured.min()) | (sizes > self.measured.max())
        return result

    def seconds(self, workers: np.ndarray) -> np.ndarray:
        """Seconds per epoch of the best weights."""
        return self._at(self.model, self.weights, workers)[0]

    def efficiency(self, workers: np.ndarray) -> np.ndarray:
        """Parallel efficiency of the best weights."""
        return self._at(self.model, self.weights, workers)[1] * self.baseline / workers

    def drawn(self, workers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Seconds and speed-up of all draws of the band, each of shape (draws, sizes)."""
        parts = [self._at(member.model, member.draws, workers) for member in self.members]
        seconds, speedup = (np.concatenate(part) for part in zip(*parts, strict=True))
        return seconds, speedup

    def _at(self, model: Model, weights: np.ndarray, workers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Seconds per epoch and speed-up."""
        cost = model.cost(workers, weights, self.study)
        base = model.cost(np.array([self.baseline]), weights, self.study)
        return cost * self.study.work(np.asarray(workers, dtype=float)), base / cost


def fit(curve: pd.DataFrame, model: str, draws: int = DRAWS, seed: int = 1, message_bytes: float | None = None) -> Fit:
    """Fit one model to a curve of one series.

    Args:
        curve: as `metrics.curve` gives it.
        model: a key of `MODELS`.
        message_bytes: gradients that a step exchanges, to tell the bandwidth from the time of transfer.

    Raises:
        RecordError: the model is unknown, or the curve has fewer than two sizes or several series.
    """
    if model not in MODELS:
        raise RecordError(f"model {model!r} is unknown; expected one of {', '.join(MODELS)}")
    data = data_of(curve, message_bytes)
    weights = least_weights(MODELS[model], data)
    drawn = draw_weights(MODELS[model], data, weights, draws, seed)
    return _fit(curve, data, [Member(model=MODELS[model], weights=weights, draws=drawn)], {})


def choose(curve: pd.DataFrame, draws: int = DRAWS, seed: int = 1, message_bytes: float | None = None) -> Fit:
    """Fit all models to a curve of one series and take the one that predicts best sizes that it has not seen.

    See `fitting.choose_weights` for the folds. The band is made of the draws of all models in proportion to
    1 / error^2, so that models that predict as well and go apart beyond the points widen it. Two sizes decide between
    no models: Amdahl's law is taken then, or Gustafson's for weak scaling.

    Raises:
        RecordError: as `fit`.
    """
    data = data_of(curve, message_bytes)
    simplest = "gustafson" if data.study.mode == "weak" else "amdahl"
    if len(data.workers) < 3:
        return fit(curve, simplest, draws, seed, message_bytes)
    names = [simplest, *(name for name in MODELS if name not in ("amdahl", "gustafson"))]
    ranked = choose_weights(data, names, draws, seed)
    # A perfect score of one model on exact points does not make the others impossible.
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
        study=data.study,
        baseline=baseline,
        measured=data.workers.astype(int),
        residuals=data.cost / best.model.cost(data.workers, best.weights, data.study) - 1,
        weights=best.weights,
        members=members,
        errors=errors,
    )


def _tails(level: float) -> tuple[float, float]:
    if not 0 < level < 1:
        raise RecordError(f"a confidence level of {level} was given; expected one between 0 and 1, such as 0.95")
    return (1 - level) / 2, (1 + level) / 2
