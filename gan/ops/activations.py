"""What follows a convolution: bias, LeakyReLU, batch normalization and dropout, each chain one loop over the cells.

Cells are (batch, x, y, depth, channels) in the format that layers compute in; everything is computed in float32, and
only the result is rounded. Variables and moving averages are the business of `layers`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import tensorflow as tf

from gan.ops.draws import keep
from gan.ops.fusion import fused

__all__ = ["EPSILON", "activated", "local_moments", "normalized", "normalized_by", "scaled"]

EPSILON = 1e-3
"""Added to variances, as Keras does."""

Moments = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def local_moments(cells: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean and variance of every channel over the batch at hand, (channels,) each."""
    mean = tf.reduce_mean(cells, axis=[0, 1, 2, 3])
    return mean, tf.reduce_mean(tf.square(cells - mean), axis=[0, 1, 2, 3])


@fused
def activated(cells: tf.Tensor, bias: tf.Tensor, seeds: tf.Tensor, *, slope: float, rate: float) -> tf.Tensor:
    """Bias, LeakyReLU and dropout.

    Args:
        cells: what a convolution gave.
        bias: float32 (channels,).
        seeds: uint32 (batch, 2) for the dropout mask, see `draws.keep`.
        slope: of LeakyReLU below zero.
        rate: share of cells that is dropped; with 0 `seeds` is not looked at.
    """
    return _dropped(_leaky(cells, bias, slope), seeds, rate, cells.dtype)


@fused
def scaled(
    cells: tf.Tensor,
    bias: tf.Tensor,
    scale: tf.Tensor,
    shift: tf.Tensor,
    seeds: tf.Tensor,
    *,
    slope: float,
    rate: float,
) -> tf.Tensor:
    """As `activated`, with a scale and a shift of every channel before the dropout: a normalization that is fixed."""
    return _dropped(_leaky(cells, bias, slope) * scale + shift, seeds, rate, cells.dtype)


def normalized_by(
    moments: Moments,
    cells: tf.Tensor,
    bias: tf.Tensor,
    gamma: tf.Tensor,
    beta: tf.Tensor,
    seeds: tf.Tensor,
    *,
    slope: float,
    rate: float,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """As `activated`, with a batch normalization before the dropout; gives the batch's means and variances as well."""
    active = _leaky(cells, bias, slope)
    mean, variance = moments(active)
    normal = (active - mean) * (gamma * tf.math.rsqrt(variance + EPSILON)) + beta
    return _dropped(normal, seeds, rate, cells.dtype), mean, variance


def normalized(
    cells: tf.Tensor,
    bias: tf.Tensor,
    gamma: tf.Tensor,
    beta: tf.Tensor,
    seeds: tf.Tensor,
    *,
    slope: float,
    rate: float,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """`normalized_by` the batch at hand. The batch's means and variances are for moving averages: without gradient.

    With its gradient written out (Ioffe and Szegedy, ICML 2015, section 3), since the automatic one goes over the cells
    seven times instead of three.
    """

    @tf.custom_gradient
    def differentiable(
        cells: tf.Tensor, bias: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor
    ) -> tuple[tuple[tf.Tensor, ...], Callable[..., Any]]:
        result, mean, variance = _normalized(cells, bias, gamma, beta, seeds, slope=slope, rate=rate)

        def gradients(upstream: tf.Tensor, *_: tf.Tensor) -> tuple[tf.Tensor, ...]:
            return _normalized_gradient(upstream, cells, bias, gamma, mean, variance, seeds, slope=slope, rate=rate)

        return (result, mean, variance), gradients

    return differentiable(cells, bias, gamma, beta)


_normalized = tf.function(partial(normalized_by, local_moments), jit_compile=True, autograph=False)


@partial(tf.function, jit_compile=True, autograph=False)
def _normalized_gradient(
    upstream: tf.Tensor,
    cells: tf.Tensor,
    bias: tf.Tensor,
    gamma: tf.Tensor,
    mean: tf.Tensor,
    variance: tf.Tensor,
    seeds: tf.Tensor,
    *,
    slope: float,
    rate: float,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Gradients of cells, bias, gamma and beta."""
    axes = [0, 1, 2, 3]
    number = float(math.prod(cells.shape[:4]))
    active = _leaky(cells, bias, slope)
    inverse = tf.math.rsqrt(variance + EPSILON)
    normal = (active - mean) * inverse
    of_result = _dropped(tf.cast(upstream, tf.float32), seeds, rate, tf.float32)
    of_beta, of_gamma = tf.reduce_sum(of_result, axes), tf.reduce_sum(of_result * normal, axes)
    of_active = gamma * inverse * (of_result - of_beta / number - normal * (of_gamma / number))
    # The sign of a LeakyReLU's result is that of its input, as long as the slope is positive.
    of_biased = tf.where(active > 0, of_active, slope * of_active)
    return tf.cast(of_biased, cells.dtype), tf.reduce_sum(of_biased, axes), of_gamma, of_beta


def _leaky(cells: tf.Tensor, bias: tf.Tensor, slope: float) -> tf.Tensor:
    biased = tf.cast(cells, tf.float32) + bias
    return tf.where(biased > 0, biased, slope * biased)


def _dropped(cells: tf.Tensor, seeds: tf.Tensor, rate: float, dtype: tf.DType) -> tf.Tensor:
    if rate:
        cells = tf.where(keep(seeds, cells.shape[1:], rate), cells / (1.0 - rate), 0.0)
    return tf.cast(cells, dtype)
