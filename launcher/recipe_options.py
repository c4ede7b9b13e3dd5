"""Options of a training whose defaults are in the recipes: networks, losses, optimizers, batch and schedule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from gan import settings as choices
from gan.models.registry import ARCHITECTURES, DEFAULT
from gan.settings import TrainingSettings

__all__ = ["recipe_options"]


def _option(name: str, kind: click.ParamType | type, text: str) -> Callable[..., Any]:
    """Return an option whose default is in the recipe. The command receives None if the user did not choose a value.

    Args:
        name: name of the option, such as `--learning-rate`.
        kind: type of its value.
        text: help without the default.
    """
    return click.option(name, type=kind, help=f"{text}  [default: {_defaults(name.lstrip('-').replace('-', '_'))}]")


_SETTINGS = {
    (each.name, name): TrainingSettings.of(model=each.name, recipe=name)
    for each in ARCHITECTURES.values()
    for name in each.recipes
}
"""Settings of all recipes, by the names of the architecture and of the recipe."""


def _defaults(field: str) -> str:
    """Return the default of a setting, and the recipes that have another one."""
    values = {names: getattr(settings, field) for names, settings in _SETTINGS.items()}
    usual = values[DEFAULT.name, DEFAULT.recipe(None)[0]]
    others = [
        f"{value} for {f'{name} of {model}' if name == 'default' else name}"
        for (model, name), value in values.items()
        if value != usual
    ]
    return ", ".join([str(usual), *others])


_OPTIONS = (
    _option(
        "--filters",
        click.Choice(choices.FILTERS),
        "Number of filters in the middle layers. 16: multiples of 16, fast with oneDNN; original: as published.",
    ),
    _option("--epochs", int, "Number of epochs in total, including epochs before a resume."),
    _option(
        "--warmup-epochs",
        int,
        "Number of epochs in which the learning rate rises from the rate of one worker to the scaled rate.",
    ),
    _option("--batch-size", int, "Events per worker and step."),
    _option("--optimizer", click.Choice(choices.OPTIMIZERS), "Optimizer of both networks."),
    _option("--beta1", float, "Weight of the old value in Adam's mean gradient, 0 or more and below 1."),
    _option("--learning-rate", float, "Learning rate of the generator on one worker, before scaling."),
    _option("--discriminator-rate", float, "Learning rate of the discriminator, divided by that of the generator."),
    _option(
        "--lr-scaling",
        click.Choice(choices.LR_SCALINGS),
        "Factor on the learning rate for N workers: N (linear), the square root of N (sqrt) or 1 (none).",
    ),
    _option(
        "--lr-schedule",
        click.Choice(choices.LR_SCHEDULES),
        "Learning rate after the warm-up: constant, lower after every epoch (exponential), or lower when the "
        "validation stops improving (plateau). cosine: down to 0 at the end of the last epoch, from the first step on.",
    ),
    _option("--lr-decay", float, "Factor on the learning rate after each epoch (exponential) or plateau."),
    _option(
        "--fakes",
        click.Choice(choices.FAKES),
        "Mode of the generator that makes showers for the discriminator. inference: moving statistics, no dropout; "
        "training: as in the updates of the generator.",
    ),
    _option(
        "--generator-dropout",
        bool,
        "Whether the generator of conv2d has dropout in the training. Without it, only the latent vector can make "
        "showers differ.",
    ),
    _option("--generator-steps", int, "Updates of the generator for each batch."),
    _option(
        "--loss-weights",
        str,
        "Factors of the three loss terms, separated by commas: real or generated, primary energy, visible energy.",
    ),
    _option("--real-label", float, "Label of real showers for the discriminator, above 0.5 and at most 1."),
    _option("--label-flip", float, "Probability, below 0.5, that the discriminator gets the wrong label."),
    _option(
        "--input-noise",
        float,
        "Standard deviation of the noise on the discriminator's input, in the numbers that the networks see; 0: none. "
        "It keeps the discriminator from winning.",
    ),
    _option(
        "--latent",
        click.Choice(choices.LATENTS),
        "Input of the generator. product: noise times energy, as published; sphere: noise on a sphere whose radius "
        "is a power of the energy.",
    ),
    _option(
        "--cell-scale",
        click.Choice(choices.CELL_SCALES),
        "Unit of the cells that the networks see and give. gev: 1 GeV; rms: the root mean square of each cell in the "
        "training data.",
    ),
    _option("--cell-power", float, "Power of the cells that the networks see and give, above 0 and at most 1."),
    _option(
        "--faint-cells",
        float,
        "Cell energy in GeV below which cells are almost invisible to the discriminator; 0: it sees all cells.",
    ),
    _option(
        "--last-activation",
        click.Choice(choices.LAST_ACTIVATIONS),
        "Activation of the generator's last layer. relu: ReLU; leaky-start: LeakyReLU in the opening epochs, then "
        "ReLU; leaky-gradient: ReLU with a small gradient below zero.",
    ),
    _option(
        "--energy-bound",
        float,
        "Largest deviation of a generated shower's visible energy from the fit to Geant4, as a difference of "
        "logarithms, 0 to 1; 0: no bound. It needs --latent sphere.",
    ),
    _option(
        "--shape-weight",
        float,
        "Factor of the shape term in the generator's loss, which compares mean profiles and cell energies with those "
        "of the training data; 0: no such term.",
    ),
    _option(
        "--opening-epochs",
        int,
        "Epochs at the start in which the generator makes only energies from the middle of the range.",
    ),
    _option(
        "--average",
        float,
        "Weight of the old value in a moving average of the generator's weights, which is then validated and "
        "generates. 0: no average.",
    ),
)


def recipe_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add all options of this module, and `--recipe`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    titles = {name: recipe.title for each in ARCHITECTURES.values() for name, recipe in each.recipes.items()}
    described = "; ".join(f"{name}: {title}" for name, title in titles.items())
    return click.option(
        "--recipe",
        type=click.Choice(choices.RECIPES),
        help=f"Source of the defaults of the options from --filters to --average. {described}.  "
        f"[default: {DEFAULT.recipe(None)[0]}]",
    )(command)
