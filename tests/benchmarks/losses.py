"""The losses of our step against the plain Keras loop's, with the same weights, events and random numbers, in FP32.

In the first steps they are the same but for rounding. RMSprop divides each gradient by its own size, so a gradient that
is nothing but rounding still moves its weight by a whole step, and the two trainings part, as the plain loop parts from
itself when its weights are rounded otherwise. From then on losses are compared by their means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gan.parallel import Alone
from gan.settings import TrainingSettings
from tests.benchmarks.figures import Figure
from tests.benchmarks.process import Job, Say, start_tensorflow
from tests.benchmarks.step import real_batch

if TYPE_CHECKING:
    import keras

__all__ = ["EXACT_STEPS", "Losses", "differences", "measure", "standard_scores", "three_losses"]

EXACT_STEPS = 5
STEPS = 200
BLOCK = 15
"""Steps that are averaged before the spread is taken, since losses of neighbouring steps are alike."""


def measure(job: Job, say: Say) -> list[Figure]:
    """Differences step by step in the first steps, and of the means afterwards in their standard errors."""
    start_tensorflow()
    losses = three_losses(job.filters, job.batch, 40 if job.quick else STEPS, say)
    scores = standard_scores(losses.ours[EXACT_STEPS:], losses.plain[EXACT_STEPS:])
    note = f"largest relative difference of the four losses, in each of the first {EXACT_STEPS} steps"
    return [
        Figure(
            name="losses/first-steps/ours", unit="relative", rounds=differences(losses.ours, losses.plain), note=note
        ),
        Figure(
            name="losses/first-steps/rounded",
            unit="relative",
            rounds=differences(losses.rounded, losses.plain),
            note="the same of the plain loop and itself with initial weights one rounding off: what no port can beat",
        ),
        Figure(
            name="losses/means",
            unit="sigma",
            rounds=[float(abs(score)) for score in scores],
            note=f"difference of the means of steps {EXACT_STEPS + 1} to {len(losses.ours)}, by update",
        ),
    ]


def differences(one: np.ndarray, other: np.ndarray) -> list[float]:
    """The largest relative difference in each of the first steps."""
    return [float(row.max()) for row in np.abs(one / other - 1)[:EXACT_STEPS]]


class Losses(NamedTuple):
    """Losses of three trainings from equal weights with equal random numbers, (steps, 4) each."""

    ours: np.ndarray
    plain: np.ndarray
    rounded: np.ndarray
    """Of the plain loop with every initial weight one rounding (1 part in 2^23) larger."""
    unlike: float
    """Distance of our trained weights from the plain loop's, over how far these came: 0 if equal, 1 if unrelated."""


def three_losses(filters: str, batch: int, steps: int, say: Say, learning_rate: float = 0.001) -> Losses:
    """Train with our step and twice with the plain loop."""
    from gan.ops.draws import Draws, position
    from gan.training.step import Networks, TrainingStep
    from tests.benchmarks.baseline import PlainLoop, SharedChance, copy_weights

    settings = TrainingSettings(filters=filters, batch_size=batch, learning_rate=learning_rate)
    networks = Networks(settings, Alone())
    step = TrainingStep(networks, settings, Alone())
    plain, rounded = (PlainLoop(filters, batch, given_masks=True, learning_rate=learning_rate) for _ in range(2))
    for loop in (plain, rounded):
        copy_weights(networks.generator, loop.generator)
        copy_weights(networks.discriminator, loop.discriminator)
    initial = _trained(plain.generator, plain.discriminator)
    for model in (rounded.generator, rounded.discriminator):
        model.set_weights([np.nextafter(weights, np.float32(np.inf)) for weights in model.get_weights()])
    cells, energies = real_batch(batch)
    found = []
    for number in range(steps):
        at = position(0, number)
        chance = SharedChance(Draws(settings.seed, 0, batch, at))
        ours = step(cells, energies, at, learning_rate).losses[:, 0]
        found.append((ours, *(loop.step(cells, energies, chance) for loop in (plain, rounded))))
        if (number + 1) % 20 == 0:
            say(f"step {number + 1}: ours {ours.round(2)}, plain loop {found[-1][1].round(2)}")
    ours, theirs = _trained(networks.generator, networks.discriminator), _trained(plain.generator, plain.discriminator)
    unlike = np.linalg.norm(ours - theirs) / np.linalg.norm(theirs - initial)
    by_training = np.swapaxes(found, 0, 1)
    return Losses(by_training[0], by_training[1], by_training[2], float(unlike))


def _trained(*models: keras.Model) -> np.ndarray:
    """All weights that are trained in one row; a network that is frozen at the moment has them, too."""
    variables = [variable for model in models for variable in model.weights if "moving_" not in variable.path]
    return np.concatenate([variable.numpy().ravel() for variable in variables])


def standard_scores(one: np.ndarray, other: np.ndarray, block: int = BLOCK) -> np.ndarray:
    """Differences of the means of two series (steps, n) over the standard error of that difference, (n,)."""

    def mean_and_variance(series: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        number = len(series) // block
        means = series[: number * block].reshape(number, block, -1).mean(axis=1)
        return means.mean(axis=0), means.var(axis=0, ddof=1) / number

    (mean, variance), (other_mean, other_variance) = mean_and_variance(one), mean_and_variance(other)
    return (mean - other_mean) / np.sqrt(variance + other_variance)
