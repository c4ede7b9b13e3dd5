"""Compile chains of cheap operations into one loop over the cells.

TensorFlow runs one loop per operation. Memory limits the speed of the operations between convolutions (bias, LeakyReLU,
batch normalization, dropout), and a fused loop reads and writes the cells only once. Convolutions are not fused,
because XLA's convolutions are ten times slower than oneDNN's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

__all__ = ["fused"]


def fused(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function of tensors and its gradient with XLA.

    The gradient recomputes intermediate values from the inputs, which is cheaper than to store and read them. Keyword
    arguments are constants of the compilation. Integer inputs have no gradient.
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
        gradients = iter(tape.gradient(outputs, floating, list(upstream), tf.UnconnectedGradients.ZERO))
        return [next(gradients) if value.dtype.is_floating else None for value in inputs]

    return call
