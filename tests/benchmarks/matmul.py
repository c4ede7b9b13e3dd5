"""Measure the rate of matrix products on this machine: the upper limit for every part of a training."""

from __future__ import annotations

import time

import tensorflow as tf

from tests.benchmarks.timing import Measurement

__all__ = ["DTYPES", "SIZE", "product_rate"]

DTYPES = {"fp32": tf.float32, "bf16": tf.bfloat16}
SIZE = 2048
"""Rows and columns of the matrices. Their product takes 17 GFLOP, which is enough for the full rate and takes a
fraction of a second."""


def product_rate(precision: str, size: int = SIZE) -> Measurement:
    """Return a measurement of a matrix product in GFLOP/s. `precision` is the format of the operands."""
    one, other = (tf.cast(tf.random.stateless_normal((size, size), (1, part)), DTYPES[precision]) for part in (0, 1))
    multiply = tf.function(tf.matmul)

    def measure() -> float:
        began = time.perf_counter()
        multiply(one, other).numpy()
        return 2e-9 * size**3 / (time.perf_counter() - began)

    return measure
