"""What a training is asked to do: the values a user chooses, checked as soon as they are given.

Where the training runs (ranks, cores, threads) is the launcher's business; nothing here depends on it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from gan.errors import InputError

__all__ = ["FILTERS", "LR_SCALINGS", "LR_SCHEDULES", "MODELS", "OPTIMIZERS", "PRECISIONS", "TrainingSettings"]

MODELS = ("conv3d",)
FILTERS = ("16", "original")
OPTIMIZERS = ("rmsprop", "adam")
PRECISIONS = ("fp32", "bf16", "bf16-full")
LR_SCALINGS = ("linear", "sqrt", "none")
LR_SCHEDULES = ("constant", "exponential", "plateau")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingSettings:
    """The defaults are those of the 256-node runs on Stampede2.

    Raises:
        InputError: a value is outside its range or not one of its choices.
    """

    model: str = "conv3d"
    filters: str = "16"
    """`16`: multiples of 16 for oneDNN; `original`: 6 in the generator, 8 in the discriminator."""
    epochs: int = 25
    warmup_epochs: int = 5
    batch_size: int = 8
    """Events per worker and step."""
    learning_rate: float = 0.001
    """Of one worker; `lr_scaling` says what more workers make of it."""
    lr_scaling: str = "linear"
    lr_schedule: str = "constant"
    """After the warm-up."""
    lr_decay: float = 0.5
    """Factor per epoch (exponential) or at each plateau."""
    optimizer: str = "rmsprop"
    precision: str = "fp32"
    """`bf16`: mixed precision; `bf16-full`: weights are rounded to BF16 after every update too, to compare with."""
    seed: int = 1
    events: int | None = None
    """Events to use of those in the files, training and validation together; all by default."""
    validation_fraction: float = 0.1
    sync_batchnorm: bool = False
    """Batch statistics over the global batch instead of each worker's part of it."""
    deterministic: bool = False
    """TensorFlow operations that give the same bits every time."""

    def __post_init__(self) -> None:
        _choice("model", self.model, MODELS)
        _choice("filters", self.filters, FILTERS)
        _choice("optimizer", self.optimizer, OPTIMIZERS)
        _choice("precision", self.precision, PRECISIONS)
        _choice("lr-scaling", self.lr_scaling, LR_SCALINGS)
        _choice("lr-schedule", self.lr_schedule, LR_SCHEDULES)
        _check("epochs", self.epochs, self.epochs >= 1, "at least 1")
        _check("warmup-epochs", self.warmup_epochs, self.warmup_epochs >= 0, "0 or more")
        _check("batch-size", self.batch_size, self.batch_size >= 1, "at least 1")
        _check("learning-rate", self.learning_rate, 0 < self.learning_rate < 1, "between 0 and 1")
        _check("lr-decay", self.lr_decay, 0 < self.lr_decay <= 1, "above 0, at most 1")
        _check("seed", self.seed, 0 <= self.seed < 2**32, "0 to 4294967295")
        _check("events", self.events, self.events is None or self.events >= 1, "at least 1")
        fraction = self.validation_fraction
        _check("validation-fraction", fraction, 0 <= fraction < 1, "0 or more, below 1")

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def _choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    _check(name, repr(value), value in choices, "one of " + ", ".join(choices))


def _check(name: str, value: object, right: bool, expected: str) -> None:
    if not right:
        raise InputError(f"--{name} is {value}; expected {expected}")
