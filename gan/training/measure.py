"""What an epoch cost: each rank's own measurements and the epoch record that all of them make together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from gan.training.step import LOSSES
from scaling.records import Epoch, StepTimes

__all__ = ["SLOW", "EpochMeasure", "summarize"]

SLOW = 1.2
"""From this multiple of the median computing time on a rank is named: a synchronous training waits for it."""


@dataclass(slots=True)
class EpochMeasure:
    """One rank's epoch; small enough to be gathered from every rank."""

    host: str
    seconds: float = 0.0
    waited: float = 0.0
    exchanged: float = 0.0
    learning_rate: float = 0.0
    step_seconds: list[float] = field(default_factory=list)
    losses: np.ndarray = field(default_factory=lambda: np.zeros(len(LOSSES)))
    """Sums over the steps, of means over ranks; those of earlier parts of an interrupted epoch included."""
    resumed_steps: int = 0
    """Steps of the epoch that an earlier part of the run had done."""
    stopped: bool = False
    """Whether the training is to end here, in the middle of the epoch or after it."""

    def add_step(self, seconds: float, exchanged: float, losses: np.ndarray) -> None:
        self.step_seconds.append(seconds)
        self.exchanged += exchanged
        self.losses += losses[:, 0]

    def finish(self, *, seconds: float, waited: float, learning_rate: float) -> None:
        self.seconds, self.waited, self.learning_rate = seconds, waited, learning_rate

    @property
    def longest_step(self) -> float:
        """Seconds, the first step left out: in a process's first epoch it compiles."""
        return max(self.step_seconds[1:], default=0.0)

    @property
    def steps(self) -> int:
        """Steps of the epoch done so far, those of earlier parts included."""
        return self.resumed_steps + len(self.step_seconds)

    @property
    def computing(self) -> float:
        """Seconds that were this rank's own: neither waiting for events nor exchanging with (waiting for) others."""
        return self.seconds - self.waited - self.exchanged


def summarize(
    measures: Sequence[EpochMeasure],
    *,
    epoch: int,
    events: int,
    validation: Mapping[str, float],
    validation_seconds: float,
    checkpoint_seconds: float,
) -> Epoch:
    """The record of an epoch from the measurements of all ranks, in rank order."""
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
        losses={name: float(total / count) for name, total in zip(LOSSES, measures[0].losses, strict=True)},
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
        rank_step_seconds=[round(measure.computing / max(1, len(measure.step_seconds)), 6) for measure in measures],
    )


def _step_times(seconds: np.ndarray) -> StepTimes:
    if not len(seconds):  # an epoch interrupted after its last step, before its validation
        return StepTimes(median=math.nan, p95=math.nan, max=math.nan)
    return StepTimes(median=float(np.median(seconds)), p95=float(np.percentile(seconds, 95)), max=float(seconds.max()))
