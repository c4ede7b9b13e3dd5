"""Convolutions of images and their gradients equal TensorFlow's three-dimensional ones in float64, with depth 1.

TensorFlow's two-dimensional gradients do not support float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

from gan.ops.images import TransposedConvolution, convolve_images
from gan.precision.arithmetic import Arithmetic
from tests.support.rounding import assert_within, product_bounds

pytestmark = pytest.mark.numeric

FP32 = Arithmetic()
ROUNDED = Arithmetic(format="bfloat16", products="float32")
PADDING = [(3, 4), (2, 2)]


def random(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def with_gradients(function: Callable[..., tf.Tensor], upstream: Any, *inputs: Any) -> Sequence[np.ndarray]:
    """Return the result and the gradients of the inputs for an upstream gradient."""
    values = [tf.constant(each) for each in inputs]
    with tf.GradientTape() as tape:
        tape.watch(values)
        result = function(*values)
    return [each.numpy() for each in (result, *tape.gradient(result, values, tf.cast(upstream, result.dtype)))]


def plain(images: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    padded = tf.pad(images, [(0, 0), *PADDING, (0, 0)])
    return tf.nn.conv3d(padded[:, :, :, tf.newaxis], kernel[:, :, tf.newaxis], [1] * 5, "VALID")[:, :, :, 0]


def plain_transposed(stride: int) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    def transposed(images: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        batch, x, y, _ = images.shape
        shape = [batch, stride * x, stride * y, 1, kernel.shape[2]]
        strides = [1, stride, stride, 1, 1]
        deep = images[:, :, :, tf.newaxis], kernel[:, :, tf.newaxis]
        return tf.nn.conv3d_transpose(*deep, shape, strides)[:, :, :, 0]

    return transposed


CASES = {
    "plain": (
        lambda by: partial(convolve_images, padding=PADDING, arithmetic=by),
        plain,
        (2, 7, 6, 3),
        (8, 5, 3, 6),
        (2, 7, 6, 6),
    ),
    "by 3": (
        lambda by: partial(by.transposed, stride=3),
        plain_transposed(3),
        (2, 5, 5, 3),
        (5, 5, 6, 3),
        (2, 15, 15, 6),
    ),
    "by 2": (
        lambda by: partial(by.transposed, stride=2),
        plain_transposed(2),
        (2, 5, 5, 3),
        (5, 5, 6, 3),
        (2, 10, 10, 6),
    ),
}
"""By name: the tested form, the reference, and the shapes of images, kernel and result."""


@pytest.mark.parametrize(
    ("form", "reference", "images_shape", "kernel_shape", "result_shape"), CASES.values(), ids=CASES
)
@pytest.mark.parametrize("arithmetic", [FP32, ROUNDED], ids=["fp32", "bf16"])
def test_results_and_gradients(
    form: Callable[[Arithmetic], Callable[..., tf.Tensor]],
    reference: Callable[..., tf.Tensor],
    images_shape: tuple[int, ...],
    kernel_shape: tuple[int, ...],
    result_shape: tuple[int, ...],
    arithmetic: Arithmetic,
) -> None:
    images, kernel = random(0, *images_shape), random(1, *kernel_shape)
    upstream = random(2, *result_shape)
    if arithmetic is ROUNDED:
        # The operands are rounded first, so the exact values are those of rounded operands.
        images, kernel, upstream = (
            each.astype(ml_dtypes.bfloat16).astype(np.float32) for each in (images, kernel, upstream)
        )
    computed = with_gradients(
        form(arithmetic), upstream, images.astype(arithmetic.format) if arithmetic is ROUNDED else images, kernel
    )

    def exactly(i: np.ndarray, k: np.ndarray, u: np.ndarray) -> Sequence[np.ndarray]:
        return with_gradients(reference, u, i, k)

    operands = [each.astype(np.float64) for each in (images, kernel, upstream)]
    bounds = product_bounds(exactly, *operands)
    rounded = ml_dtypes.bfloat16 if arithmetic is ROUNDED else None
    for value, exact, bound in zip(computed, exactly(*operands), bounds, strict=True):
        assert_within(value, exact, bound, rounded=rounded)


def test_transposed_convolution_adds_its_bias() -> None:
    layer = TransposedConvolution(4, (5, 5), 3)
    images = random(0, 2, 5, 5, 3)
    before = layer(images).numpy()
    layer.bias.assign([1.0, 2.0, 3.0, 4.0])
    assert before.shape == (2, 15, 15, 4)
    # One rounding of the sum.
    np.testing.assert_allclose(layer(images), before + np.array([1, 2, 3, 4]), rtol=2**-23, atol=2**-22)
    assert [tuple(weight.shape) for weight in layer.weights] == [(5, 5, 4, 3), (4,)]
