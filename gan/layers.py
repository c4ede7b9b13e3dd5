"""The two layers that Keras does not have in the form a data-parallel training needs.

What networks are made of them is in `architectures`; how numbers travel between ranks is the communicator's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from gan.draws import Draws

__all__ = ["CounterDropout", "Masks", "SynchronizedBatchNormalization", "frozen"]

TensorMean = Callable[[tf.Tensor], tf.Tensor]


class Masks:
    """Where dropout layers take their masks from while a step is traced: the draws and the use they are for."""

    def __init__(self) -> None:
        self.current: tuple[Draws, str] | None = None

    @contextmanager
    def drawn(self, draws: Draws, use: str) -> Iterator[None]:
        self.current = (draws, use)
        try:
            yield
        finally:
            self.current = None


class CounterDropout(keras.layers.Dropout):
    """Dropout whose masks come from `Masks`, so that they do not depend on the number of ranks or on a saved state.

    Outside `Masks.drawn` it is Keras' own dropout.
    """

    def __init__(self, rate: float, masks: Masks, **kwargs: Any) -> None:
        super().__init__(rate, **kwargs)
        self.masks = masks

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        if not training or self.masks.current is None:
            return super().call(inputs, training=training)
        draws, use = self.masks.current
        keep = draws.keep(f"{use}/{self.name}", inputs.shape[1:], self.rate)
        return tf.where(keep, inputs / (1 - self.rate), tf.zeros([], inputs.dtype))


class SynchronizedBatchNormalization(keras.layers.BatchNormalization):
    """Batch normalization over the global batch: means and mean squares are averaged over the ranks.

    The mean over ranks is its own adjoint, so the gradient of the average is the average of the gradients.
    """

    def __init__(self, mean_over_ranks: TensorMean, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._mean_over_ranks = mean_over_ranks

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None) -> tf.Tensor:
        if not (training and self.trainable):
            return super().call(inputs, training=False)
        cells = tf.cast(inputs, tf.float32)
        axes = list(range(len(inputs.shape) - 1))
        local = tf.concat([tf.reduce_mean(cells, axes), tf.reduce_mean(tf.square(cells), axes)], axis=0)
        mean, mean_square = tf.split(self._average(local), 2)
        variance = tf.maximum(mean_square - tf.square(mean), 0.0)
        for moving, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + now * (1.0 - self.momentum))
        normal = tf.nn.batch_normalization(
            cells, mean, variance, offset=self.beta, scale=self.gamma, variance_epsilon=self.epsilon
        )
        return tf.cast(normal, self.compute_dtype)

    def _average(self, local: tf.Tensor) -> tf.Tensor:
        @tf.custom_gradient
        def average(values: tf.Tensor) -> tuple[tf.Tensor, TensorMean]:
            return self._mean_over_ranks(values), self._mean_over_ranks

        return average(local)


@contextmanager
def frozen(network: keras.Model) -> Iterator[None]:
    """While a step is traced: the network's BatchNorm layers use and keep their moving statistics."""
    network.trainable = False
    try:
        yield
    finally:
        network.trainable = True
