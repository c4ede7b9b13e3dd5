"""The models: seconds per event as a sum of known functions of the number of workers, with weights of 0 or more.

Each law is linear in its weights, either in the time or in the rate. Therefore a fit is fast, has one solution, and is
stable at the bounds. The usual parameters of a law are ratios of its weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from scaling.models.terms import allreduce_terms, expected_maximum

__all__ = ["MODELS", "PARAMETERS", "Model", "Workload"]

PARAMETERS: Mapping[str, str] = {
    "one_worker_seconds": "time of an epoch on one worker (s)",
    "serial_fraction": "fraction of the work that does not become faster with more workers",
    "contention": "relative cost of each further worker for shared resources",
    "coherency": "relative cost of each pair of workers for keeping data consistent",
    "step_seconds": "computing time of a step (s)",
    "jitter": "relative variation of the computing time between ranks",
    "latency_seconds": "time of one message between nodes (s)",
    "transfer_seconds": "time to move the gradients once through the link of a node (s)",
    "epoch_seconds": "time of an epoch outside its steps (s)",
    "bytes_per_second": "bandwidth of the link of a node (bytes/s)",
}
"""Meaning of each parameter of a model."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """The work of an epoch on any number of workers, in events, or in epochs if the events are not known."""

    mode: str = "fixed-local"
    """One of `runs.MODES`."""
    batch: float | None = None
    """Work of a step per worker, or in strong scaling over all workers. None if the steps of an epoch are not known:
    the whole epoch on one worker then counts as one step."""
    epoch: float = 1.0
    """Work of an epoch; in weak scaling per worker."""
    whole_steps: bool = False
    """Whether an epoch leaves out the events that do not fill a global batch."""
    workers_per_node: float = 1.0
    nodes_known: bool = False
    """Whether the runs record their nodes. Otherwise each worker counts as a node."""
    message_bytes: float | None = None
    """Bytes of gradients in a step. If it is known, the bandwidth follows from the transfer time."""

    @classmethod
    def of(cls, curve: pd.DataFrame, message_bytes: float | None = None) -> Workload:
        """Derive the workload from the result of `metrics.curve` for one series."""
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
        """Return the work of an epoch on each number of workers."""
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
    """Name in words, such as `Amdahl's law`."""
    terms: Callable[[np.ndarray, Workload], np.ndarray]
    """Function from workers, shape (n,), to columns, shape (n, k). The product columns @ weights
    gives the seconds per unit of work. If `of_rate` is true, it gives units of work per second."""
    parameters: Callable[[np.ndarray, Workload], Mapping[str, np.ndarray]]
    """Function from weights, shape (draws, k), to named parameters, each of shape (draws,). Parameters `*_seconds` are
    times, `bytes_per_second` is a bandwidth, and the others are ratios."""
    of_rate: bool = False
    """Whether the sum of the terms is the rate (work per second) instead of seconds per work."""

    def cost(self, workers: np.ndarray, weights: np.ndarray, workload: Workload) -> np.ndarray:
        """Return seconds per work. Weights of shape (..., k) and n workers give shape (..., n)."""
        with np.errstate(divide="ignore"):
            total = weights @ self.terms(np.asarray(workers, dtype=float), workload).T
            return 1 / total if self.of_rate else total

    def seconds(self, workers: np.ndarray, weights: np.ndarray, workload: Workload) -> np.ndarray:
        """Return seconds per epoch, in the shape of `cost`."""
        return self.cost(workers, weights, workload) * workload.work(np.asarray(workers, dtype=float))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(whole > 0, part / whole, math.nan)


def _amdahl_terms(p: np.ndarray, workload: Workload) -> np.ndarray:
    return np.column_stack([1 / p, np.ones_like(p)])


def _amdahl_parameters(w: np.ndarray, workload: Workload) -> dict[str, np.ndarray]:
    total = w[:, 0] + w[:, 1]
    return {"one_worker_seconds": total * workload.epoch, "serial_fraction": _ratio(w[:, 1], total)}


def _gustafson_terms(p: np.ndarray, workload: Workload) -> np.ndarray:
    return np.column_stack([p, np.ones_like(p)])


def _gustafson_parameters(w: np.ndarray, workload: Workload) -> dict[str, np.ndarray]:
    total = w[:, 0] + w[:, 1]
    return {
        "one_worker_seconds": _ratio(np.full(len(w), workload.epoch), total),
        "serial_fraction": _ratio(w[:, 1], total),
    }


def _usl_terms(p: np.ndarray, workload: Workload) -> np.ndarray:
    return np.column_stack([1 / p, (p - 1) / p, p - 1])


def _usl_parameters(w: np.ndarray, workload: Workload) -> dict[str, np.ndarray]:
    one = w[:, 0]
    return {
        "one_worker_seconds": one * workload.epoch,
        "contention": _ratio(w[:, 1], one),
        "coherency": _ratio(w[:, 2], one),
    }


def _training_terms(p: np.ndarray, workload: Workload, algorithm: str) -> np.ndarray:
    """Return columns for computing in a step, its spread (times expected maximum), messages, volume, epoch constant."""
    messages, volume = allreduce_terms(p, workload.workers_per_node, algorithm)
    step = workload.batch or workload.epoch
    if workload.mode == "strong":
        share, step_work = 1 / p, np.full_like(p, step)
    else:
        share, step_work = np.ones_like(p), step * p
    per_step = np.column_stack([share, share * expected_maximum(p), messages, volume]) / step_work[:, None]
    return np.column_stack([per_step, 1 / workload.work(p)])


def _training_parameters(w: np.ndarray, workload: Workload) -> dict[str, np.ndarray]:
    parameters = {
        "step_seconds": w[:, 0],
        "jitter": _ratio(w[:, 1], w[:, 0]),
        "latency_seconds": w[:, 2],
        "transfer_seconds": w[:, 3],
        "epoch_seconds": w[:, 4],
    }
    if workload.message_bytes:
        parameters["bytes_per_second"] = _ratio(np.full(len(w), workload.message_bytes), w[:, 3])
    return parameters


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
            terms=lambda p, workload: _training_terms(p, workload, "ring"),
            parameters=_training_parameters,
        ),
        Model(
            name="training-tree",
            label="training step with a tree allreduce",
            terms=lambda p, workload: _training_terms(p, workload, "tree"),
            parameters=_training_parameters,
        ),
    )
}
"""The models by name, sorted by number of weights.

- Amdahl (AFIPS 1967): time = serial + parallel / p.
- Gustafson (CACM 31, 1988): rate = serial + parallel p.
- Universal Scalability Law (Gunther, Guerrilla Capacity Planning, 2007):
  time = (1 + contention (p - 1) + coherency p (p - 1)) / p.
- Training: a step takes the computing time of its slowest rank, a latency for each message, and the volume times the
  time to move the buffer once (`transfer_seconds`, the bytes over the bandwidth). Each epoch adds a constant.
"""
