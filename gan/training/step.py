"""The compiled training step: two networks, their optimizers, and one exchange between ranks per network update.

As in the original 3DGAN, one call trains on one batch: the discriminator learns from real showers, then from generated
ones, then the generator takes one or two steps with new noise. `training.loop` calls the step for every
batch of every epoch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from gan.models.latent import ENERGY_UNIT
from gan.ops.blocks import frozen
from gan.ops.draws import Draws, epoch_of
from gan.parallel import Communicator
from gan.precision.formats import round_weights
from gan.settings import TrainingSettings
from gan.training.health import HEALTH, signs_of_life
from gan.training.losses import Targets, flipped_labels, judgement_loss, targets
from gan.training.networks import Networks

__all__ = ["LOSSES", "StepResult", "TrainingStep"]

LOSSES = ("discriminator_real", "discriminator_fake", "generator_1", "generator_2")
"""Names of the updates of a step, in their order. With one generator step, the last one is missing."""

Update = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
Loss = Callable[[], tuple[tf.Tensor, tf.Tensor]]
"""Function that returns the loss with its parts, and the signs of life."""


class StepResult(NamedTuple):
    """Result of a step, equal on all ranks."""

    losses: np.ndarray
    """Means over all ranks, (updates, parts): a row for each of LOSSES, a column for each of the architecture's
    `loss_parts`."""
    health: np.ndarray
    """Means over all ranks, (updates, len(HEALTH)): a row for each of LOSSES, a column for each of `health.HEALTH`."""
    exchange_seconds: float
    """Seconds in all exchanges, including the wait for slower ranks."""
    stop: bool
    """True if any rank asked to stop. All ranks see it at the same step."""


class TrainingStep:
    """One training step, called with a batch. All ranks call it together."""

    def __init__(self, networks: Networks, settings: TrainingSettings, communicator: Communicator) -> None:
        self._networks = networks
        self._communicator = communicator
        self._settings = settings
        self._draws = partial(Draws, settings.seed, communicator.rank * settings.batch_size, settings.batch_size)
        batch = settings.batch_size
        # Grappler's remapper fails on paddings that two convolutions share: it logs an error and changes nothing.
        tf.config.optimizer.set_experimental_options({"remapping": False})
        self._compiled = tf.function(
            self._step,
            input_signature=[
                tf.TensorSpec((batch, *networks.architecture.cells), tf.float32),
                tf.TensorSpec((batch,), tf.float32),
                tf.TensorSpec((), tf.uint64),
                tf.TensorSpec((), tf.float32),
                tf.TensorSpec((), tf.float32),
            ],
            autograph=False,  # not needed, and its files in /tmp would stay after a rank is killed
        )

    def __call__(
        self, cells: np.ndarray, energies: np.ndarray, position: np.uint64, learning_rate: float, stop: bool = False
    ) -> StepResult:
        """Update both networks.

        Args:
            cells: real showers in GeV, float32 (batch, X, Y, Z).
            energies: primary energies of these showers in GeV, float32 (batch,).
            position: position of the step in the training, see `draws.position`.
            learning_rate: learning rate of the generator. The settings define the discriminator's relative to it.
            stop: True to ask all ranks to stop after this step. The request is part of the message with the gradients.
        """
        means, seconds = self._compiled(cells, energies, position, np.float32(learning_rate), np.float32(stop))
        losses, health, wishes = np.split(means.numpy(), [-1 - len(HEALTH), -1], axis=1)
        return StepResult(losses, health, float(seconds), bool(wishes.any()))

    def _step(
        self, cells: tf.Tensor, energies: tf.Tensor, position: tf.Tensor, learning_rate: tf.Tensor, stop: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        networks, settings = self._networks, self._settings
        draws = self._draws(position)
        networks.generator_optimizer.learning_rate.assign(learning_rate)
        networks.discriminator_optimizer.learning_rate.assign(learning_rate * settings.discriminator_rate)
        if not settings.opening_epochs:
            return self._updates(cells, energies, draws, stop, networks.architecture.latent.energies)
        early = epoch_of(position) < settings.opening_epochs
        opening = networks.architecture.latent.opening_energies or networks.architecture.latent.energies
        limits = zip(opening, networks.architecture.latent.energies, strict=True)
        with networks.opening.during(early):
            return self._updates(cells, energies, draws, stop, [tf.where(early, *limit) for limit in limits])

    def _updates(
        self, cells: tf.Tensor, energies: tf.Tensor, draws: Draws, stop: tf.Tensor, limits: Sequence[Any]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Update both networks.

        Args:
            limits: lowest and highest energy to generate, in ENERGY_UNIT.

        Returns:
            The means of each update and the seconds of all exchanges, see `_update`.
        """
        networks = self._networks
        real = networks.scale.values(cells[..., tf.newaxis])
        real_ecal = tf.reduce_sum(cells, axis=(1, 2, 3))[:, tf.newaxis]
        real_energy = energies[:, tf.newaxis] / ENERGY_UNIT
        latent, fake_energy = networks.draw_latent(draws, "fake", limits)
        with networks.masks.drawn(draws, "fake/made"):
            fakes = networks.generator(latent, training=self._settings.fakes == "training")

        updates = [
            self._discriminate("real", real, self._settings.real_label, real_energy, real_ecal, draws),
            self._discriminate("fake", fakes, 0.0, fake_energy, None, draws),
            *(self._generate(f"generator_{n + 1}", draws, limits) for n in range(self._settings.generator_steps)),
        ]
        losses: list[tf.Tensor] = []
        seconds: list[tf.Tensor] = []
        for update in updates:
            # Run the updates one after another. Otherwise TensorFlow runs parts of the next update during an exchange,
            # and their time counts as time of the exchange.
            with tf.control_dependencies(seconds[-1:]):
                loss, exchanged = update(stop)
            losses.append(loss)
            seconds.append(exchanged)
        networks.follow()
        return tf.stack(losses), tf.add_n(seconds)

    def _discriminate(
        self,
        use: str,
        values: tf.Tensor,
        label: float,
        energy: tf.Tensor,
        ecal: tf.Tensor | None,
        draws: Draws,
    ) -> Update:
        networks = self._networks

        def loss() -> tuple[tf.Tensor, tf.Tensor]:
            with networks.masks.drawn(draws, use):
                outputs = networks.discriminator(values, training=True)
            labels = flipped_labels(label, self._settings.label_flip, draws, use)
            return self._judged(values, energy, outputs, targets(labels, energy, ecal))

        return partial(self._update, loss, networks.discriminator_variables, networks.discriminator_optimizer)

    def _generate(self, use: str, draws: Draws, limits: Sequence[Any]) -> Update:
        networks = self._networks

        def loss() -> tuple[tf.Tensor, tf.Tensor]:
            latent, energy = networks.draw_latent(draws, use, limits)
            # Other masks than the discriminator's, also for layers of the same name.
            with networks.masks.drawn(draws, f"{use}/made"):
                fakes = networks.generator(latent, training=True)
            with frozen(networks.discriminator), networks.masks.drawn(draws, use):
                outputs = networks.discriminator(fakes, training=True)
            return self._judged(fakes, energy, outputs, targets(tf.ones_like(energy), energy))

        return partial(self._update, loss, networks.generator_variables, networks.generator_optimizer)

    def _judged(
        self, values: tf.Tensor, energy: tf.Tensor, outputs: Sequence[tf.Tensor], wanted: Targets
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the loss with its parts, and the signs of life."""
        design = self._networks.architecture
        losses = judgement_loss(design.losses, self._settings.weights, outputs, wanted)
        return losses, signs_of_life(self._networks.scale.cells(values), energy, outputs, design)

    def _update(
        self,
        loss: Loss,
        variables: Sequence[Any],
        optimizer: keras.optimizers.Optimizer,
        stop: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Update one network.

        Returns:
            The loss, its parts, the signs of life and the request to stop, all averaged over the ranks; and the seconds
            of the exchange.
        """
        with tf.GradientTape() as tape:
            parts, signs = loss()
            total = parts[0]
        gradients = tape.gradient(total, [variable.value for variable in variables])
        about = tf.concat([parts, signs, stop[tf.newaxis]], axis=0)
        (*gradients, means), seconds = self._exchange([*gradients, about])
        optimizer.apply(gradients, variables)
        round_weights(variables, self._settings.precision)
        return means, seconds

    def _exchange(self, tensors: Sequence[tf.Tensor]) -> tuple[list[tf.Tensor], tf.Tensor]:
        """Average tensors over the ranks in one flat message, which also contains the losses.

        So all ranks see the same losses, and a loss that is not finite stops them at the same step.
        """
        if self._communicator.size == 1:
            return list(tensors), tf.zeros([], tf.float64)
        flat = tf.concat([tf.reshape(tensor, [-1]) for tensor in tensors], axis=0)
        began = _clock_after(flat)
        with tf.control_dependencies([began]):
            mean = self._communicator.mean(flat)
        seconds = _clock_after(mean) - began
        parts = tf.split(mean, [tensor.shape.num_elements() for tensor in tensors])
        shaped = [tf.reshape(part, tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]
        return shaped, seconds


def _clock_after(value: tf.Tensor) -> tf.Tensor:
    """Return the time of a monotonic clock in seconds after `value` is computed.

    `tf.timestamp` does not work in deterministic mode.
    """
    with tf.control_dependencies([value]):
        return tf.numpy_function(time.perf_counter, [], tf.float64, stateful=True)
