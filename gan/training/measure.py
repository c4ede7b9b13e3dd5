"""The cost of an epoch: measurements on each rank, and the epoch record that combines all ranks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from gan.training.step import LOSSES
from scaling.records import Epoch, StepTimes

__all__ = ["SLOW", "EpochMeasure", "summarize"]

SLOW = 1.2
"""Smallest ratio of a rank's computing time to the median for which the rank is reported: all others wait for it."""


@dataclass(slots=True)
class EpochMeasure:
    """Measurements of one epoch on one rank. They are small, because rank 0 gathers them from all ranks."""

    host: str
    seconds: float = 0.0
    """Seconds of all steps together."""
    waited: float = 0.0
    """Seconds of waiting for batches."""
    exchanged: float = 0.0
    """Seconds in exchanges with other ranks, including the wait for them."""
    learning_rate: float = 0.0
    step_seconds: list[float] = field(default_factory=list)
    losses: np.ndarray = field(default_factory=lambda: np.zeros(len(LOSSES)))
    """Sum of the losses over the steps for each update, also before an interruption. A loss is a mean over ranks."""
    resumed_steps: int = 0
    """Steps of this epoch that an earlier job had completed."""
    warnings: list[str] = field(default_factory=list)
    """Warnings of the alarms, only on rank 0."""
    stopped: bool = False
    """True if the training stops here, within the epoch or after it."""

    def add_step(self, seconds: float, exchanged: float, losses: np.ndarray) -> None:
        """Add a step: its seconds, its seconds in exchanges, and `StepResult.losses`."""
        self.step_seconds.append(seconds)
        self.exchanged += exchanged
        self.losses[: len(losses)] += losses[:, 0]

    def finish(self, *, seconds: float, waited: float, learning_rate: float) -> None:
        """Add the values that are known only at the end of the epoch."""
        self.seconds, self.waited, self.learning_rate = seconds, waited, learning_rate

    @property
    def longest_step(self) -> float:
        """Seconds of the longest step after the first one. The first step of a process includes the compilation."""
        return max(self.step_seconds[1:], default=0.0)

    @property
    def steps(self) -> int:
        """Number of complete steps of the epoch, including steps in earlier jobs."""
        return self.resumed_steps + len(self.step_seconds)

    @property
    def computing(self) -> float:
        """Seconds of computing on this rank, without waiting for events and without exchanges."""
        return self.seconds - self.waited - self.exchanged


def summarize(
    measures: Sequence[EpochMeasure],
    *,
    epoch: int,
    events: int,
    validation: Mapping[str, float],
    validation_seconds: float,
    checkpoint_seconds: float,
    updates: int = len(LOSSES),
) -> Epoch:
    """Return the record of an epoch.

    Args:
        measures: measurements of all ranks, in rank order.
        epoch: number of the epoch, from 1.
        events: events that this job processed in the epoch.
        validation: result of `validation.Validation.evaluate`.
        validation_seconds: seconds of the validation.
        checkpoint_seconds: seconds of the checkpoint.
        updates: number of updates in a step.
    """
    steps = np.concatenate([measure.step_seconds for measure in measures])
    computing = np.array([measure.computing for measure in measures])
    slowest = int(np.argmax(computing))
    median = float(np.median(computing))
    ratios = computing / median if median > 0 else np.ones(len(measures))
    count = measures[0].steps
    return Epoch(
        epoch=epoch,
        seconds=max(measure.seconds for measure in measures),
        validation_seconds=validation_seconds,
        checkpoint_seconds=checkpoint_seconds,
        input_seconds=float(np.mean([measure.waited for measure in measures])),
        communication_seconds=float(np.mean([measure.exchanged for measure in measures])),
        events=events,
        steps=count,
        learning_rate=measures[0].learning_rate,
        losses={name: float(total / count) for name, total in zip(LOSSES[:updates], measures[0].losses, strict=False)},
        step_seconds=_step_times(steps),
        slowest_rank=slowest,
        slowest_host=measures[slowest].host,
        slowest_ratio=float(ratios[slowest]),
        validation=dict(validation),
        resumed_steps=measures[0].resumed_steps,
        slow_ranks=[
            {"rank": int(rank), "host": measures[rank].host, "ratio": round(float(ratios[rank]), 3)}
            for rank in np.argsort(-ratios)
            if ratios[rank] >= SLOW
        ],
        warnings=list(measures[0].warnings),
        rank_step_seconds=[round(measure.computing / max(1, len(measure.step_seconds)), 6) for measure in measures],
    )


def _step_times(seconds: np.ndarray) -> StepTimes:
    if not len(seconds):  # interrupted after the last step of the epoch and before its validation
        return StepTimes(median=math.nan, p95=math.nan, max=math.nan)
    return StepTimes(median=float(np.median(seconds)), p95=float(np.percentile(seconds, 95)), max=float(seconds.max()))
