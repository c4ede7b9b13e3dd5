"""Figures on samples with known differences: each figure is at its floor for equal samples, and sees what it should."""

from __future__ import annotations

import numpy as np
import pytest

from gan.errors import InputError
from gan.evaluation.figures import direct_figures, embedding_figures
from gan.evaluation.pairing import halves, pair
from gan.physics.metrics.authors import moment_error, shape_mse
from gan.physics.metrics.bins import authors_bins, equal_bins
from gan.physics.metrics.distances import separation_power, standardised, wasserstein
from gan.physics.metrics.embedding import fpd, frechet, kpd, polynomial_mmd
from gan.physics.metrics.neighbours import memorisation, prdc
from gan.physics.metrics.resolution import Resolution, fitted_resolution
from gan.physics.observables import Observables, Observer
from gan.simulation.gflash import simulate
from tests.support.distortions import Cells, calmer

EVENTS = 1200
ENERGIES = np.linspace(20.0, 480.0, EVENTS)


@pytest.fixture(scope="module")
def simulated() -> tuple[Cells, Cells]:
    """Cells of two simulations with the same primary energies and different seeds."""
    return simulate(ENERGIES, seed=1), simulate(ENERGIES, seed=2)


@pytest.fixture(scope="module")
def reference(simulated: tuple[Cells, Cells]) -> Observables:
    return Observer().add(simulated[0], ENERGIES)


@pytest.fixture(scope="module")
def floor(simulated: tuple[Cells, Cells], reference: Observables) -> dict[str, float]:
    return direct_figures(reference, Observer().add(simulated[1], ENERGIES))


def test_direct_figures_of_a_sample_with_itself_are_zero(reference: Observables) -> None:
    assert max(map(abs, direct_figures(reference, reference).values())) == 0


def test_a_generator_without_output_is_not_taken_for_good(
    simulated: tuple[Cells, Cells], reference: Observables, floor: dict[str, float]
) -> None:
    nothing = direct_figures(reference, Observer().add(np.zeros_like(simulated[1]), ENERGIES))
    for figure in ("moment error", "profile error", "shape MSE", "separation, mean", "sampling fraction error"):
        assert nothing[figure] > 10 * floor[figure]
    assert nothing["separation, mean"] == pytest.approx(1.0, abs=0.01)


def test_equal_showers_lose_recall_and_coverage(simulated: tuple[Cells, Cells], reference: Observables) -> None:
    equal = embedding_figures(reference, Observer().add(calmer(1.0, simulated[1], ENERGIES), ENERGIES))
    same = embedding_figures(reference, Observer().add(simulated[1], ENERGIES))
    assert same["recall"].value > 0.9
    assert equal["recall"].value < 0.1
    assert equal["coverage"].value < 0.5 * same["coverage"].value
    assert equal["FPD"].value > 5 * abs(same["FPD"].value)


