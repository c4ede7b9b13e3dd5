"""The values that a user chooses for a training. Each is checked when the settings are created.

Ranks, cores and threads are not settings: the launcher decides them.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from gan.errors import InputError
from gan.models.registry import ARCHITECTURES, DEFAULT, architecture

__all__ = [
    "CELL_SCALES",
    "FAKES",
    "FILTERS",
    "LAST_ACTIVATIONS",
    "LATENTS",
    "LR_SCALINGS",
    "LR_SCHEDULES",
    "MODELS",
    "OPTIMIZERS",
    "PRECISIONS",
    "RECIPES",
    "TrainingSettings",
]

MODELS = tuple(ARCHITECTURES)
FILTERS = tuple(dict.fromkeys(name for each in ARCHITECTURES.values() for name in each.filters))
"""Names of the filter sets of all architectures. An architecture may have only some of them."""
RECIPES = tuple(dict.fromkeys(name for each in ARCHITECTURES.values() for name in each.recipes))
"""Names of the recipes of all architectures. An architecture may have only some of them."""
OPTIMIZERS = ("rmsprop", "adam")
PRECISIONS = ("fp32", "bf16", "bf16-full")
FAKES = ("inference", "training")
LATENTS = ("product", "sphere")
CELL_SCALES = ("gev", "rms")
LAST_ACTIVATIONS = ("relu", "leaky-start", "leaky-gradient")
LR_SCALINGS = ("linear", "sqrt", "none")
LR_SCHEDULES = ("constant", "exponential", "cosine", "plateau")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingSettings:
    """Settings of a training. The defaults are the settings of the 256-node runs on Stampede2.

    Use `TrainingSettings.of` for options of a user: it takes missing values from the recipe of the chosen model.

    Raises:
        InputError: a value is outside its range, or is not one of its choices.
    """

    model: str = DEFAULT.name
    """Name of the architecture."""
    recipe: str = "stampede2"
    """Name of the recipe from which the values came that the user did not choose."""
    filters: str = "16"
    """Name of a filter set of the architecture."""
    epochs: int = 25
    warmup_epochs: int = 5
    """Epochs in which the learning rate rises to its scaled value."""
    batch_size: int = 8
    """Events per worker and step."""
    learning_rate: float = 0.001
    """Learning rate of one worker. `lr_scaling` defines how the rate grows with the number of workers."""
    discriminator_rate: float = 1.0
    """Learning rate of the discriminator, relative to the generator's."""
    lr_scaling: str = "linear"
    lr_schedule: str = "constant"
    """Change of the learning rate after the warm-up: constant, exponential or plateau; or cosine, from the first
    step on."""
    lr_decay: float = 0.5
    """Factor on the learning rate after each epoch (exponential) or after each plateau (plateau)."""
    optimizer: str = "rmsprop"
    beta1: float = 0.9
    """Weight of the old value in Adam's mean gradient. RMSprop ignores it."""
    fakes: str = "inference"
    """Mode of the generator that makes showers for the discriminator. `inference`: as `predict` in the public training
    loop; `training`: as in the updates of the generator, with batch statistics and dropout."""
    generator_dropout: bool = True
    """Whether the generator has dropout in the training, if its architecture has it. Without dropout, only the latent
    vector can make showers differ."""
    generator_steps: int = 2
    """Updates of the generator for each batch."""
    loss_weights: str = "8,0.2,0.1"
    """Factor of each loss term of the architecture, separated by commas."""
    real_label: float = 1.0
    """Label of real showers for the discriminator. A value below 1 makes it less sure."""
    label_flip: float = 0.05
    """Probability that a label is flipped, so that the discriminator gets the wrong one."""
    input_noise: float = 0.0
    """Standard deviation of normal noise on the discriminator's input, in the numbers that the networks see."""
    latent: str = "product"
    """How the energy is put into the noise, see `models.latent.Latent.scaled`."""
    cell_scale: str = "gev"
    """Unit of the cells that the networks see and give, see `ops.scale.CellScale`."""
    cell_power: float = 1.0
    """Power of the cells that the networks see and give."""
    faint_cells: float = 0.0
    """Cell energy in GeV below which cells are almost invisible to the discriminator. With 0, it sees all cells."""
    last_activation: str = "relu"
    """Activation of the generator's last layer, see `ops.scale.CellOutput`."""
    energy_bound: float = 0.0
    """Largest deviation of a generated shower's visible energy from the fit to Geant4, as a difference of logarithms.
    With 0, there is no bound. It needs the latent input `sphere`."""
    shape_weight: float = 0.0
    """Factor of the shape term in the generator's loss, see `training.shapes.ShapeTerm`. With 0, there is no such
    term."""
    opening_epochs: int = 0
    """Epochs at the start with the opening energies of the architecture, and with `leaky-start`."""
    average: float = 0.0
    """Weight of the old value in the moving average of the generator's weights. The averaged generator is validated
    and generates. With 0, there is no average."""
    precision: str = "fp32"
    """`bf16`: mixed precision. `bf16-full`: also round the weights to BF16 after every update, for comparisons."""
    seed: int = 1
    events: int | None = None
    """Number of events to use, training and validation together. None means all events in the files."""
    validation_fraction: float = 0.1
    """Fraction of the events that is held out for validation."""
    virtual_workers: int = 1
    """Number of workers whose batches a rank computes one after another, see `training.virtual`."""
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
        name, recipe = architecture(chosen.get("model", DEFAULT.name)).recipe(chosen.get("recipe"))
        return cls(**{**recipe.values, **chosen, "recipe": name})

    def __post_init__(self) -> None:
        design = architecture(self.model)
        design.filter_set(self.filters)
        design.recipe(self.recipe)
        terms = "a number of 0 or more for each of " + ", ".join(term.name for term in design.losses)
        _check(
            "loss-weights",
            self.loss_weights,
            len(self.weights) == len(design.losses),
            terms,
        )
        _choice("fakes", self.fakes, FAKES)
        _choice("latent", self.latent, LATENTS)
        _choice("cell-scale", self.cell_scale, CELL_SCALES)
        _choice("last-activation", self.last_activation, LAST_ACTIVATIONS)
        _choice("optimizer", self.optimizer, OPTIMIZERS)
        _choice("precision", self.precision, PRECISIONS)
        _choice("lr-scaling", self.lr_scaling, LR_SCALINGS)
        _choice("lr-schedule", self.lr_schedule, LR_SCHEDULES)
        _check("epochs", self.epochs, self.epochs >= 1, "at least 1")
        _check("warmup-epochs", self.warmup_epochs, self.warmup_epochs >= 0, "0 or more")
        _check("batch-size", self.batch_size, self.batch_size >= 1, "at least 1")
        _check("learning-rate", self.learning_rate, 0 < self.learning_rate < 1, "between 0 and 1")
        _check("discriminator-rate", self.discriminator_rate, 0 < self.discriminator_rate < 100, "above 0, below 100")
        _check("beta1", self.beta1, 0 <= self.beta1 < 1, "0 or more, below 1")
        _check("generator-steps", self.generator_steps, self.generator_steps in (1, 2), "1 or 2")
        _check("real-label", self.real_label, 0.5 < self.real_label <= 1, "above 0.5, at most 1")
        _check("label-flip", self.label_flip, 0 <= self.label_flip < 0.5, "0 or more, below 0.5")
        _check("faint-cells", self.faint_cells, 0 <= self.faint_cells <= 1, "0 to 1 GeV")
        _check("input-noise", self.input_noise, 0 <= self.input_noise <= 10, "0 to 10")
        _check("cell-power", self.cell_power, 0 < self.cell_power <= 1, "above 0, at most 1")
        _check("energy-bound", self.energy_bound, 0 <= self.energy_bound <= 1, "0 to 1")
        bound_fits = not self.energy_bound or self.latent == "sphere"
        _check("energy-bound", self.energy_bound, bound_fits, "0 with --latent product")
        _check("shape-weight", self.shape_weight, 0 <= self.shape_weight <= 1000, "0 to 1000")
        # The term compares different showers of a batch.
        pairs = not self.shape_weight or self.batch_size >= 2
        _check("shape-weight", self.shape_weight, pairs, "0 with --batch-size 1")
        _check("opening-epochs", self.opening_epochs, self.opening_epochs >= 0, "0 or more")
        _check("average", self.average, 0 <= self.average < 1, "0 or more, below 1")
        _check("lr-decay", self.lr_decay, 0 < self.lr_decay <= 1, "above 0, at most 1")
        _check("virtual-workers", self.virtual_workers, 1 <= self.virtual_workers <= 4096, "1 to 4096")
        alone = self.virtual_workers == 1 or not self.sync_batchnorm
        _check("virtual-workers", self.virtual_workers, alone, "1 with --sync-batchnorm")
        _check("seed", self.seed, 0 <= self.seed < 2**32, "0 to 4294967295")
        _check("events", self.events, self.events is None or self.events >= 1, "at least 1")
        fraction = self.validation_fraction
        _check("validation-fraction", fraction, 0 <= fraction < 1, "0 or more, below 1")

    @property
    def weights(self) -> tuple[float, ...]:
        """Factor of each loss term. Empty if `loss_weights` is no list of finite numbers of 0 or more."""
        try:
            weights = tuple(float(weight) for weight in self.loss_weights.split(","))
        except ValueError:
            return ()
        return weights if all(0 <= weight < math.inf for weight in weights) else ()

    def as_dict(self) -> dict[str, Any]:
        """Return all settings by name, as records and checkpoints hold them."""
        return dataclasses.asdict(self)


def _choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    _check(name, repr(value), value in choices, "one of " + ", ".join(choices))


def _check(name: str, value: object, valid: bool, expected: str) -> None:
    if not valid:
        raise InputError(f"--{name} is {value}; expected {expected}: change --{name}")
