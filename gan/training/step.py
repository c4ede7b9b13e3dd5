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


class Share(NamedTuple):
    """What a worker needs for its part of a step."""

    cells: tf.Tensor
    """Real showers in GeV, (batch, X, Y, Z)."""
    energies: tf.Tensor
    """Their primary energies in `latent.ENERGY_UNIT`, (batch, 1)."""
    draws: Draws
    limits: Sequence[Any]
    """Lowest and highest energy to generate, in ENERGY_UNIT."""


Judgement = Callable[[], tuple[tf.Tensor, tf.Tensor]]
"""Function that returns a loss with its parts, and the signs of life."""
Prepare = Callable[[Share], Judgement]
"""Function that computes what needs no gradient, and returns the rest of the computation."""


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
    save: bool
    """True if any rank asked for a checkpoint. All ranks see it at the same step."""


class TrainingStep:
    """One training step, called with a batch. All ranks call it together."""

    def __init__(self, networks: Networks, settings: TrainingSettings, communicator: Communicator) -> None:
        self._networks = networks
        self._communicator = communicator
        self._settings = settings
        events = settings.batch_size * settings.virtual_workers
        # Grappler's remapper fails on paddings that two convolutions share: it logs an error and changes nothing.
        tf.config.optimizer.set_experimental_options({"remapping": False})
        self._compiled = tf.function(
            self._step,
            input_signature=[
                tf.TensorSpec((events, *networks.architecture.cells), tf.float32),
                tf.TensorSpec((events,), tf.float32),
                tf.TensorSpec((), tf.uint64),
                tf.TensorSpec((), tf.float32),
                tf.TensorSpec((2,), tf.float32),
            ],
            autograph=False,  # not needed, and its files in /tmp would stay after a rank is killed
        )

    def __call__(
        self,
        cells: np.ndarray,
        energies: np.ndarray,
        position: np.uint64,
        learning_rate: float,
        stop: bool = False,
        save: bool = False,
    ) -> StepResult:
        """Update both networks.

        Args:
            cells: real showers in GeV, float32 (n, X, Y, Z): the batches of all virtual workers of this rank, one
                after another.
            energies: primary energies of these showers in GeV, float32 (n,).
            position: position of the step in the training, see `draws.position`.
            learning_rate: learning rate of the generator. The settings define the discriminator's relative to it.
            stop: True to ask all ranks to stop after this step. The request is part of the message with the gradients.
            save: True to ask for a checkpoint after this step, in the same way.
        """
        wishes = np.array([stop, save], np.float32)
        means, seconds = self._compiled(cells, energies, position, np.float32(learning_rate), wishes)
        losses, health, asked = np.split(means.numpy(), [-2 - len(HEALTH), -2], axis=1)
        to_stop, to_save = (bool(column.any()) for column in asked.T)
        return StepResult(losses, health, float(seconds), to_stop, to_save)

    def _step(
        self, cells: tf.Tensor, energies: tf.Tensor, position: tf.Tensor, learning_rate: tf.Tensor, wishes: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        networks, settings = self._networks, self._settings
        networks.generator_optimizer.learning_rate.assign(learning_rate)
        networks.discriminator_optimizer.learning_rate.assign(learning_rate * settings.discriminator_rate)
        energies = energies[:, tf.newaxis] / ENERGY_UNIT
        latent = networks.architecture.latent

        def share(limits: Sequence[Any], worker: Any) -> Share:
            first = worker * settings.batch_size
            own = slice(first, first + settings.batch_size)
            return Share(cells[own], energies[own], networks.draws(position, worker), limits)

        if not settings.opening_epochs:
            return self._updates(partial(share, latent.energies), wishes)
        early = epoch_of(position) < settings.opening_epochs
        limits = zip(latent.opening_energies or latent.energies, latent.energies, strict=True)
        with networks.opening.during(early):
            return self._updates(partial(share, [tf.where(early, *limit) for limit in limits]), wishes)

    def _updates(self, share: Callable[[Any], Share], wishes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Update both networks.

        Args:
            share: returns the share of a virtual worker.
            wishes: two numbers: 1 to ask all ranks to stop, and 1 to ask for a checkpoint, else 0.

        Returns:
            The means of each update and the seconds of all exchanges, see `_update`.
        """
        networks = self._networks
        discriminator = networks.discriminator_variables, networks.discriminator_optimizer
        generator = networks.generator_variables, networks.generator_optimizer
        updates: list[tuple[Prepare, tuple[Any, Any]]] = [
            (self._real, discriminator),
            (self._fake, discriminator),
            *(
                (partial(self._generated, f"generator_{n + 1}"), generator)
                for n in range(self._settings.generator_steps)
            ),
        ]
        losses: list[tf.Tensor] = []
        seconds: list[tf.Tensor] = []
        for prepare, (variables, optimizer) in updates:
            # Run the updates one after another. Otherwise TensorFlow runs parts of the next update during an exchange,
            # and their time counts as time of the exchange.
            with tf.control_dependencies(seconds[-1:]):
                means, exchanged = self._update(prepare, share, variables, optimizer, wishes)
            losses.append(means)
            seconds.append(exchanged)
        networks.follow()
        return tf.stack(losses), tf.add_n(seconds)

    def _real(self, share: Share) -> Judgement:
        values = self._networks.scale.values(share.cells[..., tf.newaxis])
        visible = tf.reduce_sum(share.cells, axis=(1, 2, 3))[:, tf.newaxis]
        label = self._settings.real_label
        return partial(self._discriminate, "real", values, label, share.energies, visible, share.draws)

    def _fake(self, share: Share) -> Judgement:
        networks = self._networks
        latent, energy = networks.draw_latent(share.draws, "fake", share.limits)
        fakes = self._make(latent, share.draws, "fake", training=self._settings.fakes == "training")
        return partial(self._discriminate, "fake", fakes, 0.0, energy, None, share.draws)

    def _make(self, latent: tf.Tensor, draws: Draws, use: str, *, training: bool) -> tf.Tensor:
        """Return values of generated showers."""
        if not self._settings.generator_dropout:
            return self._networks.generator(latent, training=training)
        # Other masks than the discriminator's, also for layers of the same name.
        with self._networks.masks.drawn(draws, f"{use}/made"):
            return self._networks.generator(latent, training=training)

    def _discriminate(
        self,
        use: str,
        values: tf.Tensor,
        label: float,
        energy: tf.Tensor,
        visible: tf.Tensor | None,
        draws: Draws,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        networks = self._networks
        with networks.masks.drawn(draws, use):
            outputs = networks.discriminator(values, training=True)
        labels = flipped_labels(label, self._settings.label_flip, draws, use)
        losses = self._judged(outputs, targets(labels, energy, visible))
        return losses, self._signs(networks.scale.cells(values), energy, outputs)

    def _generated(self, use: str, share: Share) -> Judgement:
        return partial(self._generate, use, share)

    def _generate(self, use: str, share: Share) -> tuple[tf.Tensor, tf.Tensor]:
        networks, draws = self._networks, share.draws
        latent, energy = networks.draw_latent(draws, use, share.limits)
        fakes = self._make(latent, draws, use, training=True)
        with frozen(networks.discriminator), networks.masks.drawn(draws, use):
            outputs = networks.discriminator(fakes, training=True)
        losses = self._judged(outputs, targets(tf.ones_like(energy), energy))
        cells = networks.scale.cells(fakes)
        if networks.shapes:
            shape = self._settings.shape_weight * networks.shapes(cells, energy)
            losses = tf.concat([losses[:1] + shape, losses[1:]], axis=0)
        return losses, self._signs(cells, energy, outputs)

    def _judged(self, outputs: Sequence[tf.Tensor], wanted: Targets) -> tf.Tensor:
        """Return the loss with its parts."""
        return judgement_loss(self._networks.architecture.losses, self._settings.weights, outputs, wanted)

    def _signs(self, cells: tf.Tensor, energy: tf.Tensor, outputs: Sequence[tf.Tensor]) -> tf.Tensor:
        return signs_of_life(cells, energy, outputs, self._networks.architecture)

    def _update(
        self,
        prepare: Prepare,
        share: Callable[[Any], Share],
        variables: Sequence[Any],
        optimizer: keras.optimizers.Optimizer,
        wishes: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Update one network.

        Returns:
            The loss, its parts, the signs of life and the wishes, all averaged over the ranks; and the seconds
            of the exchange.
        """

        def gradients_and_means(worker: Any) -> list[tf.Tensor]:
            judgement = prepare(share(worker))
            with tf.GradientTape() as tape:
                parts, signs = judgement()
                total = parts[0]
            gradients = tape.gradient(total, [variable.value for variable in variables])
            return [*gradients, tf.concat([parts, signs], axis=0)]

        *gradients, means = self._networks.workers.mean(gradients_and_means)
        about = tf.concat([means, wishes], axis=0)
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
