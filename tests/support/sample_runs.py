"""Records of runs for tests. Fields that are not given have usual values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scaling.records import End, Epoch, Header, RecordWriter, Run, StepTimes

SETTINGS = {
    "model": "conv3d",
    "filters": "16",
    "precision": "fp32",
    "batch_size": 8,
    "optimizer": "rmsprop",
    "learning_rate": 0.001,
    "lr_scaling": "linear",
    "events": None,
    "validation_fraction": 0.1,
    "seed": 1,
    "epochs": 25,
    "sync_batchnorm": False,
}


def header(workers: int = 1, settings: dict[str, Any] | None = None, **fields: Any) -> Header:
    """Return the header of a run. `settings` replace the usual settings."""
    values: dict[str, Any] = {
        "started": "2026-11-21T08:00:00+00:00",
        "workers": workers,
        "nodes": (workers + 3) // 4,
        "batch_size": 8,
        "global_batch_size": 8 * workers,
        "train_events": 9000,
        "validation_events": 1000,
        "settings": {**SETTINGS, **(settings or {})},
        "files": ({"path": "/data/showers_0.h5", "events": 10000},),
    }
    return Header(**{**values, **fields})


def epoch(number: int, seconds: float = 10.0, events: int = 9000, **fields: Any) -> Epoch:
    values: dict[str, Any] = {
        "epoch": number,
        "seconds": seconds,
        "validation_seconds": 100.0,
        "checkpoint_seconds": 100.0,
        "input_seconds": 0.1,
        "communication_seconds": 0.2,
        "events": events,
        "steps": 10,
        "learning_rate": 0.001,
        "losses": {"generator": 1.5, "discriminator": 0.5},
        "step_seconds": StepTimes(median=0.1, p95=0.2, max=0.3),
        "slowest_rank": 0,
        "slowest_host": "c001",
        "slowest_ratio": 1.1,
    }
    return Epoch(**{**values, **fields})


def end(epochs: int, status: str = "complete") -> End:
    return End(status=status, ended="2026-11-21T09:00:00+00:00", seconds=3600.0, epochs=epochs)


def write(folder: Path, *records: Header | Epoch | End) -> Path:
    """Write `records` to run.jsonl in `folder` and return its path."""
    writer = RecordWriter(folder / "run.jsonl")
    for record in records:
        writer.write(record)
    writer.close()
    return writer.path


def run(workers: int, seconds: Sequence[float], events: int = 9000, name: str = "", **fields: Any) -> Run:
    """Return a complete run in memory with one epoch per value of `seconds`."""
    return Run(
        path=Path(name or f"run-{workers}") / "run.jsonl",
        header=header(workers, **fields),
        epochs=tuple(epoch(i, s, events) for i, s in enumerate(seconds, start=1)),
        end=end(len(seconds)),
    )
