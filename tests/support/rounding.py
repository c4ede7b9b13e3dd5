"""Bounds of rounding errors, for tests that compare floating-point results.

Correct programs may round differently: they add in another order, fuse multiplications with additions, or use other
instructions. So a tolerance must follow from the arithmetic: the number of operations, the size of the operands and the
unit roundoff. Tests compute the exact result in float64, whose own errors are negligible here, and allow the largest
error of the tested format:

- `sum_bound` for sums of products, and `product_bounds` for functions that consist of such sums, like convolutions.
- `Tracked` for chains of operations: a value with the bound of its error.
- `perturbed` for whole networks, because their worst case is much larger than any real error.
- `assert_within` to compare.

The bounds are worst cases, valid for every order of a sum and every processor. The actual errors of long sums are far
smaller, because roundings cancel. A missing or misplaced term still exceeds the bounds by orders of magnitude.

Source: N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, SIAM 2002, sections 3.1 and 3.3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "BF16",
    "FP32",
    "FP64",
    "LOSS_TOLERANCE",
    "SMALL_RATE",
    "Tracked",
    "assert_within",
    "growth",
    "perturbed",
    "product_bounds",
    "sum_bound",
    "where",
]

FP64, FP32, BF16 = 2.0**-53, 2.0**-24, 2.0**-8
"""Unit roundoffs: the largest relative error of rounding to the nearest number of the format."""

SMALL_RATE = 1e-6
"""Learning rate for tests that compare the losses of trainings."""
LOSS_TOLERANCE = 1e-3
"""Relative tolerance of losses after up to 8 updates with SMALL_RATE.

RMSprop divides a gradient by its own size. So an update moves a weight by up to sqrt(10) times the learning rate, and
in the wrong direction if rounding changes the sign of its gradient. With the usual rate of 1e-3, the losses of equal
trainings differ by percents after a few updates.

