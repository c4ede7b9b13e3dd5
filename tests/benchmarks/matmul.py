"""The rate at which this machine multiplies matrices: what nothing of the training can exceed."""

from __future__ import annotations

import time

import tensorflow as tf

from tests.benchmarks.timing import Measurement

__all__ = ["DTYPES", "SIZE", "product_rate"]

DTYPES = {"fp32": tf.float32, "bf16": tf.bfloat16}
SIZE = 2048
"""Rows and columns: large enough for the full rate (17 GFLOP), small enough for a fraction of a second."""


def product_rate(precision: str, size: int = SIZE) -> Measurement:
    """A measurement of GFLOP/s of the product of two square matrices, operands in the precision's type."""
    one, other = (tf.cast(tf.random.stateless_normal((size, size), (1, part)), DTYPES[precision]) for part in (0, 1))
    multiply = tf.function(tf.matmul)

    def measure() -> float:
        began = time.perf_counter()
        multiply(one, other).numpy()
        return 2e-9 * size**3 / (time.perf_counter() - began)

    return measure
