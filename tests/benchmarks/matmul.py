"""Measure the rate at which this machine multiplies matrices: the upper limit for every part of a training."""

from __future__ import annotations

import time

import tensorflow as tf

from tests.benchmarks.timing import Measurement

__all__ = ["DTYPES", "SIZE", "product_rate"]

DTYPES = {"fp32": tf.float32, "bf16": tf.bfloat16}
SIZE = 2048
"""Rows and columns of the matrices. Their product is 17 GFLOP: enough for the full rate, in a fraction of a second."""


def product_rate(precision: str, size: int = SIZE) -> Measurement:
    """Return a measurement of the product of two square matrices in GFLOP/s; the precision is that of the operands."""
    one, other = (tf.cast(tf.random.stateless_normal((size, size), (1, part)), DTYPES[precision]) for part in (0, 1))
    multiply = tf.function(tf.matmul)

    def measure() -> float:
        began = time.perf_counter()
        multiply(one, other).numpy()
        return 2e-9 * size**3 / (time.perf_counter() - began)

    return measure
