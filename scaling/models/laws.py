"""The models: seconds per event as a sum of known terms of the number of workers with weights that are not negative.

Every law here is linear in its weights, if not for the time then for the rate. That makes a fit fast, unique, and safe
at the bounds. What people know as its parameters are ratios of the weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from scaling.models.terms import allreduce_terms, expected_maximum

__all__ = ["MODELS", "Model", "Study"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """What stays when workers are added. Work is in events, or in epochs where events are not known."""

    mode: str = "fixed-local"
    """As in `metrics.MODES`."""
    batch: float | None = None
    """Work per worker and step, per step of all workers in strong scaling; None: the steps of an epoch are not known,
    and one stands for the whole epoch on one worker."""
    epoch: float = 1.0
    """Work per epoch; per epoch and worker in weak scaling."""
    whole_steps: bool = False
    """Whether an epoch drops the events that do not fill a global batch."""
    workers_per_node: float = 1.0
    nodes_known: bool = False
    """Whether the runs tell their nodes; else each worker counts as one."""
    message_bytes: float | None = None
    """Gradients that a step exchanges; with it the bandwidth is known from the time of transfer."""

    @classmethod
    def of(cls, curve: pd.DataFrame, message_bytes: float | None = None) -> Study:
        """The study that a curve of one series tells of."""
        mode = str(curve["mode"].iloc[0]) if "mode" in curve else "fixed-local"
        if not _known(curve, "events"):
            return cls(mode=mode, message_bytes=message_bytes, **_nodes(curve))
        size = "global_batch_size" if mode == "strong" else "batch_size"
        batch = float(curve[size].iloc[0]) if _known(curve, size) else None
        whole = mode == "fixed-local" and batch is not None and _known(curve, "train_events")
        per_worker = curve["events"] / (curve["workers"] if mode == "weak" else 1)
        epoch = float(curve["train_events"].max()) if whole else float(per_worker.max())
        return cls(
            mode=mode,
            batch=batch,
            epoch=epoch,
            whole_steps=whole,
            message_bytes=message_bytes,
            **_nodes(curve),
        )

    def work(self, workers: np.ndarray) -> np.ndarray:
        """Work of an epoch on each number of workers."""
        if self.mode == "weak":
            return self.epoch * workers
        if self.whole_steps and self.batch is not None:
            step = self.batch * workers
            return np.maximum(np.floor(self.epoch / step), 1) * step
        return np.full(len(workers), self.epoch)


def _known(curve: pd.DataFrame, column: str) -> bool:
    return column in curve and bool(curve[column].notna().all())


def _nodes(curve: pd.DataFrame) -> dict[str, Any]:
    if not _known(curve, "nodes"):
        return {}
    return {"workers_per_node": float((curve["workers"] / curve["nodes"].astype(float)).max()), "nodes_known": True}


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """A law of scaling."""

    name: str
    label: str
    """For people, such as the legend of a plot."""
    terms: Callable[[np.ndarray, Study], np.ndarray]
    """Workers, shape (n,), to columns, shape (n, k): seconds per work is columns @ weights, or its inverse."""
    parameters: Callable[[np.ndarray, Study], Mapping[str, np.ndarray]]
    """Weights, shape (draws, k), to named parameters, each of shape (draws,). Times in seconds, the rest are ratios."""
    of_rate: bool = False
    """Whether the terms sum to the rate (work per second) instead of the time."""

    def cost(self, workers: np.ndarray, weights: np.ndarray, study: Study) -> np.ndarray:
        """Seconds per work; weights of shape (..., k) give shape (..., n)."""
        with np.errstate(divide="ignore"):
            total = weights @ self.terms(np.asarray(workers, dtype=float), study).T
            return 1 / total if self.of_rate else total

    def seconds(self, workers: np.ndarray, weights: np.ndarray, study: Study) -> np.ndarray:
        """Seconds per epoch, shaped as `cost`."""
        return self.cost(workers, weights, study) * study.work(np.asarray(workers, dtype=float))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(whole > 0, part / whole, math.nan)


def _amdahl_terms(p: np.ndarray, study: Study) -> np.ndarray:
    return np.column_stack([1 / p, np.ones_like(p)])


def _amdahl_parameters(w: np.ndarray, study: Study) -> dict[str, np.ndarray]:
    total = w[:, 0] + w[:, 1]
    return {"one_worker_seconds": total * study.epoch, "serial_fraction": _ratio(w[:, 1], total)}


def _gustafson_terms(p: np.ndarray, study: Study) -> np.ndarray:
    return np.column_stack([p, np.ones_like(p)])


def _gustafson_parameters(w: np.ndarray, study: Study) -> dict[str, np.ndarray]:
    total = w[:, 0] + w[:, 1]
    return {
        "one_worker_seconds": _ratio(np.full(len(w), study.epoch), total),
        "serial_fraction": _ratio(w[:, 1], total),
    }


def _usl_terms(p: np.ndarray, study: Study) -> np.ndarray:
    return np.column_stack([1 / p, (p - 1) / p, p - 1])


def _usl_parameters(w: np.ndarray, study: Study) -> dict[str, np.ndarray]:
    one = w[:, 0]
    return {
        "one_worker_seconds": one * study.epoch,
        "contention": _ratio(w[:, 1], one),
        "coherency": _ratio(w[:, 2], one),
    }


def _training_terms(p: np.ndarray, study: Study, algorithm: str) -> np.ndarray:
    """Columns: computing of a step, its spread times the expected maximum, messages, volume, once per epoch."""
    messages, volume = allreduce_terms(p, study.workers_per_node, algorithm)
    step = study.batch or study.epoch
    if study.mode == "strong":
        share, step_work = 1 / p, np.full_like(p, step)
    else:
        share, step_work = np.ones_like(p), step * p
    per_step = np.column_stack([share, share * expected_maximum(p), messages, volume]) / step_work[:, None]
    return np.column_stack([per_step, 1 / study.work(p)])


def _training_parameters(w: np.ndarray, study: Study) -> dict[str, np.ndarray]:
    found = {
        "step_seconds": w[:, 0],
        "jitter": _ratio(w[:, 1], w[:, 0]),
        "latency_seconds": w[:, 2],
        "transfer_seconds": w[:, 3],
        "epoch_seconds": w[:, 4],
    }
    if study.message_bytes:
        found["bytes_per_second"] = _ratio(np.full(len(w), study.message_bytes), w[:, 3])
    return found


MODELS: Mapping[str, Model] = {
    model.name: model
    for model in (
        Model(name="amdahl", label="Amdahl's law", terms=_amdahl_terms, parameters=_amdahl_parameters),
        Model(
            name="gustafson",
            label="Gustafson's law",
            terms=_gustafson_terms,
            parameters=_gustafson_parameters,
            of_rate=True,
        ),
        Model(name="usl", label="Universal Scalability Law", terms=_usl_terms, parameters=_usl_parameters),
        Model(
            name="training-ring",
            label="training step with a ring allreduce",
            terms=lambda p, study: _training_terms(p, study, "ring"),
            parameters=_training_parameters,
        ),
        Model(
            name="training-tree",
            label="training step with a tree allreduce",
            terms=lambda p, study: _training_terms(p, study, "tree"),
            parameters=_training_parameters,
        ),
    )
}
"""From few weights to many.

Amdahl (AFIPS 1967): time = serial + parallel / p. Gustafson (CACM 31, 1988): rate = serial + parallel p. Universal
Scalability Law (Gunther, Guerrilla Capacity Planning, 2007): time = (1 + contention (p - 1) + coherency p (p - 1)) / p.
Training: a step computes as long as its slowest rank, then exchanges gradients with latency per message and the time to
move the buffer once (`transfer_seconds`: its bytes over the bandwidth); an epoch has a constant on top.
"""
