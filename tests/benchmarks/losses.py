"""Compare the losses of our step with the plain Keras loop's: same weights, events and random numbers, in FP32.

In the first steps, the losses differ only by rounding. Then the two trainings diverge: RMSprop divides each gradient by
its own size, so even a gradient that is only rounding error moves its weight by a full step. Two plain loops whose
initial weights differ by one rounding diverge in the same way. Therefore the means of the losses are compared after the
first steps.
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
"""Number of first steps, which are compared one by one."""
STEPS = 200
"""Number of steps of a measurement."""
BLOCK = 15
"""Number of steps in a mean. The spread is that of the means, because losses of neighbouring steps are correlated."""


def measure(job: Job, say: Say) -> list[Figure]:
    """Return the differences in each of the first steps, and the difference of the later means in standard errors."""
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
            note="the same for two plain loops whose initial weights differ by one rounding: the smallest possible",
        ),
        Figure(
            name="losses/means",
            unit="sigma",
            rounds=[float(abs(score)) for score in scores],
            note=f"difference of the means of steps {EXACT_STEPS + 1} to {len(losses.ours)}, by update",
        ),
    ]


def differences(one: np.ndarray, other: np.ndarray) -> list[float]:
    """Return the largest relative difference in each of the first steps."""
    return [float(row.max()) for row in np.abs(one / other - 1)[:EXACT_STEPS]]


class Losses(NamedTuple):
    """Losses of three trainings from equal weights with equal random numbers, (steps, 4) each."""

    ours: np.ndarray
    plain: np.ndarray
    rounded: np.ndarray
    """Losses of a plain loop with every initial weight larger by one rounding (1 part in 2^23)."""
    unlike: float
    """Distance between our weights and the plain loop's, relative to their change in the training: 0 if equal."""


def three_losses(filters: str, batch: int, steps: int, say: Say, learning_rate: float = 0.001) -> Losses:
    """Train once with our step and twice with the plain loop."""
    from gan.ops.draws import Draws, position
    from gan.training.networks import Networks
    from gan.training.step import TrainingStep
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
    """Return all trained weights in one row, including the weights of a network that is frozen at the moment."""
    variables = [variable for model in models for variable in model.weights if "moving_" not in variable.path]
    return np.concatenate([variable.numpy().ravel() for variable in variables])


def standard_scores(one: np.ndarray, other: np.ndarray, block: int = BLOCK) -> np.ndarray:
    """Return the difference of the means of two series (steps, n), in standard errors of that difference, (n,)."""

    def mean_and_variance(series: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        number = len(series) // block
        means = series[: number * block].reshape(number, block, -1).mean(axis=1)
        return means.mean(axis=0), means.var(axis=0, ddof=1) / number

    (mean, variance), (other_mean, other_variance) = mean_and_variance(one), mean_and_variance(other)
    return (mean - other_mean) / np.sqrt(variance + other_variance)
