"""Chains of cheap operations, compiled into one loop over the cells where TensorFlow would run a loop for each.

Convolutions stay with oneDNN, which XLA's own are ten times slower than. What lies between them (bias, LeakyReLU, batch
normalization, dropout with its random numbers) is bound by memory: fused, it is read and written once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

__all__ = ["fused"]


def fused(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function of tensors, and its gradient, with XLA.

    The gradient computes what it needs again from the function's inputs: cheaper than to keep and to read it. Keyword
    arguments are constants of the compilation. Inputs that are no floating-point numbers have no gradient.
    """

    @functools.wraps(function)
    def call(*inputs: tf.Tensor, **constants: Any) -> Any:
        @tf.custom_gradient
        def differentiable(*inputs: tf.Tensor) -> tuple[Any, Callable[..., Any]]:
            def gradients(*upstream: tf.Tensor) -> Any:
                return backward(inputs, upstream, **constants)

            return forward(*inputs, **constants), gradients

        return differentiable(*inputs)

    forward = tf.function(function, jit_compile=True, autograph=False)

    @tf.function(jit_compile=True, autograph=False)
    def backward(inputs: tuple[tf.Tensor, ...], upstream: tuple[tf.Tensor, ...], **constants: Any) -> Any:
        floating = [value for value in inputs if value.dtype.is_floating]
        with tf.GradientTape() as tape:
            tape.watch(floating)
            outputs = tf.nest.flatten(function(*inputs, **constants))
        found = iter(tape.gradient(outputs, floating, list(upstream), tf.UnconnectedGradients.ZERO))
        return [next(found) if value.dtype.is_floating else None for value in inputs]

    return call
