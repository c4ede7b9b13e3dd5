"""The values that a user chooses for a training. Each is checked when the settings are created.

Ranks, cores and threads are not settings: the launcher decides them.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from gan.errors import InputError
from gan.models.registry import ARCHITECTURES, DEFAULT, architecture

__all__ = ["FILTERS", "LR_SCALINGS", "LR_SCHEDULES", "MODELS", "OPTIMIZERS", "PRECISIONS", "TrainingSettings"]

MODELS = tuple(ARCHITECTURES)
FILTERS = tuple(dict.fromkeys(name for each in ARCHITECTURES.values() for name in each.filters))
"""Names of the filter sets of all architectures. An architecture may have only some of them."""
OPTIMIZERS = ("rmsprop", "adam")
PRECISIONS = ("fp32", "bf16", "bf16-full")
LR_SCALINGS = ("linear", "sqrt", "none")
LR_SCHEDULES = ("constant", "exponential", "plateau")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingSettings:
    """Settings of a training. The defaults are the settings of the 256-node runs on Stampede2.

    Use `TrainingSettings.of` for options of a user: it takes missing values from the recipe of the chosen model.

    Raises:
        InputError: a value is outside its range, or is not one of its choices.
    """

    model: str = DEFAULT.name
    """Name of the architecture."""
    filters: str = DEFAULT.recipe.filters
    """Name of a filter set of the architecture."""
    epochs: int = 25
    warmup_epochs: int = 5
    """Epochs in which the learning rate rises to its scaled value."""
    batch_size: int = 8
    """Events per worker and step."""
    learning_rate: float = DEFAULT.recipe.learning_rate
    """Learning rate of one worker. `lr_scaling` defines how the rate grows with the number of workers."""
    lr_scaling: str = "linear"
    lr_schedule: str = "constant"
    """Change of the learning rate after the warm-up: constant, exponential or plateau."""
    lr_decay: float = 0.5
    """Factor on the learning rate after each epoch (exponential) or after each plateau (plateau)."""
    optimizer: str = DEFAULT.recipe.optimizer
    precision: str = "fp32"
    """`bf16`: mixed precision. `bf16-full`: also round the weights to BF16 after every update, for comparisons."""
    seed: int = 1
    events: int | None = None
    """Number of events to use, training and validation together. None means all events in the files."""
    validation_fraction: float = 0.1
    """Fraction of the events that is held out for validation."""
    sync_batchnorm: bool = False
    """Whether the batch statistics cover the global batch instead of each worker's part of it."""
    deterministic: bool = False
    """Whether to use only TensorFlow operations that give the same bits every time."""
    stop_when_dead: bool = True
    """Whether to end the training if the generator gives no output during a whole epoch."""

    @classmethod
    def of(cls, **options: Any) -> TrainingSettings:
        """Create settings from options. An option that is None takes its default or the value of the model's recipe."""
        chosen = {name: value for name, value in options.items() if value is not None}
        recipe = dataclasses.asdict(architecture(chosen.get("model", DEFAULT.name)).recipe)
        return cls(**{**recipe, **chosen})

    def __post_init__(self) -> None:
        architecture(self.model).filter_set(self.filters)
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
        """Return all settings by name, as records and checkpoints hold them."""
        return dataclasses.asdict(self)


def _choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    _check(name, repr(value), value in choices, "one of " + ", ".join(choices))


def _check(name: str, value: object, valid: bool, expected: str) -> None:
    if not valid:
        raise InputError(f"--{name} is {value}; expected {expected}: change --{name}")
