"""Every form of a convolution gives what TensorFlow's own gives, and so do its gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from gan.ops.convolutions import Padding, convolve, convolve_upsampled, same
from gan.precision.arithmetic import Arithmetic

FP32 = Arithmetic()
WIDE = Arithmetic(multiplier=(32, 16))
ROUNDED = Arithmetic(format="bfloat16", products="float32")

kernels = st.tuples(*[st.integers(1, 5)] * 3)
channels = st.sampled_from([1, 3, 8, 16, 20])


def random(seed: int, *shape: int) -> tf.Tensor:
    return tf.constant(np.random.default_rng(seed).standard_normal(shape), tf.float32)


def plain(cells: tf.Tensor, kernel: tf.Tensor, padding: Padding) -> tf.Tensor:
    return tf.nn.conv3d(tf.pad(cells, [(0, 0), *padding, (0, 0)]), kernel, [1] * 5, "VALID")


def upsampled(cells: tf.Tensor, factors: tuple[int, ...]) -> tf.Tensor:
    for axis, factor in enumerate(factors, start=1):
        cells = tf.repeat(cells, factor, axis)
    return cells


def results_and_gradients(function: Callable[..., Any], cells: tf.Tensor, kernel: tf.Tensor) -> list[np.ndarray]:
    with tf.GradientTape() as tape:
        tape.watch([cells, kernel])
        result = tf.cast(function(cells, kernel), tf.float32)
        # Weights that differ from place to place, so that a gradient in the wrong place is seen.
        loss = tf.reduce_sum(result * random(9, *result.shape))
    return [value.numpy() for value in (result, *tape.gradient(loss, [cells, kernel]))]


def assert_same(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5 * max(1.0, np.abs(theirs).max()))


@pytest.mark.parametrize("arithmetic", [FP32, WIDE])
@settings(max_examples=20, deadline=None)
@given(
    size=kernels,
    more=st.tuples(*[st.integers(0, 4)] * 3),
    inputs=channels,
    outputs=channels,
    pads=st.tuples(*[st.integers(0, 4)] * 6),
)
def test_convolutions_are_tensorflows(
    arithmetic: Arithmetic, size: tuple, more: tuple, inputs: int, outputs: int, pads: tuple
) -> None:
    padding = [(min(pads[2 * n], k - 1), min(pads[2 * n + 1], k - 1)) for n, k in enumerate(size)]
    cells = random(1, 2, *(k + extra for k, extra in zip(size, more, strict=True)), inputs)
    kernel = random(2, *size, inputs, outputs)
    assert_same(
        results_and_gradients(lambda x, k: convolve(x, k, padding, arithmetic), cells, kernel),
        results_and_gradients(lambda x, k: plain(x, k, padding), cells, kernel),
    )


@settings(max_examples=25, deadline=None)
@given(
    size=kernels,
    lengths=st.tuples(*[st.integers(3, 5)] * 3),
    factors=st.tuples(*[st.integers(1, 3)] * 3),
    pads=st.tuples(*[st.integers(0, 3)] * 6),
)
def test_upsampled_convolutions_are_tensorflows_after_repeating_the_cells(
    size: tuple, lengths: tuple, factors: tuple, pads: tuple
) -> None:
    size = tuple(min(k, n) for k, n in zip(size, lengths, strict=True))
    padding = [(pads[2 * n], pads[2 * n + 1]) for n in range(3)]
    cells, kernel = random(1, 2, *lengths, 3), random(2, *size, 3, 2)
    assert_same(
        results_and_gradients(lambda x, k: convolve_upsampled(x, k, factors, padding, FP32), cells, kernel),
        results_and_gradients(lambda x, k: plain(upsampled(x, factors), k, padding), cells, kernel),
    )


def test_same_padding_is_tensorflows() -> None:
    cells, kernel = random(1, 1, 7, 7, 8, 2), random(2, 6, 5, 8, 2, 3)
    np.testing.assert_allclose(
        plain(cells, kernel, same(kernel.shape[:3])), tf.nn.conv3d(cells, kernel, [1] * 5, "SAME"), rtol=1e-4, atol=1e-4
    )


def test_rounded_operands_give_what_bf16_kernels_give() -> None:
    """oneDNN's BF16 kernels multiply rounded operands, add in FP32 and round the result."""
    native = Arithmetic(format="bfloat16", products="bfloat16")
    cells, kernel = tf.cast(random(1, 2, 9, 9, 9, 8), tf.bfloat16), random(2, 5, 5, 5, 8, 8)
    padding = same(kernel.shape[:3])
    found, expected = (
        results_and_gradients(lambda x, k, a=a: convolve(x, k, padding, a), cells, kernel) for a in (ROUNDED, native)
    )
    for ours, theirs in zip(found, expected, strict=True):
        # A sum in another order may round to the neighbouring BF16 number, 2^-8 away.
        np.testing.assert_allclose(ours.astype("f4"), theirs.astype("f4"), rtol=2**-7, atol=2**-7)
        assert np.mean(ours != theirs) < 0.02
