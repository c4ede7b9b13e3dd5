"""The bounds of `tests.support.rounding` are valid for FP32, and narrow enough to reveal a fault."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tests.support.rounding import BF16, FP32, Tracked, assert_within, growth, perturbed, product_bounds, sum_bound

X, Y = np.random.default_rng(1).standard_normal((2, 1000)).astype(np.float32).astype(np.float64)


def test_a_sum_stays_within_its_bound_and_misses_it_without_one_term() -> None:
    exact, bound = X @ Y, sum_bound(1000, np.abs(X) @ np.abs(Y))
    for order in (slice(None), slice(None, None, -1), np.argsort(X)):
        computed = np.float32(0)
        for x, y in zip(X[order].astype(np.float32), Y[order].astype(np.float32), strict=True):
            computed = computed + x * y
        assert_within(computed, exact, bound)
    with pytest.raises(AssertionError, match=r"1 of 1 values are outside their bounds"):
        assert_within(np.float32(exact - X[3] * Y[3]), exact, bound)


def test_product_bounds_count_the_products() -> None:
    (bound,) = product_bounds(lambda x, y: [x @ y], X, Y)
    assert bound == sum_bound(1000, np.abs(X) @ np.abs(Y))


def test_growth_has_a_limit() -> None:
    assert growth(1, BF16) == pytest.approx(BF16, rel=0.01)
    with pytest.raises(ValueError, match="n u is 2 with n operations"):
        growth(2**25, FP32)


def test_a_chain_of_operations_stays_within_its_bound() -> None:
    tracked = (Tracked(X) * Y + 0.1) / 3
    centred = tracked - tracked.sum((0,)) / 1000
    result = centred * ((centred * centred).sum((0,)) / 1000 + 1e-3).rsqrt()
    x, y = X.astype(np.float32), Y.astype(np.float32)
    chain = (x * y + np.float32(0.1)) / np.float32(3)
    chain = chain - chain.mean()
    chain = chain / np.sqrt((chain * chain).mean() + np.float32(1e-3))
    assert_within(chain, result.value, result.error)
    assert result.error.max() < 1e-3


def test_rounded_results_must_be_the_nearest_numbers() -> None:
    exact = np.array([1.0, 1.0039])
    assert_within(exact.astype(ml_dtypes.bfloat16), exact, 1e-6, rounded=ml_dtypes.bfloat16)
    # 1.0039 is between 1 and 1.0078125, and slightly closer to 1.
    with pytest.raises(AssertionError, match="1 of 2"):
        assert_within(np.array([1.0, 1.0078125]), exact, 1e-6, rounded=ml_dtypes.bfloat16)
    assert_within(np.array([1.0, 1.0078125]), exact, 1e-5, rounded=ml_dtypes.bfloat16)


def test_results_that_are_not_numbers_are_outside_every_bound() -> None:
    with pytest.raises(AssertionError, match=r"worst, at \(1,\), is nan"):
        assert_within(np.array([1.0, np.nan]), np.ones(2), 1.0)


def test_perturbed_weights_change_a_sum_by_more_than_its_rounding() -> None:
    (changed,) = perturbed([Y.reshape(1000, 1).astype(np.float32)], seed=1)
    change = abs(X @ changed[:, 0].astype(np.float64) - X @ Y)
    error = abs(np.float64(X.astype(np.float32) @ Y.astype(np.float32)) - X @ Y)
    assert error < change < sum_bound(1000, np.abs(X) @ np.abs(Y))
