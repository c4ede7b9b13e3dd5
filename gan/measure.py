"""What an epoch cost: each rank's own measurements and the epoch record that all of them make together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from gan.step import LOSSES
from scaling.records import Epoch, StepTimes

__all__ = ["EpochMeasure", "summarize"]


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
    """Sums over the steps, of means over ranks."""

    def add_step(self, seconds: float, exchanged: float, losses: np.ndarray) -> None:
        self.step_seconds.append(seconds)
        self.exchanged += exchanged
        self.losses += losses[:, 0]

    def finish(self, *, seconds: float, waited: float, learning_rate: float) -> None:
        self.seconds, self.waited, self.learning_rate = seconds, waited, learning_rate

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
    count = len(measures[0].step_seconds)
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
        step_seconds=StepTimes(
            median=float(np.median(steps)), p95=float(np.percentile(steps, 95)), max=float(steps.max())
        ),
        slowest_rank=slowest,
        slowest_host=measures[slowest].host,
        slowest_ratio=float(computing[slowest] / np.median(computing)),
        validation=dict(validation),
    )