def normal(seed: int, events: int = 2000, columns: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((events, columns))


def test_frechet_distance_of_shifted_and_scaled_gaussians() -> None:
    one = normal(1, 200_000)
    # |m1 - m2|^2 = 3 and tr(S1 + S2 - 2 (S1 S2)^(1/2)) = 3 (2 - 1)^2.
    assert frechet(one, 2 * normal(2, 200_000) + 1) == pytest.approx(6.0, rel=0.02)
    assert frechet(one, one) == pytest.approx(0, abs=1e-6)


@pytest.mark.slow
def test_fpd_and_kpd_of_equal_samples_are_zero_within_their_errors() -> None:
    one, other = normal(1, 4000, 10), normal(2, 4000, 10)
    for measure in (fpd, kpd):
        same, different = measure(one, other), measure(one, other + 0.3)
        assert abs(same.value) < 5 * same.error + 0.01
        assert different.value > 10 * max(abs(same.value), same.error)


def test_mmd_does_not_depend_on_the_order_and_grows() -> None:
    one, other = normal(1, 500), normal(2, 500)
    assert polynomial_mmd(one, other) == pytest.approx(polynomial_mmd(other, one))
    assert polynomial_mmd(one, other + 1) > polynomial_mmd(one, other + 0.5) > polynomial_mmd(one, other)


def test_prdc_of_equal_disjoint_and_narrow_samples() -> None:
    one, other = normal(1), normal(2)
    same = prdc(one, other)
    assert min(same.precision, same.recall, same.coverage) > 0.9
    assert same.density == pytest.approx(1.0, abs=0.1)
    apart = prdc(one, other + 100)
    assert (apart.precision, apart.recall, apart.density, apart.coverage) == (0, 0, 0, 0)
    narrow = prdc(one, 0.1 * other)
    assert narrow.precision > 0.95
    assert narrow.recall < 0.2


def test_memorisation_tells_copies_from_new_events() -> None:
    training, held_out = normal(1), normal(2)
    assert memorisation(training, held_out, normal(3)) == pytest.approx(1.0, abs=0.1)
    assert memorisation(training, held_out, training + 0.001) < 0.05


def test_separation_and_wasserstein_of_shifted_columns() -> None:
    one, other = normal(1, 20_000, 1), normal(2, 20_000, 1)
    assert wasserstein(one, other + 0.5)[0] == pytest.approx(0.5, abs=0.03)
    assert separation_power(one, other)[0] < 0.01
    # The outer bins hold 0.1% of the reference each.
    assert separation_power(one, other + 100)[0] == pytest.approx(1.0, abs=0.005)
    assert wasserstein(np.zeros((9, 1)), np.zeros((9, 1)))[0] == 0
    assert wasserstein(np.zeros((9, 1)), np.ones((9, 1)))[0] == np.inf


def test_standardised_columns_have_mean_0_and_width_1_and_are_bounded() -> None:
    one, other = standardised(5 + 3 * normal(1), np.full((1, 3), 1e9))
    assert np.abs(one.mean(axis=0)).max() < 0.01
    assert one.std(axis=0) == pytest.approx([1, 1, 1], abs=0.01)
    assert other.tolist() == [[5.0, 5.0, 5.0]]


def test_resolution_fit_finds_the_terms_of_a_curve() -> None:
    energies = np.array([10.0, 50.0, 100.0, 250.0, 450.0])
    points = Resolution(energies=energies, widths=0.2 / np.sqrt(energies) + 0.01, errors=np.full(5, 1e-3))
    assert fitted_resolution(points) == pytest.approx((0.2, 0.01), rel=1e-4)
    few = Resolution(energies=energies[:2], widths=np.ones(2), errors=np.ones(2))
    assert np.isnan(fitted_resolution(few)).all()


def test_moment_error_and_shape_mse_of_a_doubled_profile(
    reference: Observables, simulated: tuple[Cells, Cells]
) -> None:
    doubled = Observer().add(2 * simulated[0], ENERGIES)
    assert moment_error(reference, doubled) == pytest.approx(0, abs=1e-6)
    assert shape_mse(reference, doubled) == pytest.approx(1.0, rel=1e-6)


def test_bins_hold_every_event_once() -> None:
    bins = equal_bins(ENERGIES)
    assert [int(each.holds(ENERGIES).sum()) for each in bins] == [240] * 5
    assert authors_bins()[0].name == "45-55 GeV"
    assert len(equal_bins(np.full(50, 100.0))) == 1


def test_halves_have_the_same_energies() -> None:
    first, second = halves(EVENTS + 1)
    assert sorted([*first, *second]) == list(range(EVENTS))
    assert ENERGIES[first].mean() == pytest.approx(ENERGIES[second].mean(), rel=1e-3)


def test_pairs_have_equal_energies_and_foreign_energies_are_refused() -> None:
    one = np.linspace(10, 500, 300)
    own, other = pair(one, one, "x")
    assert own.tolist() == other.tolist() == list(range(300))
    own, other = pair(one, np.linspace(200, 700, 500), "x")
    assert np.abs(np.linspace(200, 700, 500)[other] / one[own] - 1).max() <= 0.02
    assert len(set(own)) == len(own)
    with pytest.raises(InputError, match=r"x has energies of 600 to 700 GeV.*0 events have the same energy"):
        pair(one, np.linspace(600, 700, 100), "x")


def test_wasserstein_distance_of_samples_of_one_size_is_the_general_one() -> None:
    one, other = normal(1, 500), 2 * normal(2, 500) + 0.3
    twice = np.repeat(other, 2, axis=0)  # the same distribution in another size
    np.testing.assert_allclose(wasserstein(one, other), wasserstein(one, twice), rtol=1e-12)  # sums of 500 numbers
