"""Bias, LeakyReLU, batch normalization and dropout after a convolution, as one loop over the cells.

Cells are (batch, x, y, depth, channels) in the format of the layers, or (batch, x, y, channels) for networks with
two-dimensional convolutions. All functions compute in float32 and round only their result. Variables and moving
averages are in `blocks`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import tensorflow as tf

from gan.ops.draws import keep
from gan.ops.fusion import fused

__all__ = ["EPSILON", "activated", "all_but_channels", "local_moments", "normalized", "normalized_by", "scaled"]

EPSILON = 1e-3
"""Number added to variances; Keras' default."""

Moments = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def local_moments(cells: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return mean and variance of every channel over this rank's batch, (channels,) each."""
    mean = tf.reduce_mean(cells, axis=all_but_channels(cells))
    return mean, tf.reduce_mean(tf.square(cells - mean), axis=all_but_channels(cells))


def all_but_channels(cells: tf.Tensor) -> list[int]:
    """Return the numbers of all axes except the last one."""
    return list(range(cells.shape.rank - 1))


@fused
def activated(cells: tf.Tensor, bias: tf.Tensor, seeds: tf.Tensor, *, slope: float, rate: float) -> tf.Tensor:
    """Apply bias, LeakyReLU and dropout.

    Args:
        cells: result of a convolution.
        bias: float32 (channels,).
        seeds: uint32 (batch, 2) for the dropout mask, see `draws.keep`; ignored if `rate` is 0.
        slope: slope of LeakyReLU below zero.
        rate: probability that a cell is dropped.
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
    """Apply bias, LeakyReLU, a fixed scale and shift per channel, and dropout.

    Args:
        scale: float32 (channels,), from the moving statistics of a batch normalization.
        shift: float32 (channels,), like `scale`.

    The other arguments are the same as for `activated`.
    """
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
    """Apply bias, LeakyReLU, batch normalization and dropout.

    Args:
        moments: function that returns mean and variance of every channel.
        gamma: scale of the normalized cells, float32 (channels,).
        beta: shift of the normalized cells, float32 (channels,).

    The other arguments are the same as for `activated`.

    Returns:
        The cells, and the mean and variance of every channel, float32 (channels,) each.
    """
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
    """Apply `normalized_by` with the moments of this rank's batch.

    The gradient is written out (Ioffe and Szegedy, ICML 2015, section 3), since the automatic one reads the cells seven
    times instead of three. The returned means and variances are for moving averages and have no gradient.
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
    """Return the gradients of cells, bias, gamma and beta."""
    axes = all_but_channels(cells)
    number = float(math.prod(cells.shape[:-1]))
    active = _leaky(cells, bias, slope)
    inverse = tf.math.rsqrt(variance + EPSILON)
    normal = (active - mean) * inverse
    of_result = _dropped(tf.cast(upstream, tf.float32), seeds, rate, tf.float32)
    of_beta, of_gamma = tf.reduce_sum(of_result, axes), tf.reduce_sum(of_result * normal, axes)
    of_active = gamma * inverse * (of_result - of_beta / number - normal * (of_gamma / number))
    # LeakyReLU keeps the sign of its input if the slope is positive.
    of_biased = tf.where(active > 0, of_active, slope * of_active)
    return tf.cast(of_biased, cells.dtype), tf.reduce_sum(of_biased, axes), of_gamma, of_beta


def _leaky(cells: tf.Tensor, bias: tf.Tensor, slope: float) -> tf.Tensor:
    biased = tf.cast(cells, tf.float32) + bias
    return tf.where(biased > 0, biased, slope * biased)


def _dropped(cells: tf.Tensor, seeds: tf.Tensor, rate: float, dtype: tf.DType) -> tf.Tensor:
    if rate:
        cells = tf.where(keep(seeds, cells.shape[1:], rate), cells / (1.0 - rate), 0.0)
    return tf.cast(cells, dtype)
