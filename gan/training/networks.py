"""The networks of a training with their optimizers, and all variables that a checkpoint holds."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from functools import partial
from itertools import product
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from gan.data.layout import CELL_CUT
from gan.models.generator import ShowerGenerator, generator_parts
from gan.models.registry import architecture
from gan.ops.blocks import BatchNorm, Masks
from gan.ops.draws import Draws, position
from gan.ops.scale import Opening
from gan.parallel import Communicator, assign_flat, average_variables, flat
from gan.physics.formulas import geant4_ecal
from gan.precision.formats import round_weights
from gan.run.checkpoint import AVERAGED, GENERATOR, SHAPES, UNITS
from gan.settings import TrainingSettings
from gan.training.shapes import ShapeTerm
from gan.training.virtual import VirtualWorkers

__all__ = ["Networks"]

CALIBRATION_EVENTS = 256
"""Smallest number of events that measure moving statistics, all workers together. A channel sees each event at hundreds
of cells or more."""


class Networks:
    """Generator and discriminator of an architecture with their optimizers, with all variables created."""

    def __init__(self, settings: TrainingSettings, communicator: Communicator) -> None:
        keras.utils.set_random_seed(settings.seed)
        self.architecture = architecture(settings.model)
        self.settings = settings
        self._communicator = communicator
        mean_over_ranks = communicator.mean if settings.sync_batchnorm else None
        norm = BatchNorm(mean_over_ranks)
        self.masks = Masks(self.architecture.dropout)
        self.opening = Opening()
        parts = generator_parts(
            self.architecture,
            settings.as_dict(),
            precision=settings.precision,
            visible=geant4_ecal,
            norm=norm,
            masks=self.masks,
            opening=self.opening,
        )
        self.scale = parts.scale
        self.generator = self.architecture.build_generator(parts)
        filters = self.architecture.filter_set(settings.filters).discriminator
        self.discriminator = self.architecture.build_discriminator(dataclasses.replace(parts, filters=filters))
        # Store these lists, because the list of trainable variables of a frozen network is empty.
        self.generator_variables = list(self.generator.trainable_variables)
        self.discriminator_variables = list(self.discriminator.trainable_variables)
        self.generator_optimizer = _optimizer(settings, self.generator_variables)
        self.discriminator_optimizer = _optimizer(settings, self.discriminator_variables)
        for variables in (self.generator_variables, self.discriminator_variables):
            round_weights(variables, settings.precision)
        # TensorFlow's variable, because a variable of Keras could become a weight of the network.
        self._momentum = tf.Variable(0.0, trainable=False)
        self.averaged = self.generator
        """The generator that is validated: with averaged weights if the settings ask for them."""
        if settings.average:
            calibrated = BatchNorm(mean_over_ranks, self._momentum)
            self.averaged = self.architecture.build_generator(dataclasses.replace(parts, norm=calibrated))
            self.averaged.set_weights(self.generator.get_weights())
        self.shapes = ShapeTerm(self.architecture.cells) if settings.shape_weight else None
        statistics = [*self.generator.non_trainable_weights, *self.discriminator.non_trainable_weights]
        self.workers = VirtualWorkers(settings.virtual_workers, statistics)
        self._calibrate = tf.function(self._see_one_batch, autograph=False)

    @property
    def _global_batch(self) -> int:
        return self.settings.batch_size * self.workers.count * self._communicator.size

    def draws(self, position: tf.Tensor, worker: Any) -> Draws:
        """Return the random numbers of a virtual worker of this rank, at a position of the training."""
        batch = self.settings.batch_size
        return Draws(
            self.settings.seed, (self._communicator.rank * self.workers.count + worker) * batch, batch, position
        )

    def follow(self) -> None:
        """Move the weights of the averaged generator towards those of the generator."""
        if self.averaged is self.generator:
            return
        old = self.settings.average
        for average, weight in zip(self.averaged.trainable_variables, self.generator_variables, strict=True):
            average.assign(average.value * old + weight.value * (1.0 - old))

    def calibrate(self, epoch: int) -> None:
        """Measure the moving statistics of the averaged generator.

        Averaged statistics would not suit averaged weights (Izmailov et al., UAI 2018, section 3.2). Each worker
        measures with its own part of a global batch. The caller averages the results over the ranks.

        Args:
            epoch: number of the epoch, for other noise in each.
        """
        if self.averaged is self.generator:
            return
        batches = math.ceil(CALIBRATION_EVENTS / self._global_batch)
        for number, (batch, worker) in enumerate(product(range(batches), range(self.workers.count))):
            # The mean of all batches up to now. The first batch replaces the old statistics, so that the result
            # depends only on the weights: a resumed training has the same one.
            self._momentum.assign(number / (number + 1))
            self._calibrate(position(epoch, batch), np.int32(worker))

    def _see_one_batch(self, position: tf.Tensor, worker: tf.Tensor) -> None:
        draws = self.draws(position, worker)
        latent, _ = self.draw_latent(draws, "calibration", self.architecture.latent.energies)
        # Without masks no cell is dropped, as in the inference.
        self.averaged(latent, training=True)

    def draw_latent(self, draws: Draws, use: str, limits: Sequence[Any]) -> tuple[tf.Tensor, tf.Tensor]:
        """Draw the generator's input, (batch, latent size), and its primary energies in ENERGY_UNIT, (batch, 1)."""
        latent = self.architecture.latent
        energy = draws.uniform(f"{use}/energy", *limits)
        return latent.scaled(draws.normal(f"{use}/noise", latent.size), energy, self.settings.latent), energy

    @property
    def shower_generator(self) -> ShowerGenerator:
        """The generator that is validated."""
        return ShowerGenerator(self.averaged, self.scale, self.architecture.latent, self.settings.latent, CELL_CUT)

    def groups(self) -> dict[str, list[Any]]:
        """Return all variables of the training. The keys are the names of the groups in a checkpoint."""
        groups = {
            GENERATOR: list(self.generator.weights),
            "discriminator": list(self.discriminator.weights),
            "generator_optimizer": list(self.generator_optimizer.variables),
            "discriminator_optimizer": list(self.discriminator_optimizer.variables),
        }
        if self.averaged is not self.generator:
            groups[AVERAGED] = list(self.averaged.weights)
        if self.scale.units:
            groups[UNITS] = self.scale.units
        if self.shapes:
            groups[SHAPES] = self.shapes.variables
        return groups

    def variables(self) -> list[Any]:
        """Return the variables of all groups."""
        return [variable for group in self.groups().values() for variable in group]

    def average_statistics(self) -> None:
        """Replace all moving statistics by their means over all workers of all ranks."""
        self.workers.join()
        average_variables(
            self._communicator,
            [*self.workers.statistics, *self._measured_statistics],
        )
        self.workers.divide()

    @property
    def _measured_statistics(self) -> list[Any]:
        """Moving statistics of the averaged generator, see `calibrate`."""
        return [] if self.averaged is self.generator else list(self.averaged.non_trainable_weights)

    def statistics_of_workers(self) -> npt.NDArray[np.float32]:
        """Return the moving statistics of each virtual worker of this rank, (workers, values)."""
        measured = self._measured_statistics
        rows = self.workers.rows()
        return np.concatenate([rows, np.tile(flat(measured), (len(rows), 1))], axis=1) if measured else rows

    def set_statistics_of_workers(self, rows: npt.NDArray[np.float32]) -> None:
        """Set the moving statistics of each virtual worker of this rank from a result of `statistics_of_workers`."""
        measured = self._measured_statistics
        end = rows.shape[1] - sum(math.prod(variable.shape) for variable in measured)
        self.workers.set_rows(rows[:, :end])
        if measured:
            assign_flat(measured, rows[0, end:])

    def parameters(self) -> dict[str, int]:
        """Return the number of parameters of each network."""
        return {network.name: network.count_params() for network in (self.generator, self.discriminator)}


def _optimizer(settings: TrainingSettings, variables: Sequence[Any]) -> keras.optimizers.Optimizer:
    make = {
        "rmsprop": partial(keras.optimizers.RMSprop, rho=0.9),
        "adam": partial(keras.optimizers.Adam, beta_1=settings.beta1),
    }[settings.optimizer]
    optimizer = make(learning_rate=settings.learning_rate)
    optimizer.build(variables)
    return optimizer
