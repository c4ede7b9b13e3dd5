"""Layers and functions for two-dimensional convolutions. Images are (batch, x, y, channels) in the layers' format.

TensorFlow's gradients are used as they are: with 25 to 64 channels, oneDNN's kernels need no other form of the sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import keras
import tensorflow as tf

from gan.ops.convolutions import Padding
from gan.precision.arithmetic import Arithmetic

__all__ = ["TransposedConvolution", "convolve_images"]


def convolve_images(images: tf.Tensor, kernel: tf.Tensor, padding: Padding, arithmetic: Arithmetic) -> tf.Tensor:
    """Convolve images with stride 1.

    Args:
        images: (batch, x, y, in), in the arithmetic's format.
        kernel: float32 (x, y, in, out).
        padding: zeros before and after, for each of the two axes.
        arithmetic: how the processor multiplies numbers.

    Returns:
        (batch, x', y', out) in the arithmetic's format; each axis has length + padding - taps + 1 cells.
    """
    return arithmetic.forward(tf.pad(images, [(0, 0), *padding, (0, 0)]), kernel)


class TransposedConvolution(keras.layers.Layer):
    """Transposed convolution with bias: images (batch, x, y, in) -> (batch, stride * x, stride * y, filters).

    Variables have the names, shapes and order of Keras' `Conv2DTranspose` with padding "same". All are float32.

    Args:
        filters: number of output channels.
        size: taps of the kernel along x and y.
        stride: number of results for each image cell, along x and y.
        initializer: Keras initializer of the kernel.
    """

    def __init__(
        self, filters: int, size: tuple[int, int], stride: int, *, initializer: str = "glorot_uniform", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.filters, self.size, self.stride, self.initializer = filters, size, stride, initializer
        self.arithmetic = Arithmetic.of(self.dtype_policy)

    def build(self, input_shape: Sequence[int | None]) -> None:
        add = partial(self.add_weight, autocast=False)
        shape = (*self.size, self.filters, input_shape[-1])
        self.kernel = add(name="kernel", shape=shape, initializer=self.initializer)
        self.bias = add(name="bias", shape=(self.filters,), initializer="zeros")

    def call(self, images: tf.Tensor) -> tf.Tensor:
        product = self.arithmetic.transposed(images, self.kernel.value, self.stride)
        return product + tf.cast(self.bias.value, product.dtype)
