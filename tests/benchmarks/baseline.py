"""The plain Keras loop: train 3DGAN as its public scripts do, with compiled models and one call per update.

Networks and loop follow the published description and share no code with `gan`. The speed and the losses of `gan` are
compared with them. To compare losses, the loop takes its random numbers from `gan.ops.draws`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from gan.ops.draws import Draws, keep

__all__ = ["Chance", "NumpyChance", "PlainLoop", "SharedChance", "cell_sum", "copy_weights"]

LOSS_WEIGHTS = (8.0, 0.2, 0.1)
GEANT4_FIT = (0.0018, -0.023, 0.11, -0.28, 2.21)
DROPOUT_RATE = 0.2


class Chance(Protocol):
    """Random numbers of a step. `use` is real, fake, generator_1 or generator_2."""

    def noise(self, use: str) -> np.ndarray:
        """Return standard normal numbers, (batch, 200)."""

    def energies(self, use: str) -> np.ndarray:
        """Return energies in units of 100 GeV, uniform from 0.1 to 5, (batch, 1)."""

    def flips(self, use: str) -> np.ndarray:
        """Return whether a label flips: True with probability 0.05, (batch, 1)."""

    def masks(self, use: str, shapes: Mapping[str, Sequence[int]]) -> Mapping[str, np.ndarray]:
        """Return the cells that dropout keeps, by the convolution before it; empty if Keras draws the masks."""


class NumpyChance:
    """Random numbers as in the public scripts: from NumPy, and from Keras for dropout."""

    def __init__(self, batch: int, seed: int = 1) -> None:
        self._batch = batch
        self._generator = np.random.default_rng(seed)

    def noise(self, use: str) -> np.ndarray:
        return self._generator.standard_normal((self._batch, 200), dtype=np.float32)

    def energies(self, use: str) -> np.ndarray:
        return self._generator.uniform(0.1, 5.0, (self._batch, 1)).astype(np.float32)

    def flips(self, use: str) -> np.ndarray:
        return self._generator.random((self._batch, 1)) < 0.05

    def masks(self, use: str, shapes: Mapping[str, Sequence[int]]) -> Mapping[str, np.ndarray]:
        return {}


class SharedChance:
    """The random numbers of a step of `gan.training.step`. A mask has the name of the convolution before it."""

    def __init__(self, draws: Draws) -> None:
        self._draws = draws

    def noise(self, use: str) -> np.ndarray:
        return self._draws.normal(f"{use}/noise", 200).numpy()

    def energies(self, use: str) -> np.ndarray:
        return self._draws.uniform(f"{use}/energy", 0.1, 5.0).numpy()

    def flips(self, use: str) -> np.ndarray:
        return self._draws.uniform(f"{use}/flip", 0.0, 1.0).numpy() < 0.05

    def masks(self, use: str, shapes: Mapping[str, Sequence[int]]) -> Mapping[str, np.ndarray]:
        return {
            name: keep(self._draws.words(f"{use}/{name}", 2), shape, DROPOUT_RATE).numpy()
            for name, shape in shapes.items()
        }


class GivenDropout(layers.Layer):
    """Dropout with a mask that the caller sets."""

    def __init__(self, batch: int, after: str) -> None:
        super().__init__()
        self._batch = batch
        self.after = after

    def build(self, shape: Sequence[int | None]) -> None:
        self.mask_shape = [size for size in shape[1:] if size is not None]
        # Use a variable of TensorFlow, because a variable of Keras would be a weight of the network.
        self.mask = tf.Variable(tf.ones((self._batch, *self.mask_shape), tf.bool), trainable=False)

    def call(self, inputs: Any, training: bool = False) -> Any:
        return tf.where(self.mask, inputs / (1 - DROPOUT_RATE), 0.0) if training else inputs

    def compute_output_shape(self, shape: Sequence[int | None]) -> Sequence[int | None]:
        return shape


class PlainLoop:
    """Generator, discriminator and the chain of both, all compiled, and the training step on a batch."""

    real_label = 1.0
    generator_updates: tuple[str, ...] = ("generator_1", "generator_2")

    def __init__(self, filters: str, batch: int, *, given_masks: bool = False, learning_rate: float = 0.001) -> None:
        generator_filters, discriminator_filters = {"original": (6, 8), "16": (16, 16)}[filters]
        self._batch = batch
        self._given: list[GivenDropout] = []

        def dropout(after: str) -> layers.Layer:
            if not given_masks:
                return layers.Dropout(DROPOUT_RATE)
            self._given.append(GivenDropout(batch, after))
            return self._given[-1]

        self.generator = plain_generator(generator_filters)
        self.discriminator = plain_discriminator(discriminator_filters, dropout)
        optimizers = [keras.optimizers.RMSprop(learning_rate, rho=0.9) for _ in range(2)]
        self._compile(LOSS_WEIGHTS, *optimizers)

    def _compile(
        self,
        weights: Sequence[float],
        of_discriminator: keras.optimizers.Optimizer,
        of_generator: keras.optimizers.Optimizer,
    ) -> None:
        """Compile the discriminator, and the chain of both networks that trains the generator."""
        losses = ["binary_crossentropy", "mean_absolute_percentage_error", "mean_absolute_percentage_error"]
        for_both = {"loss": losses, "loss_weights": list(weights)}
        self.discriminator.compile(optimizer=of_discriminator, **for_both)
        latent = keras.Input((200,))
        self.combined = keras.Model(latent, self.discriminator(self.generator(latent)), name="combined")
        self.combined.compile(optimizer=of_generator, **for_both)

    def step(self, cells: np.ndarray, energies: np.ndarray, chance: Chance) -> np.ndarray:
        """Train on a batch and return the losses of all updates.

        Args:
            cells: energies in the cells in GeV, (batch, 25, 25, 25).
            energies: primary energies in GeV, (batch,).
            chance: random numbers of the step.
        """
        fake_energies = chance.energies("fake")
        fakes = self.generator.predict_on_batch(chance.noise("fake") * fake_energies)
        real = cells[..., np.newaxis]
        sums = cells.sum(axis=(1, 2, 3))[:, np.newaxis]
        return np.array(
            [
                self._discriminate("real", real, self.real_label, energies[:, np.newaxis] / 100, sums, chance),
                self._discriminate("fake", fakes, 0.0, fake_energies, expected_sum(fake_energies), chance),
                *(self._generate(use, chance) for use in self.generator_updates),
            ]
        )

    def _discriminate(
        self, use: str, cells: np.ndarray, label: float, energies: np.ndarray, sums: np.ndarray, chance: Chance
    ) -> float:
        labels = np.where(chance.flips(use), 1 - label, label).astype(np.float32)
        self._set_masks(use, chance)
        return self._train(self.discriminator, True, cells, [labels, energies, sums])

    def _generate(self, use: str, chance: Chance) -> float:
        energies = chance.energies(use)
        latent = chance.noise(use) * energies
        self._set_masks(use, chance)
        targets = [np.ones_like(energies), energies, expected_sum(energies)]
        return self._train(self.combined, False, latent, targets)

    def _train(self, model: keras.Model, judge_learns: bool, inputs: np.ndarray, targets: list[np.ndarray]) -> float:
        # Keras 3 reads this when it traces the first batch, not when it compiles.
        self.discriminator.trainable = judge_learns
        # Without a reset, Keras returns means over all earlier batches.
        model.reset_metrics()
        return float(model.train_on_batch(inputs, targets, return_dict=True)["loss"])

    def _set_masks(self, use: str, chance: Chance) -> None:
        if self._given:
            masks = chance.masks(use, {layer.after: layer.mask_shape for layer in self._given})
            for layer in self._given:
                layer.mask.assign(masks[layer.after])


def expected_sum(energies: np.ndarray) -> np.ndarray:
    """Return the visible energy in GeV for primary energies in units of 100 GeV, from the fit to GEANT4."""
    return (energies * np.polyval(GEANT4_FIT, energies)).astype(np.float32)


def plain_generator(filters: int) -> keras.Model:
    """Return the network from a latent vector (n, 200) to cells (n, 25, 25, 25, 1)."""
    options = {"kernel_initializer": "he_uniform"}
    parts = [
        keras.Input((200,)),
        layers.Dense(7 * 7 * 8 * 8, name="dense"),
        layers.Reshape((7, 7, 8, 8)),
        layers.Conv3D(64, (6, 6, 8), padding="same", name="conv1", **options),
        layers.LeakyReLU(negative_slope=0.3),
        layers.BatchNormalization(name="norm1"),
        layers.UpSampling3D((2, 2, 2)),
        layers.ZeroPadding3D((2, 2, 0)),
        layers.Conv3D(filters, (6, 5, 8), name="conv2", **options),
        layers.LeakyReLU(negative_slope=0.3),
        layers.BatchNormalization(name="norm2"),
        layers.UpSampling3D((2, 2, 3)),
        layers.ZeroPadding3D((1, 0, 3)),
        layers.Conv3D(filters, (3, 3, 8), name="conv3", **options),
        layers.LeakyReLU(negative_slope=0.3),
        layers.Conv3D(1, (2, 2, 2), use_bias=False, kernel_initializer="glorot_normal", name="conv4"),
        layers.ReLU(),
    ]
    return keras.Sequential(parts, name="generator")


def plain_discriminator(filters: int, dropout: Callable[[str], layers.Layer]) -> keras.Model:
    """Return the network from cells (n, 25, 25, 25, 1) to its three outputs, (n, 1) each.

    They are the probability of being real, the energy in units of 100 GeV and the sum of the cells in GeV.
    """
    cells = keras.Input((25, 25, 25, 1))
    x = layers.Conv3D(32, 5, padding="same", name="conv1")(cells)
    x = layers.LeakyReLU(negative_slope=0.3)(x)
    x = dropout("conv1")(x)
    for number, padding in ((2, 2), (3, 2), (4, 1)):
        x = layers.ZeroPadding3D(padding)(x)
        x = layers.Conv3D(filters, 5, name=f"conv{number}")(x)
        x = layers.LeakyReLU(negative_slope=0.3)(x)
        x = layers.BatchNormalization(name=f"norm{number}")(x)
        x = dropout(f"conv{number}")(x)
    x = layers.Flatten()(layers.AveragePooling3D(2)(x))
    generation = layers.Dense(1, activation="sigmoid", name="generation")(x)
    auxiliary = layers.Dense(1, name="auxiliary")(x)
    return keras.Model(cells, [generation, auxiliary, cell_sum(cells)], name="discriminator")


def cell_sum(cells: keras.KerasTensor) -> keras.KerasTensor:
    """Return the sum of the cells, (n, 1)."""
    return layers.Lambda(lambda cells: tf.reduce_sum(cells, axis=(1, 2, 3)), output_shape=(1,), name="ecal")(cells)


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Copy the weights of a network to another with the same variables in the same order.

    Raises:
        ValueError: the networks have different variables.
    """
    given, expected = ([(_kind(v), tuple(v.shape)) for v in model.weights] for model in (source, target))
    if given != expected:
        raise ValueError(f"{source.name} has the variables {given}; expected those of the plain network, {expected}")
    target.set_weights(source.get_weights())


def _kind(variable: keras.Variable) -> str:
    return variable.path.rsplit("/", 1)[-1]
