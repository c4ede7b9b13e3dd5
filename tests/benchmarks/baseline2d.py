"""The plain Keras loop for the network `conv2d`, as its authors' script trains it.

The networks follow the published description and share no code with `gan`.
"""

from __future__ import annotations

import keras
from keras import layers

from tests.benchmarks.baseline import DROPOUT_RATE, PlainLoop, cell_sum

__all__ = ["PlainLoop2D", "plain_discriminator2d", "plain_generator2d", "plain_path"]

LOSS_WEIGHTS = (6.0, 0.2, 0.1)
VIEWS = {"depth": ((1, 2, 3), (1, 2, 3)), "y": ((1, 3, 2), (1, 3, 2)), "x": ((2, 3, 1), (3, 1, 2))}
"""Order of the axes in each path, by the axis that becomes the channels: into the path, and back."""


class PlainLoop2D(PlainLoop):
    """The loop with the networks of `conv2d`, the authors' rates and weights, and one update of the generator."""

    real_label = 0.9
    generator_updates = ("generator_1",)

    def __init__(self, batch: int, *, learning_rate: float = 0.0005) -> None:
        self._batch = batch
        self._given = []
        self.generator = plain_generator2d()
        self.discriminator = plain_discriminator2d()
        self._compile(LOSS_WEIGHTS, *(keras.optimizers.Adam(rate * learning_rate) for rate in (0.2, 1.0)))


def _after(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Return LeakyReLU, batch normalization and dropout of the result of a layer."""
    x = layers.BatchNormalization(name=f"{name}_norm")(layers.LeakyReLU(negative_slope=0.3)(x))
    return layers.Dropout(DROPOUT_RATE)(x)


def _block(x: keras.KerasTensor, name: str, filters: int, size: int, padding: str = "same") -> keras.KerasTensor:
    return _after(layers.Conv2D(filters, size, padding=padding, use_bias=False, name=name)(x), name)


def plain_path(x: keras.KerasTensor, view: str) -> keras.KerasTensor:
    """Return one path of the generator, from images (n, 5, 5, 5) to (n, 25, 25, 25)."""
    x = _block(x, f"{view}_conv1", 32, 5)
    x = layers.Conv2DTranspose(64, 5, strides=3, padding="same", name=f"{view}_enlarged2")(x)
    x = _block(x, f"{view}_conv2", 64, 5)
    x = layers.Conv2DTranspose(64, 5, strides=2, padding="same", name=f"{view}_enlarged3")(x)
    x = _block(x, f"{view}_conv3", 64, 8)
    x = _block(x, f"{view}_conv4", 64, 5, "valid")
    x = _block(x, f"{view}_conv5", 32, 4)
    x = _block(x, f"{view}_conv6", 32, 3)
    return _block(x, f"{view}_conv7", 25, 2, "valid")


def plain_generator2d() -> keras.Model:
    """Return the network from a latent vector (n, 200) to cells (n, 25, 25, 25, 1)."""
    latent = keras.Input((200,))
    seed = layers.Reshape((5, 5, 5))(layers.Dense(125)(latent))
    paths = [layers.Permute(back)(plain_path(layers.Permute(into)(seed), view)) for view, (into, back) in VIEWS.items()]
    x = layers.Conv2D(25, 3, padding="same", use_bias=False)(layers.Concatenate()(paths))
    return keras.Model(latent, layers.Reshape((25, 25, 25, 1))(layers.ReLU()(x)), name="generator")


def plain_discriminator2d() -> keras.Model:
    """Return the network from cells (n, 25, 25, 25, 1) to its three outputs, see `baseline.plain_discriminator`."""
    cells = keras.Input((25, 25, 25, 1))
    shower = layers.Reshape((25, 25, 25))(cells)
    paths = []
    for view, (into, back) in VIEWS.items():
        x = _block(layers.Permute(into)(shower), f"{view}_conv1", 64, 8)
        for number, (filters, size) in enumerate(((32, 6), (32, 5), (32, 4), (32, 3), (9, 3)), start=2):
            x = _block(x, f"{view}_conv{number}", filters, size, "valid")
        paths.append(layers.Permute(back)(x))
    x = _after(layers.Dense(10, name="features")(layers.Flatten()(layers.Concatenate()(paths))), "features")
    generation = layers.Dense(1, activation="sigmoid", name="generation")(x)
    auxiliary = layers.Dense(1, name="auxiliary")(x)
    return keras.Model(cells, [generation, auxiliary, cell_sum(cells)], name="discriminator")