A sign changes if the gradient is smaller than its rounding error, about 1e-5 of the root mean square. At the start of a
training this is true for 3 weights in 10,000. Here 1 in 1,000 is assumed. A weight that moves in the wrong direction
changes a loss L by up to 2 sqrt(10) SMALL_RATE |dL/dw|. The sum of |dL/dw| over all weights is up to 10,000 L, for the
loss of real showers, which is the largest. So 8 updates change L by up to
2 sqrt(10) 1e-6 x 10,000 L x 8 / 1,000 = 5e-4 L. The rounding of a loss itself adds 1e-5, see `perturbed`.
"""

Array = npt.NDArray[np.floating[Any]]

ROUNDINGS = 4
"""Number of roundings that `Tracked` counts per operation: one of the result, one of a constant operand, and two for a
compiler that replaces an operation, for example a division with the product with a rounded inverse."""


def growth(operations: Any, roundoff: float = FP32) -> Any:
    """Return the largest relative error after some operations: gamma_n = n u / (1 - n u).

    Args:
        operations: number n of operations from an operand to the result, a number or an array.
        roundoff: unit roundoff u of the format.
    """
    product = np.asarray(operations) * roundoff
    if np.any(product >= 1):
        raise ValueError(f"n u is {product.max():g} with n operations and roundoff u; expected less than 1")
    return product / (1 - product)


def sum_bound(terms: Any, magnitudes: Any, roundoff: float = FP32) -> Any:
    """Return the bound of the error of sums of products: |computed - exact| <= gamma_n sum |x_i y_i|.

    The bound is valid for any order of the additions, with and without fused multiply-add.

    Args:
        terms: number n of products per sum, plus one for each further rounding of an operand or of the result.
        magnitudes: sums of the absolute values of the products. `terms` has the same shape or is a single number.
        roundoff: unit roundoff of the format that adds.
    """
    return growth(terms, roundoff) * magnitudes


def product_bounds(function: Callable[..., Sequence[Any]], *operands: Any, more: int = 0) -> list[Array]:
    """Return the bounds of the results of a function in FP32.

    Args:
        function: function whose results are sums of products of one value of each operand. The function is called with
            ones to get the number of products, and with absolute values to get the sum of the absolute products.
        operands: float64 arrays.
        more: operations per sum in addition to its products and their additions.
    """
    terms = function(*(np.ones_like(operand) for operand in operands))
    magnitudes = function(*(np.abs(operand) for operand in operands))
    return [sum_bound(np.asarray(n) + more, np.asarray(size)) for n, size in zip(terms, magnitudes, strict=True)]


def assert_within(computed: Any, exact: Any, bound: Any, *, rounded: Any = None) -> None:
    """Check that |computed - exact| <= bound everywhere.

    Args:
        computed: the tested result.
        exact: the exact result, of the same shape.
        bound: largest error, a number or an array that broadcasts to this shape.
        rounded: type of the result after a last rounding in the tested program, for example bfloat16. Rounding is
            monotonic, so the result must lie between the rounded ends of the interval. Most results are then equal to
            the rounded exact result.
    """
    computed, exact = np.asarray(computed), np.asarray(exact, np.float64)
    assert computed.shape == exact.shape
    low, high = exact - bound, exact + bound
    if rounded is not None:
        low, high = (end.astype(np.float32).astype(rounded).astype(np.float64) for end in (low, high))
    values = computed.astype(np.float64)
    outside = ~((low <= values) & (values <= high))
    if outside.any():
        errors = np.where(np.isfinite(values), np.abs(values - exact), np.inf)
        allowed = np.broadcast_to(bound, exact.shape)
        flat = np.argmax(np.where(outside, errors / np.maximum(allowed, 1e-300), 0))
        worst = tuple(int(index) for index in np.unravel_index(flat, exact.shape))
        raise AssertionError(
            f"{outside.sum()} of {outside.size} values are outside their bounds; the worst, at {worst}, is "
            f"{values[worst]:.9g}; expected {exact[worst]:.9g} within {allowed[worst]:.2g}"
        )


def perturbed(weights: Sequence[Array], seed: int) -> list[Array]:
    """Change the weights of a network at random, by the possible size of its rounding errors.

    A layer that computes sums of n products in FP32 returns the exact sums for weights with relative errors of at most
    n u, one error per product (backward error, Higham section 3.1). Roundings go up and down, so the real errors grow
    only as sqrt(n) u. For random products their standard deviation is sqrt(n / 6) u. This function draws normal errors
    with a standard deviation of sqrt(n) u. So the changed network's results differ from the original results by at
    least 2.4 times the rounding errors of a computation.

    Args:
        weights: float32 arrays: kernels with the output channels as the last axis, and vectors.
        seed: seed of the errors.
    """
    draw = np.random.default_rng(seed)
    # A vector is added or multiplied only once, with its roundings.
    terms = [max(4, int(np.prod(array.shape[:-1]))) for array in weights]
    return [
        (array * (1 + np.sqrt(n) * FP32 * draw.standard_normal(array.shape))).astype(np.float32)
        for array, n in zip(weights, terms, strict=True)
    ]


class Tracked:
    """An exact value, with the bound of the error of its computation in FP32.

    Every operation adds its own roundings to the errors of its operands (running error analysis). Plain numbers and
    arrays count as exact operands.
    """

    __array_ufunc__ = None  # makes `array * tracked` call __rmul__

    def __init__(self, value: Any, error: Any = 0.0) -> None:
        self.value = np.asarray(value, np.float64)
        self.error = np.broadcast_to(np.asarray(error, np.float64), self.value.shape)

    def __add__(self, other: Any) -> Tracked:
        other = _tracked(other)
        return _rounded(self.value + other.value, self.error + other.error)

    def __sub__(self, other: Any) -> Tracked:
        other = _tracked(other)
        return _rounded(self.value - other.value, self.error + other.error)

    def __mul__(self, other: Any) -> Tracked:
        other = _tracked(other)
        error = np.abs(self.value) * other.error + np.abs(other.value) * self.error + self.error * other.error
        return _rounded(self.value * other.value, error)

    __radd__, __rmul__ = __add__, __mul__

    def __truediv__(self, number: float) -> Tracked:
        """Divide by an exact number."""
        return _rounded(self.value / number, self.error / abs(number))

    def sum(self, axes: tuple[int, ...]) -> Tracked:
        """Add up along axes, in any order."""
        terms = int(np.prod([self.value.shape[axis] for axis in axes]))
        magnitudes = (np.abs(self.value) + self.error).sum(axis=axes)
        return _rounded(self.value.sum(axis=axes), self.error.sum(axis=axes) + sum_bound(terms, magnitudes))

    def rsqrt(self) -> Tracked:
        """Return the inverse square root of positive values."""
        smallest = self.value - self.error
        assert np.all(smallest > 0)
        # Use the mean value theorem, with the largest derivative in the interval.
        return _rounded(self.value**-0.5, 0.5 * smallest**-1.5 * self.error)


def where(condition: Any, one: Tracked, other: Tracked) -> Tracked:
    """Choose between values by a condition that is the same in all programs."""
    return Tracked(np.where(condition, one.value, other.value), np.where(condition, one.error, other.error))


def _tracked(operand: Any) -> Tracked:
    return operand if isinstance(operand, Tracked) else Tracked(operand)


def _rounded(value: Array, error: Any) -> Tracked:
    return Tracked(value, error + growth(ROUNDINGS) * (np.abs(value) + error))
