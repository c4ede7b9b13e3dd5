"""Runs for tests, as the readers of logs return them. Fields that are not given have realistic values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scaling.runs import EpochTimes, RunLog

SETTINGS = {"model": "conv3d", "filters": "16", "precision": "fp32"}


def log(
    workers: int,
    seconds: Sequence[float],
    events: int | None = 9000,
    name: str = "",
    times: Mapping[str, Any] | None = None,
    **fields: Any,
) -> RunLog:
    """Return a complete run with one epoch for each value of `seconds`. `times` are further fields of all epochs."""
    values: dict[str, Any] = {
        "source": f"{name or f'run-{workers}'}/run.jsonl",
        "format": "record",
        "workers": workers,
        "nodes": (workers + 3) // 4,
        "cores_per_node": 48,
        "batch_size": 8,
        "global_batch_size": 8 * workers,
        "train_events": 9000,
        "settings": SETTINGS,
        "status": "complete",
        "epochs": [
            EpochTimes(epoch=i, seconds=s, events=events, **(times or {})) for i, s in enumerate(seconds, start=1)
        ],
    }
    return RunLog(**{**values, **fields})
