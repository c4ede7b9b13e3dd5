"""The layer of all networks: a convolution with its activation, batch normalization and dropout.

Module `convolutions` computes the convolution and `activations` the rest. The networks are in `gan.models`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import keras
import tensorflow as tf

from gan.ops.activations import EPSILON, activated, all_but_channels, normalized, normalized_by, scaled
from gan.ops.convolutions import Padding, convolve, convolve_upsampled
from gan.ops.draws import Draws
from gan.ops.images import convolve_images
from gan.precision.arithmetic import Arithmetic

__all__ = ["BatchNorm", "ConvolutionBlock", "DenseBlock", "Masks", "frozen"]

TensorMean = Callable[[tf.Tensor], tf.Tensor]

MOMENTUM = 0.99
"""Weight of the old value in moving averages. This is Keras' default."""


class Masks:
    """Dropout masks and noise for all layers of a network while a step is traced.

    Outside the `with` block of `drawn`, nothing is dropped and there is no noise.

    Args:
        rate: probability that a cell is dropped.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._current: tuple[Draws, str] | None = None

    @contextmanager
    def drawn(self, draws: Draws, use: str) -> Iterator[None]:
        """Take the masks from these draws. `use` is the name of the update: other updates get other masks."""
        self._current = (draws, use)
        try:
            yield
        finally:
            self._current = None

    def noise(self, layer: str, shape: Sequence[int]) -> tf.Tensor | None:
        """Return standard normal numbers for a layer, float32 (batch, *shape), or None outside the `with` block."""
        if self._current is None:
            return None
        draws, use = self._current
        return tf.reshape(draws.normal(f"{use}/{layer}", math.prod(shape)), (draws.batch, *shape))

    def of(self, layer: str) -> tuple[float, tf.Tensor]:
        """Return the dropout rate of a layer and the seeds of its mask, uint32 (batch, 2); see `draws.keep`."""
        if self._current is None:
            return nothing_dropped()
        draws, use = self._current
        return self._rate, draws.words(f"{use}/{layer}", 2)


def nothing_dropped() -> tuple[float, tf.Tensor]:
    """Return the result of `Masks.of` for a layer without dropout."""
    return 0.0, tf.zeros((1, 2), tf.uint32)


class BatchNorm:
    """Batch normalization over each rank's own batch, or over the global batch.

    Args:
        mean_over_ranks: function that averages a tensor (n,) over the ranks, for statistics of the global batch.
        momentum: weight of the old value in moving averages, a number or a variable of TensorFlow.
    """

    def __init__(self, mean_over_ranks: TensorMean | None = None, momentum: Any = MOMENTUM) -> None:
        self._mean_over_ranks = mean_over_ranks
        self.momentum = momentum
        # A fused loop cannot contain an exchange between ranks.
        self.normalized = partial(normalized_by, self._moments) if mean_over_ranks else normalized

    def _moments(self, cells: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        axes = all_but_channels(cells)
        local = tf.concat([tf.reduce_mean(cells, axes), tf.reduce_mean(tf.square(cells), axes)], axis=0)
        mean, mean_square = tf.split(self._average(local), 2)
        return mean, tf.maximum(mean_square - tf.square(mean), 0.0)

    def _average(self, local: tf.Tensor) -> tf.Tensor:
        # The gradient of an average over ranks is the average of the gradients over ranks.
        @tf.custom_gradient
        def average(values: tf.Tensor) -> tuple[tf.Tensor, TensorMean]:
            assert self._mean_over_ranks is not None
            return self._mean_over_ranks(values), self._mean_over_ranks

        return average(local)


class ConvolutionBlock(keras.layers.Layer):
    """Upsampling, zero padding and convolution, then bias, LeakyReLU, batch normalization and dropout.

    Variables have the names, shapes and order of Keras' own layers. All are float32. The block does not cast the kernel
    to the compute format: after an upsampling, taps that meet the same cell are added first, and only sums are cast.

    Args:
        filters: number of output channels.
        size: taps of the kernel along x, y and depth. With two numbers, the block convolves images, see `images`.
        padding: zeros before and after, for each axis.
        upsampling: factors along x, y and depth by which cells are repeated before the padding.
        slope: slope of LeakyReLU for negative numbers. If it is None, the block has no bias and no activation.
        bias: whether a bias is added before LeakyReLU.
        norm: batch normalization after the activation.
        masks: source of dropout masks.
        initializer: Keras initializer of the kernel.
    """

    def __init__(
        self,
        filters: int,
        size: tuple[int, ...],
        padding: Padding,
        *,
        upsampling: Sequence[int] | None = None,
        slope: float | None = None,
        bias: bool = True,
        norm: BatchNorm | None = None,
        masks: Masks | None = None,
        initializer: str = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.filters, self.size, self.padding, self.upsampling = filters, size, padding, upsampling
        self.slope, self.norm, self.masks, self.initializer = slope, norm, masks, initializer
        self.has_bias = bias and slope is not None
        self.arithmetic = Arithmetic.of(self.dtype_policy)

    def build(self, input_shape: Sequence[int | None]) -> None:
        add = partial(self.add_weight, shape=(self.filters,), autocast=False)
        shape = (*self.size, input_shape[-1], self.filters)
        self.kernel = add(name="kernel", shape=shape, initializer=self.initializer)
        if self.has_bias:
            self.bias = add(name="bias", initializer="zeros")
        if self.norm is not None:
            self.gamma = add(name="gamma", initializer="ones")
            self.beta = add(name="beta", initializer="zeros")
            self.moving_mean = add(name="moving_mean", initializer="zeros", trainable=False)
            self.moving_variance = add(name="moving_variance", initializer="ones", trainable=False)

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        cells = self._convolved(inputs)
        if self.slope is None:
            return cells
        rate, seeds = self.masks.of(self.name) if self.masks and training else nothing_dropped()
        bias = self.bias.value if self.has_bias else tf.zeros(self.filters)
        if self.norm is None:
            return activated(cells, bias, seeds, slope=self.slope, rate=rate)
        gamma, beta = self.gamma.value, self.beta.value
        if not (training and self.trainable):
            scale = gamma * tf.math.rsqrt(self.moving_variance.value + EPSILON)
            shift = beta - self.moving_mean.value * scale
            return scaled(cells, bias, scale, shift, seeds, slope=self.slope, rate=rate)
        cells, mean, variance = self.norm.normalized(cells, bias, gamma, beta, seeds, slope=self.slope, rate=rate)
        for moving, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.norm.momentum + now * (1.0 - self.norm.momentum))
        return cells

    def _convolved(self, inputs: tf.Tensor) -> tf.Tensor:
        kernel = self.kernel.value
        if len(self.size) == 2:
            return convolve_images(inputs, kernel, self.padding, self.arithmetic)
        if self.upsampling is None:
            return convolve(inputs, kernel, self.padding, self.arithmetic)
        return convolve_upsampled(inputs, kernel, self.upsampling, self.padding, self.arithmetic)


class DenseBlock(keras.layers.Layer):
    """Dense layer, LeakyReLU, batch normalization and dropout: features (n, in) -> (n, units).

    It is a convolution of images with one cell.

    Args:
        units: number of results.

    The other arguments are the same as for `ConvolutionBlock`.
    """

    def __init__(self, units: int, *, slope: float, norm: BatchNorm, masks: Masks, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.block = ConvolutionBlock(
            units,
            (1, 1),
            [(0, 0)] * 2,
            slope=slope,
            norm=norm,
            masks=masks,
            dtype=self.dtype_policy,
            name=f"{self.name}_block",
        )

    def build(self, input_shape: Sequence[int | None]) -> None:
        self.block.build((None, 1, 1, input_shape[-1]))

    def call(self, features: tf.Tensor, training: bool = False) -> tf.Tensor:
        return self.block(features[:, tf.newaxis, tf.newaxis, :], training=training)[:, 0, 0, :]


@contextmanager
def frozen(network: keras.Model) -> Iterator[None]:
    """While a step is traced, make batch normalization use its moving statistics and leave them unchanged."""
    network.trainable = False
    try:
        yield
    finally:
        network.trainable = True
