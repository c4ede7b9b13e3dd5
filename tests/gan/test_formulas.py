"""The formulas of gan.physics.formulas, compared with values computed by hand and with NumPy's functions."""

import math

import numpy as np
import pytest

from gan.physics.formulas import geant4_ecal, moments, profile_distance, profile_error, profiles, sampling_fraction
from tests.support.rounding import FP64, assert_within, sum_bound

ENERGIES = np.array([0.02, 0.1, 0.5, 1.0, 2.0, 5.0])
FIT = [0.0018, -0.023, 0.11, -0.28, 2.21]
OPERATIONS = 10
"""Number of operations of the fit: 4 products and 4 additions of Horner's rule, the last product, one rounded
constant."""
SIZES = ENERGIES * np.polyval(np.abs(FIT), ENERGIES)
"""Sums of the absolute values of the fit's terms. The terms themselves partly cancel."""


def test_geant4_fit_is_the_published_polynomial() -> None:
    expected = ENERGIES * np.polyval(FIT, ENERGIES)
    assert_within(geant4_ecal(ENERGIES), expected, 2 * sum_bound(OPERATIONS, SIZES, FP64))
    fractions = geant4_ecal(ENERGIES) / (100 * ENERGIES)
    # Allow half a unit of the last published digit.
    np.testing.assert_allclose(fractions, [0.02204, 0.02183, 0.02095, 0.02019, 0.01935, 0.01810], atol=5e-6)


def test_geant4_fit_keeps_the_type_of_tensors() -> None:
    tf = pytest.importorskip("tensorflow")
    result = geant4_ecal(tf.constant(ENERGIES, tf.float32))
    assert tf.is_tensor(result)
    assert result.dtype == tf.float32
    # Count one more operation, because the energies are rounded.
    assert_within(result.numpy(), geant4_ecal(ENERGIES), sum_bound(OPERATIONS + 1, SIZES))


def test_geant4_fit_keeps_single_precision() -> None:
    assert geant4_ecal(ENERGIES.astype(np.float32)).dtype == np.float32


def test_profiles_sum_over_the_other_two_axes() -> None:
    cells = np.zeros((2, 3, 4, 5), dtype=np.float32)
    cells[0, 1, 2, 3] = 2.0
    cells[0, 1, 0, 4] = 1.0
    x, y, z = profiles(cells)
    assert (x.shape, y.shape, z.shape) == ((2, 3), (2, 4), (2, 5))
    assert x[0].tolist() == [0, 3, 0]
    assert y[0].tolist() == [1, 0, 2, 0]
    assert z[0].tolist() == [0, 0, 0, 2, 1]
    assert not any(profile[1].any() for profile in (x, y, z))


def test_sampling_fraction_is_visible_over_primary_energy() -> None:
    cells = np.full((2, 2, 2, 2), 0.25, dtype=np.float32)
    assert sampling_fraction(cells, np.array([100.0, 50.0])).tolist() == [0.02, 0.04]


def test_moments_of_two_cells() -> None:
    first, second = moments(np.array([[0.0, 3.0, 0.0, 1.0], [0.0, 0.0, 5.0, 0.0]]))
    assert first.tolist() == [1.5, 2.0]
    assert second.tolist() == [0.75, 0.0]


def test_a_shower_without_energy_has_no_moments() -> None:
    first, second = moments(np.zeros((1, 4)))
    assert math.isnan(first[0])
    assert math.isnan(second[0])


def test_profile_error_is_the_mean_over_axes_of_means_over_cells() -> None:
    mc = (np.array([1.0, 2.0]), np.array([4.0, 4.0]), np.array([1.0, 1.0, 1.0]))
    gan = (np.array([1.5, 1.0]), np.array([4.0, 4.0]), np.array([1.0, 1.0, 4.0]))
    assert profile_error(mc, gan) == pytest.approx((0.5 + 0.0 + 1.0) / 3)
    assert profile_error(mc, mc) == 0


def test_profile_error_leaves_out_cells_that_monte_carlo_never_reached() -> None:
    mc = [np.array([0.0, 2.0])]
    assert profile_error(mc, [np.array([7.0, 1.0])]) == pytest.approx(0.5)
    assert math.isnan(profile_error([np.zeros(2)], [np.ones(2)]))


def test_profile_distance_compares_shapes_and_is_symmetric_and_bounded() -> None:
    one, other = np.array([3.0, 1.0, 0.0]), np.array([0.0, 2.0, 2.0])
    assert profile_distance(one, other) == profile_distance(other, one) == pytest.approx(1.5)
    assert profile_distance(one, 7 * one) == pytest.approx(0, abs=1e-15)  # three differences of rounded quotients
    assert profile_distance(np.array([1.0, 0.0]), np.array([0.0, 5.0])) == 2
    assert profile_distance(one, np.zeros(3)) == profile_distance(np.zeros(3), one) == 2
    assert profile_distance(np.zeros(3), np.zeros(3)) == 0
