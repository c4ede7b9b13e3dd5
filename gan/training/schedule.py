"""The learning rate at every step: warm-up, then constant, exponential or on plateaus. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gan.settings import TrainingSettings

__all__ = ["LearningRate", "scaling_factor"]

PATIENCE = 3
"""Epochs without a better validation before a plateau is declared."""


def scaling_factor(lr_scaling: str, workers: int) -> float:
    """What the learning rate is multiplied with on `workers` workers.

    linear: Goyal et al. 2017, for SGD; sqrt: Malladi et al. NeurIPS 2022, for RMSprop and Adam; none: 1.
    """
    return {"linear": float(workers), "sqrt": math.sqrt(workers), "none": 1.0}[lr_scaling]


@dataclass(frozen=True, kw_only=True, slots=True)
class LearningRate:
    """The rate of one worker rises batch by batch to `factor` times itself during the warm-up."""

    base: float
    factor: float
    warmup_epochs: int
    steps_per_epoch: int
    schedule: str = "constant"
    decay: float = 0.5

    @classmethod
    def of(cls, settings: TrainingSettings, *, workers: int, steps_per_epoch: int) -> LearningRate:
        return cls(
            base=settings.learning_rate,
            factor=scaling_factor(settings.lr_scaling, workers),
            warmup_epochs=settings.warmup_epochs,
            steps_per_epoch=steps_per_epoch,
            schedule=settings.lr_schedule,
            decay=settings.lr_decay,
        )

    def at(self, epoch: int, step: int, validation_errors: Sequence[float] = ()) -> float:
        """The rate of a step.

        Args:
            epoch: counted from 0.
            step: within the epoch, counted from 0.
            validation_errors: of the epochs before this one; only plateaus look at them.
        """
        progress = epoch + step / self.steps_per_epoch
        if progress < self.warmup_epochs:
            return self.base * (1 + (self.factor - 1) * progress / self.warmup_epochs)
        full = self.base * self.factor
        if self.schedule == "exponential":
            return full * self.decay ** (epoch - self.warmup_epochs)
        if self.schedule == "plateau":
            return full * self.decay ** plateaus(validation_errors[self.warmup_epochs :])
        return full


def plateaus(errors: Sequence[float], patience: int = PATIENCE) -> int:
    """How often `patience` epochs in a row brought no new lowest error."""
    count = waited = 0
    best = math.inf
    for error in errors:
        if error < best:
            best, waited = error, 0
            continue
        waited += 1
        if waited == patience:
            count, waited = count + 1, 0
    return count
