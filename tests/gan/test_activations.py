"""The chains after a convolution give what Keras' layers give one after the other, and so do their gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from gan.ops.activations import EPSILON, activated, local_moments, normalized, normalized_by, scaled
from gan.ops.draws import keep

SLOPE, RATE = 0.3, 0.2
SHAPE = (3, 5, 6, 7, 8)


def random(seed: int, *shape: int) -> tf.Tensor:
    return tf.constant(np.random.default_rng(seed).standard_normal(shape), tf.float32)


CELLS, BIAS, GAMMA, BETA = random(0, *SHAPE), random(1, 8), random(2, 8), random(3, 8)
SEEDS = tf.constant(np.random.default_rng(4).integers(2**32, size=(3, 2)), tf.uint32)


def leaky(cells: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    return keras.layers.LeakyReLU(negative_slope=SLOPE)(cells + bias)


def dropped(cells: tf.Tensor, rate: float) -> tf.Tensor:
    return cells * tf.cast(keep(SEEDS, SHAPE[1:], rate), tf.float32) / (1 - rate) if rate else cells


def with_gradients(function: Callable[..., Any], *inputs: tf.Tensor) -> list[np.ndarray]:
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        result = function(*inputs)
        loss = tf.reduce_sum(result * random(9, *SHAPE))
    return [value.numpy() for value in (result, *tape.gradient(loss, inputs))]


def assert_same(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5 * np.abs(theirs).max())


@pytest.mark.parametrize("rate", [0.0, RATE])
def test_activation_and_dropout(rate: float) -> None:
    assert_same(
        with_gradients(lambda c, b: activated(c, b, SEEDS, slope=SLOPE, rate=rate), CELLS, BIAS),
        with_gradients(lambda c, b: dropped(leaky(c, b), rate), CELLS, BIAS),
    )


def test_fixed_normalization() -> None:
    assert_same(
        with_gradients(lambda c, b, s, t: scaled(c, b, s, t, SEEDS, slope=SLOPE, rate=RATE), CELLS, BIAS, GAMMA, BETA),
        with_gradients(lambda c, b, s, t: dropped(leaky(c, b) * s + t, RATE), CELLS, BIAS, GAMMA, BETA),
    )


@pytest.mark.parametrize("rate", [0.0, RATE])
def test_batch_normalization_is_keras(rate: float) -> None:
    keras_norm = keras.layers.BatchNormalization()
    keras_norm.build(SHAPE)

    def theirs(cells: tf.Tensor, bias: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor) -> tf.Tensor:
        # Keras normalizes with its own scale and offset of 1 and 0; ours follow as a linear map.
        return dropped(keras_norm(leaky(cells, bias), training=True) * gamma + beta, rate)

    inputs = CELLS, BIAS, GAMMA, BETA
    assert_same(
        with_gradients(lambda a, b, c, d: normalized(a, b, c, d, SEEDS, slope=SLOPE, rate=rate)[0], *inputs),
        with_gradients(theirs, *inputs),
    )
    assert keras_norm.epsilon == EPSILON


def test_written_out_gradient_is_the_automatic_one() -> None:
    inputs = CELLS, BIAS, GAMMA, BETA
    assert_same(
        with_gradients(lambda a, b, c, d: normalized(a, b, c, d, SEEDS, slope=SLOPE, rate=RATE)[0], *inputs),
        with_gradients(
            lambda a, b, c, d: normalized_by(local_moments, a, b, c, d, SEEDS, slope=SLOPE, rate=RATE)[0], *inputs
        ),
    )


def test_cells_of_bf16_stay_so_and_are_rounded_once() -> None:
    cells = tf.cast(CELLS, tf.bfloat16)
    exact = activated(tf.cast(cells, tf.float32), BIAS, SEEDS, slope=SLOPE, rate=RATE)
    found = activated(cells, BIAS, SEEDS, slope=SLOPE, rate=RATE)
    assert found.dtype == tf.bfloat16
    np.testing.assert_array_equal(found, tf.cast(exact, tf.bfloat16))
