"""The operations after a convolution and their gradients equal a sequence of Keras' layers.

Keras computes the exact values in float64. The tolerances follow the same formulas with `Tracked` values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

from gan.ops.activations import EPSILON, activated, local_moments, normalized, normalized_by, scaled
from gan.ops.draws import keep
from tests.support.rounding import Tracked, assert_within, where

pytestmark = pytest.mark.numeric

SLOPE, RATE = 0.3125, 0.2
"""Slope and rate. The slope is exact in binary, because TensorFlow's LeakyReLU stores it in FP32 even for float64."""
SHAPE = (3, 5, 6, 7, 8)


def random(seed: int, *shape: int) -> tf.Tensor:
    return tf.constant(np.random.default_rng(seed).standard_normal(shape), tf.float32)


CELLS, BIAS, GAMMA, BETA = random(0, *SHAPE), random(1, 8), random(2, 8), random(3, 8)
SEEDS = tf.constant(np.random.default_rng(4).integers(2**32, size=(3, 2)), tf.uint32)


UPSTREAM = random(9, *SHAPE)
KEPT = keep(SEEDS, SHAPE[1:], RATE)
AXES = (0, 1, 2, 3)
INPUTS = CELLS, BIAS, GAMMA, BETA


def leaky(cells: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    return keras.layers.LeakyReLU(negative_slope=SLOPE, dtype="float64")(cells + bias)


def dropped(cells: tf.Tensor, rate: float) -> tf.Tensor:
    return cells * tf.cast(KEPT, cells.dtype) / (1 - rate) if rate else cells


def with_gradients(function: Callable[..., Any], *inputs: tf.Tensor) -> list[np.ndarray]:
    """Return the result and the gradients of the inputs for the upstream gradient UPSTREAM."""
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        result = function(*inputs)
    return [value.numpy() for value in (result, *tape.gradient(result, inputs, tf.cast(UPSTREAM, result.dtype)))]


def exact(function: Callable[..., Any], *inputs: tf.Tensor) -> list[np.ndarray]:
    return with_gradients(function, *(tf.cast(value, tf.float64) for value in inputs))


def tracked(chain: str, rate: float) -> list[Tracked]:
    """Compute a chain and its gradients by the formulas, with bounds for the errors of FP32."""

    def drop(values: Tracked) -> Tracked:
        return where(KEPT, values / (1 - rate), Tracked(np.zeros(SHAPE))) if rate else values

    def by_sign(values: Tracked) -> Tracked:
        # A rounded sum of two numbers has the sign of the exact sum, so every program is on the same side of LeakyReLU.
        return where(biased.value > 0, values, values * SLOPE)

    biased = Tracked(CELLS) + BIAS
    active, of_result = by_sign(biased), drop(Tracked(UPSTREAM))
    result, of_active, parameters = active, of_result, []
    if chain == "scaled":
        result, of_active = active * GAMMA + BETA, of_result * GAMMA
        parameters = [(of_result * active).sum(AXES), of_result.sum(AXES)]
    if chain == "normalized":
        number = float(np.prod(SHAPE[:4]))
        apart = active - active.sum(AXES) / number
        inverse = ((apart * apart).sum(AXES) / number + EPSILON).rsqrt()
        normal = apart * inverse
        result = normal * GAMMA + BETA
        of_gamma, of_beta = (of_result * normal).sum(AXES), of_result.sum(AXES)
        # Ioffe and Szegedy, ICML 2015, section 3.
        of_active = (of_result - of_beta / number - normal * (of_gamma / number)) * inverse * GAMMA
        parameters = [of_gamma, of_beta]
    of_cells = by_sign(of_active)
    return [drop(result), of_cells, of_cells.sum(AXES), *parameters]


def assert_close(computed: list[np.ndarray], exact: list[np.ndarray], bounds: list[Tracked]) -> None:
    for ours, theirs, bound in zip(computed, exact, bounds, strict=True):
        # Compute Keras' formulas and their bounds in float64.
        np.testing.assert_allclose(bound.value, theirs, rtol=1e-9, atol=1e-9)
        assert_within(ours, theirs, bound.error)


@pytest.mark.parametrize("rate", [0.0, RATE])
def test_activation_and_dropout(rate: float) -> None:
    assert_close(
        with_gradients(lambda c, b: activated(c, b, SEEDS, slope=SLOPE, rate=rate), CELLS, BIAS),
        exact(lambda c, b: dropped(leaky(c, b), rate), CELLS, BIAS),
        tracked("activated", rate),
    )


def test_fixed_normalization() -> None:
    assert_close(
        with_gradients(lambda c, b, s, t: scaled(c, b, s, t, SEEDS, slope=SLOPE, rate=RATE), *INPUTS),
        exact(lambda c, b, s, t: dropped(leaky(c, b) * s + t, RATE), *INPUTS),
        tracked("scaled", RATE),
    )


def keras_chain(rate: float) -> Callable[..., tf.Tensor]:
    norm = keras.layers.BatchNormalization(dtype="float64")
    norm.build(SHAPE)
    assert norm.epsilon == EPSILON
    # Keras normalizes with a scale of 1 and a shift of 0. Our scale and shift follow as a linear map.
    return lambda a, b, c, d: dropped(norm(leaky(a, b), training=True) * c + d, rate)


@pytest.mark.parametrize("rate", [0.0, RATE])
def test_batch_normalization_is_keras(rate: float) -> None:
    assert_close(
        with_gradients(lambda a, b, c, d: normalized(a, b, c, d, SEEDS, slope=SLOPE, rate=rate)[0], *INPUTS),
        exact(keras_chain(rate), *INPUTS),
        tracked("normalized", rate),
    )


def test_batch_normalization_over_ranks_is_keras() -> None:
    """The gradient is TensorFlow's automatic gradient, which sums the same terms in another form."""
    assert_close(
        with_gradients(
            lambda a, b, c, d: normalized_by(local_moments, a, b, c, d, SEEDS, slope=SLOPE, rate=RATE)[0], *INPUTS
        ),
        exact(keras_chain(RATE), *INPUTS),
        tracked("normalized", RATE),
    )


def test_cells_of_bf16_stay_bf16_and_are_rounded_once() -> None:
    cells = tf.cast(CELLS, tf.bfloat16)
    result = activated(cells, BIAS, SEEDS, slope=SLOPE, rate=RATE)
    assert result.dtype == tf.bfloat16
    biased = Tracked(cells) + BIAS
    active = where(biased.value > 0, biased, biased * SLOPE) / (1 - RATE)
    bound = where(KEPT, active, Tracked(np.zeros(SHAPE)))
    assert_within(result, bound.value, bound.error, rounded=ml_dtypes.bfloat16)
