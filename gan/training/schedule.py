"""The learning rate of every step: warm-up and constant, exponential, cosine, or lower after plateaus."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gan.settings import TrainingSettings

__all__ = ["LearningRate", "scaling_factor"]

PATIENCE = 3
"""Number of consecutive epochs without a smaller shower distance that make a plateau."""


def scaling_factor(lr_scaling: str, workers: int) -> float:
    """Return the factor of the learning rate on `workers` workers.

    `linear`: the number of workers (Goyal et al. 2017, for SGD). `sqrt`: its square root (Malladi et al., NeurIPS 2022,
    for RMSprop and Adam). `none`: 1.
    """
    return {"linear": float(workers), "sqrt": math.sqrt(workers), "none": 1.0}[lr_scaling]


@dataclass(frozen=True, kw_only=True, slots=True)
class LearningRate:
    """A learning rate that rises batch by batch from `base` to `base * factor` during the warm-up."""

    base: float
    """Learning rate of one worker."""
    factor: float
    """Factor for the number of workers, see `scaling_factor`."""
    warmup_epochs: int
    steps_per_epoch: int
    epochs: int = 1
    """Number of epochs in total. Only the cosine schedule uses it."""
    schedule: str = "constant"
    decay: float = 0.5

    @classmethod
    def of(cls, settings: TrainingSettings, *, workers: int, steps_per_epoch: int) -> LearningRate:
        return cls(
            base=settings.learning_rate,
            factor=scaling_factor(settings.lr_scaling, workers),
            warmup_epochs=settings.warmup_epochs,
            steps_per_epoch=steps_per_epoch,
            epochs=settings.epochs,
            schedule=settings.lr_schedule,
            decay=settings.lr_decay,
        )

    def at(self, epoch: int, step: int, distances: Sequence[float] = ()) -> float:
        """Return the learning rate of a step.

        Args:
            epoch: number of the epoch, from 0.
            step: number of the step within the epoch, from 0.
            distances: shower distances of the earlier epochs, NaN if unknown. Only the plateau schedule uses them.
        """
        progress = epoch + step / self.steps_per_epoch
        full = self.base * self.factor
        warming = progress < self.warmup_epochs
        rate = self.base * (1 + (self.factor - 1) * progress / self.warmup_epochs) if warming else full
        if self.schedule == "cosine":
            # Also during the warm-up, so that a short training ends with a small rate.
            return rate * (1 + math.cos(math.pi * min(progress / self.epochs, 1))) / 2
        if warming:
            return rate
        if self.schedule == "exponential":
            return full * self.decay ** (epoch - self.warmup_epochs)
        if self.schedule == "plateau":
            return full * self.decay ** plateaus(distances[self.warmup_epochs :])
        return full


def plateaus(distances: Sequence[float], patience: int = PATIENCE) -> int:
    """Return the number of plateaus: times that `patience` consecutive epochs had no new smallest distance.

    Epochs without a distance do not count.
    """
    count = waited = 0
    best = math.inf
    for distance in distances:
        if math.isnan(distance):
            continue
        if distance < best:
            best, waited = distance, 0
            continue
        waited += 1
        if waited == patience:
            count, waited = count + 1, 0
    return count
