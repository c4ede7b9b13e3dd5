"""The compiled training step: two networks, their optimizers, and one exchange between ranks per network update.

As in the original 3DGAN, one call trains on one batch: the discriminator learns from real showers, then from generated
ones, then the generator takes two steps with new noise. `training.loop` calls the step for every batch of every epoch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from gan.models.latent import ENERGY_UNIT, Latent
from gan.models.registry import architecture
from gan.ops.blocks import BatchNorm, Masks, frozen
from gan.ops.draws import Draws
from gan.parallel import Communicator
from gan.precision.formats import layer_policy, round_weights
from gan.settings import TrainingSettings
from gan.training.health import HEALTH, signs_of_life
from gan.training.losses import flipped_labels, judgement_loss, targets

__all__ = ["LOSSES", "Networks", "StepResult", "TrainingStep"]

LOSSES = ("discriminator_real", "discriminator_fake", "generator_1", "generator_2")
"""Names of the four updates of a step, in their order."""

Update = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
Loss = Callable[[], tuple[tf.Tensor, tf.Tensor]]
"""Function that returns the loss with its parts, and the signs of life."""


class Networks:
    """Generator and discriminator of an architecture with their optimizers, with all variables created."""

    def __init__(self, settings: TrainingSettings, communicator: Communicator) -> None:
        keras.utils.set_random_seed(settings.seed)
        self.architecture = architecture(settings.model)
        dtype = layer_policy(settings.precision)
        filters = self.architecture.filter_set(settings.filters)
        norm = BatchNorm(communicator.mean if settings.sync_batchnorm else None)
        self.masks = Masks(self.architecture.dropout)
        self.generator = self.architecture.build_generator(filters.generator, dtype, norm)
        self.discriminator = self.architecture.build_discriminator(filters.discriminator, dtype, norm, self.masks)
        # Store these lists, because the list of trainable variables of a frozen network is empty.
        self.generator_variables = list(self.generator.trainable_variables)
        self.discriminator_variables = list(self.discriminator.trainable_variables)
        self.generator_optimizer = _optimizer(settings, self.generator_variables)
        self.discriminator_optimizer = _optimizer(settings, self.discriminator_variables)
        for variables in (self.generator_variables, self.discriminator_variables):
            round_weights(variables, settings.precision)

    def groups(self) -> dict[str, list[Any]]:
        """Return all variables of the training. The keys are the names of the groups in a checkpoint."""
        return {
            "generator": list(self.generator.weights),
            "discriminator": list(self.discriminator.weights),
            "generator_optimizer": list(self.generator_optimizer.variables),
            "discriminator_optimizer": list(self.discriminator_optimizer.variables),
        }

    def variables(self) -> list[Any]:
        """Return the variables of all groups."""
        return [variable for group in self.groups().values() for variable in group]

    def moving_statistics(self) -> list[Any]:
        """Return the moving statistics of BatchNorm. Every rank collects its own statistics from its batches."""
        return [*self.generator.non_trainable_weights, *self.discriminator.non_trainable_weights]

    def parameters(self) -> dict[str, int]:
        """Return the number of parameters of each network."""
        return {network.name: network.count_params() for network in (self.generator, self.discriminator)}


class StepResult(NamedTuple):
    """Result of a step, equal on all ranks."""

    losses: np.ndarray
    """Means over all ranks, (4, parts): a row for each of LOSSES, a column for each of the architecture's
    `loss_parts`."""
    health: np.ndarray
    """Means over all ranks, (4, len(HEALTH)): a row for each of LOSSES, a column for each of `health.HEALTH`."""
    exchange_seconds: float
    """Seconds in the four exchanges, including the wait for slower ranks."""
    stop: bool
    """True if any rank asked to stop. All ranks see it at the same step."""


class TrainingStep:
    """One training step, called with a batch. All ranks call it together."""

    def __init__(self, networks: Networks, settings: TrainingSettings, communicator: Communicator) -> None:
        self._networks = networks
        self._communicator = communicator
        self._precision = settings.precision
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
            learning_rate: learning rate of both optimizers.
            stop: True to ask all ranks to stop after this step. The request is part of the message with the gradients.
        """
        means, seconds = self._compiled(cells, energies, position, np.float32(learning_rate), np.float32(stop))
        losses, health, wishes = np.split(means.numpy(), [-1 - len(HEALTH), -1], axis=1)
        return StepResult(losses, health, float(seconds), bool(wishes.any()))

    def _step(
        self, cells: tf.Tensor, energies: tf.Tensor, position: tf.Tensor, learning_rate: tf.Tensor, stop: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        networks = self._networks
        draws = self._draws(position)
        for optimizer in (networks.generator_optimizer, networks.discriminator_optimizer):
            optimizer.learning_rate.assign(learning_rate)

        real = cells[..., tf.newaxis]
        real_ecal = tf.reduce_sum(cells, axis=(1, 2, 3))[:, tf.newaxis]
        real_energy = energies[:, tf.newaxis] / ENERGY_UNIT
        latent, fake_energy = sample_latent(networks.architecture.latent, draws, "fake")
        # Generate in inference mode, as `predict` does in the public training loop.
        fakes = networks.generator(latent, training=False)

        updates = [
            self._discriminate("real", real, 1.0, real_energy, real_ecal, draws),
            self._discriminate("fake", fakes, 0.0, fake_energy, None, draws),
            self._generate("generator_1", draws),
            self._generate("generator_2", draws),
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
        return tf.stack(losses), tf.add_n(seconds)

    def _discriminate(
        self,
        use: str,
        cells: tf.Tensor,
        label: float,
        energy: tf.Tensor,
        ecal: tf.Tensor | None,
        draws: Draws,
    ) -> Update:
        networks, design = self._networks, self._networks.architecture

        def loss() -> tuple[tf.Tensor, tf.Tensor]:
            with networks.masks.drawn(draws, use):
                outputs = networks.discriminator(cells, training=True)
            labels = flipped_labels(label, design.label_flip, draws, use)
            losses = judgement_loss(design.losses, outputs, targets(labels, energy, ecal))
            return losses, signs_of_life(cells, energy, outputs, design)

        return partial(self._update, loss, networks.discriminator_variables, networks.discriminator_optimizer)

    def _generate(self, use: str, draws: Draws) -> Update:
        networks, design = self._networks, self._networks.architecture

        def loss() -> tuple[tf.Tensor, tf.Tensor]:
            latent, energy = sample_latent(design.latent, draws, use)
            fakes = networks.generator(latent, training=True)
            with frozen(networks.discriminator), networks.masks.drawn(draws, use):
                outputs = networks.discriminator(fakes, training=True)
            losses = judgement_loss(design.losses, outputs, targets(tf.ones_like(energy), energy))
            return losses, signs_of_life(fakes, energy, outputs, design)

        return partial(self._update, loss, networks.generator_variables, networks.generator_optimizer)

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
        round_weights(variables, self._precision)
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


def sample_latent(latent: Latent, draws: Draws, use: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Draw the generator's input, (batch, latent size), and its primary energies in ENERGY_UNIT, (batch, 1)."""
    energy = draws.uniform(f"{use}/energy", *latent.energies)
    return latent.scaled(draws.normal(f"{use}/noise", latent.size), energy), energy


def _optimizer(settings: TrainingSettings, variables: Sequence[Any]) -> keras.optimizers.Optimizer:
    make = {
        "rmsprop": partial(keras.optimizers.RMSprop, rho=0.9),
        "adam": keras.optimizers.Adam,
    }[settings.optimizer]
    optimizer = make(learning_rate=settings.learning_rate)
    optimizer.build(variables)
    return optimizer
