"""Every form of a convolution, and its gradients, equal TensorFlow's own convolution.

TensorFlow computes the exact values in float64. All results are sums of products, so their tolerances follow from the
number and the size of the products, see `tests.support.rounding`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import product
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from gan.ops.convolutions import Padding, convolve, convolve_upsampled, same
from gan.precision.arithmetic import Arithmetic
from gan.precision.formats import layer_policy
from tests.support.rounding import BF16, assert_within, growth, product_bounds, sum_bound

pytestmark = pytest.mark.numeric

FP32 = Arithmetic()
WIDE = Arithmetic(multiplier=(32, 16))
ROUNDED = Arithmetic(format="bfloat16", products="float32")
NATIVE = Arithmetic.of(layer_policy("bf16"))
"""Arithmetic of BF16 on this processor: with its BF16 instructions, or rounded, perhaps with other folds."""
IN_BF16 = [ROUNDED] if NATIVE == ROUNDED else [ROUNDED, NATIVE]

Form = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

kernels = st.tuples(*[st.integers(1, 5)] * 3)
channels = st.sampled_from([1, 3, 8, 16, 20])


def of_each(arithmetics: Sequence[Arithmetic]) -> pytest.MarkDecorator:
    names = [f"{a.format}-{a.products}-{a.multiplier[0]}x{a.multiplier[1]}" for a in arithmetics]
    return pytest.mark.parametrize("arithmetic", arithmetics, ids=names)


def random(seed: int, *shape: int) -> tf.Tensor:
    return tf.constant(np.random.default_rng(seed).standard_normal(shape), tf.float32)


def plain(cells: tf.Tensor, kernel: tf.Tensor, padding: Padding) -> tf.Tensor:
    return tf.nn.conv3d(tf.pad(cells, [(0, 0), *padding, (0, 0)]), kernel, [1] * 5, "VALID")


def upsampled(cells: tf.Tensor, factors: Sequence[int]) -> tf.Tensor:
    for axis, factor in enumerate(factors, start=1):
        cells = tf.repeat(cells, factor, axis)
    return cells


def result_and_gradients(form: Form, cells: Any, kernel: Any, upstream: Any) -> list[np.ndarray]:
    """Return the result and the gradients of cells and kernel for an upstream gradient."""
    cells, kernel = tf.convert_to_tensor(cells), tf.convert_to_tensor(kernel)
    with tf.GradientTape() as tape:
        tape.watch([cells, kernel])
        result = form(cells, kernel)
    return [value.numpy() for value in (result, *tape.gradient(result, [cells, kernel], upstream))]


def check(
    ours: Form,
    plainly: Form,
    cells: tf.Tensor,
    kernel: tf.Tensor,
    arithmetic: Arithmetic,
    *,
    parts: Callable[[np.ndarray], Iterable[np.ndarray]],
    adds_taps: bool = False,
) -> None:
    """Compare a form and its gradients with the plain form, computed in float64.

    Args:
        ours: the form to check.
        plainly: the plain form.
        cells: float32 (batch, x, y, depth, in).
        kernel: float32 (x, y, depth, in, out).
        arithmetic: the arithmetic of `ours`.
        parts: function that cuts the upstream gradient into parts. The form may round the kernel's gradient of each
            part before it adds the parts.
        adds_taps: whether the form adds taps of the kernel and rounds their sums to the format.
    """
    in_bf16 = arithmetic.format == "bfloat16"
    upstream = random(9, *plainly(cells, kernel).shape)
    computed = result_and_gradients(
        ours, tf.cast(cells, arithmetic.format), kernel, tf.cast(upstream, arithmetic.format)
    )
    # Use the operands of the products: if taps are added, their sums are rounded instead of the taps.
    operands = [
        tf.cast(tf.cast(value, arithmetic.format) if rounds else value, tf.float64).numpy()
        for value, rounds in ((cells, True), (kernel, not adds_taps), (upstream, True))
    ]

    def exactly(*operands: np.ndarray) -> list[np.ndarray]:
        return result_and_gradients(plainly, *operands)

    # A sum of taps needs at most 5 more additions per axis.
    result, of_cells, of_kernel = product_bounds(exactly, *operands, more=15 if adds_taps else 0)
    exact = exactly(*operands)
    if not in_bf16:
        for value, expected, bound in zip(computed, exact, (result, of_cells, of_kernel), strict=True):
            assert_within(value, expected, bound)
        return
    if adds_taps:
        sizes = exactly(*map(np.abs, operands))
        result = result + sum_bound(1, sizes[0], BF16)
        of_cells = of_cells + sum_bound(1, sizes[1], BF16)
    # Add one rounding to BF16 at the end.
    assert_within(computed[0], exact[0], result, rounded=ml_dtypes.bfloat16)
    if kernel.shape[3] == 1 and not adds_taps:
        # Gradients of shifted copies of the cells, one per tap in y and depth, are rounded and added in BF16.
        copies = [exactly(operands[0], tap, operands[2])[1] for tap in taps_across(operands[1])]
        assert_within(computed[1], exact[1], of_cells + growth(len(copies), BF16) * np.abs(copies).sum(axis=0))
    else:
        assert_within(computed[1], exact[1], of_cells, rounded=ml_dtypes.bfloat16)
    of_parts = [exactly(*operands[:2], part)[2] for part in parts(operands[2])]
    assert_within(computed[2], exact[2], of_kernel + growth(1, BF16) * np.abs(of_parts).sum(axis=0))


def taps_across(kernel: np.ndarray) -> Iterable[np.ndarray]:
    """For each tap in y and depth, yield the kernel with only this tap."""
    for y, depth in product(range(kernel.shape[1]), range(kernel.shape[2])):
        only = np.zeros_like(kernel)
        only[:, y, depth] = kernel[:, y, depth]
        yield only


def layers(upstream: np.ndarray) -> Iterable[np.ndarray]:
    """Yield each layer in depth. The groups that a form folds consist of such layers."""
    for depth in range(upstream.shape[3]):
        only = np.zeros_like(upstream)
        only[:, :, :, depth] = upstream[:, :, :, depth]
        yield only


@of_each([FP32, WIDE, *IN_BF16])
@settings(max_examples=12, deadline=None)
@given(
    size=kernels,
    more=st.tuples(*[st.integers(0, 4)] * 3),
    inputs=channels,
    outputs=channels,
    pads=st.tuples(*[st.integers(0, 4)] * 6),
)
def test_convolutions_equal_tensorflows(
    arithmetic: Arithmetic, size: tuple, more: tuple, inputs: int, outputs: int, pads: tuple
) -> None:
    padding = [(min(pads[2 * n], k - 1), min(pads[2 * n + 1], k - 1)) for n, k in enumerate(size)]
    cells = random(1, 2, *(k + extra for k, extra in zip(size, more, strict=True)), inputs)
    check(
        lambda x, k: convolve(x, k, padding, arithmetic),
        lambda x, k: plain(x, k, padding),
        cells,
        random(2, *size, inputs, outputs),
        arithmetic,
        parts=layers,
    )


@of_each([FP32, *IN_BF16])
@settings(max_examples=10, deadline=None)
@given(
    size=kernels,
    lengths=st.tuples(*[st.integers(3, 5)] * 3),
    factors=st.tuples(*[st.integers(1, 3)] * 3),
    pads=st.tuples(*[st.integers(0, 3)] * 6),
)
def test_upsampled_convolutions_equal_tensorflows_of_repeated_cells(
    arithmetic: Arithmetic, size: tuple, lengths: tuple, factors: tuple, pads: tuple
) -> None:
    size = tuple(min(k, n) for k, n in zip(size, lengths, strict=True))
    padding = [(pads[2 * n], pads[2 * n + 1]) for n in range(3)]

    def phases(upstream: np.ndarray) -> Iterable[np.ndarray]:
        for first in product(*map(range, factors)):
            phase = (slice(None), *(slice(start, None, step) for start, step in zip(first, factors, strict=True)))
            only = np.zeros_like(upstream)
            only[phase] = upstream[phase]
            yield only

    check(
        lambda x, k: convolve_upsampled(x, k, factors, padding, arithmetic),
        lambda x, k: plain(upsampled(x, factors), k, padding),
        random(1, 2, *lengths, 3),
        random(2, *size, 3, 2),
        arithmetic,
        parts=phases,
        adds_taps=True,
    )


def test_same_padding_is_tensorflows() -> None:
    """All numbers are small whole numbers, so all sums are exact."""
    cells, kernel = tf.round(random(1, 1, 7, 7, 8, 2)), tf.round(random(2, 6, 5, 8, 2, 3))
    np.testing.assert_array_equal(
        plain(cells, kernel, same(kernel.shape[:3])), tf.nn.conv3d(cells, kernel, [1] * 5, "SAME")
    )


@of_each([FP32, WIDE, *IN_BF16])
def test_a_layer_of_the_discriminator_equals_tensorflows(arithmetic: Arithmetic) -> None:
    """The sums have 1,000 products, in sizes for which oneDNN has fast kernels."""
    kernel = random(2, 5, 5, 5, 8, 8)
    padding = same(kernel.shape[:3])
    check(
        lambda x, k: convolve(x, k, padding, arithmetic),
        lambda x, k: plain(x, k, padding),
        random(1, 2, 9, 9, 9, 8),
        kernel,
        arithmetic,
        parts=layers,
    )
