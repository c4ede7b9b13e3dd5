"""Physics of the simulated showers, and events that do not depend on the other events of a call."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gan.data.energies import draw_energies
from gan.data.layout import SHAPE
from gan.physics.formulas import geant4_ecal, moments, profiles, sampling_fraction
from gan.simulation.gflash import CLIC_ECAL, layers, simulate

# With this number of events the statistical error of the mean sampling fraction is far below 0.5%.
EVENTS_AT = {2: 1500, 10: 600, 50: 500, 100: 500, 200: 500, 500: 400}


@pytest.fixture(scope="module")
def showers_at() -> dict[int, np.ndarray]:
    """Cells in GeV of many events at each energy."""
    return {energy: simulate(np.full(count, energy), seed=3) for energy, count in EVENTS_AT.items()}


@pytest.mark.parametrize("energy", EVENTS_AT)
def test_sampling_fraction_is_within_3_percent_of_geant4(showers_at: dict[int, np.ndarray], energy: int) -> None:
    fractions = sampling_fraction(showers_at[energy], np.full(1, float(energy)))
    error = fractions.std() / np.sqrt(len(fractions)) / fractions.mean()
    assert error < 0.005
    assert fractions.mean() == pytest.approx(geant4_ecal(energy / 100) / energy, rel=0.03)


def test_calibration_factor_is_within_1_percent_of_1() -> None:
    assert 0.99 < CLIC_ECAL.calibration < 1.01
    assert "GEANT4" in CLIC_ECAL.calibration_reason


def deposited(cells: np.ndarray) -> np.ndarray:
    """Return the mean absorbed energy per radiation length in each layer, in GeV: visible energy / visible fraction."""
    table = layers(CLIC_ECAL)
    return profiles(cells)[2].mean(axis=0) / table.visible_fraction / np.diff(table.edges)


def test_shower_maximum_deepens_with_the_logarithm_of_the_energy(showers_at: dict[int, np.ndarray]) -> None:
    """The formula is T = ln(E/Ec) - 0.812 - 0.55/Fs - 0.69(1-e): one radiation length per factor e in energy."""
    energies = np.array([2, 10, 50, 100, 200, 500])
    centres = layers(CLIC_ECAL).centres
    peaks = []
    for energy in energies.tolist():
        profile = deposited(showers_at[energy])
        near = slice(np.argmax(profile) - 2, np.argmax(profile) + 3)
        a, b, _ = np.polyfit(centres[near], profile[near], 2)
        peaks.append(-b / (2 * a))
    expected = np.log(energies / 0.0087) - 0.812 - 0.55 / 1.2 - 0.69 * (1 - 0.704)
    np.testing.assert_allclose(peaks, expected, atol=0.6)
    slope, _ = np.polyfit(np.log(energies), peaks, 1)
    assert slope == pytest.approx(1.0, abs=0.12)


def test_profile_in_depth_is_the_gamma_profile(showers_at: dict[int, np.ndarray]) -> None:
    """At 100 GeV the mean depth is alpha/beta = T alpha/(alpha-1), apart from the energy that leaks out at the back."""
    ln_y = np.log(100 / 0.0087)
    peak = ln_y - 0.812 - 0.55 / 1.2 - 0.69 * (1 - 0.704)
    alpha = 0.81 + (0.458 + 2.26 / 69) * ln_y - 0.476 / 1.2
    table = layers(CLIC_ECAL)
    absorbed = deposited(showers_at[100]) * np.diff(table.edges)
    assert absorbed.sum() == pytest.approx(100, rel=0.03)
    mean_depth = (absorbed * table.centres).sum() / absorbed.sum()
    assert mean_depth == pytest.approx(peak * alpha / (alpha - 1), rel=0.04)


@pytest.mark.parametrize("energy", [10, 100, 500])
def test_showers_stay_within_the_cells_and_around_the_middle(showers_at: dict[int, np.ndarray], energy: int) -> None:
    cells = showers_at[energy]
    x, y, _ = profiles(cells)
    middle = SHAPE[0] // 2
    for profile in (x, y):
        first, _ = moments(profile)
        assert first.mean() == pytest.approx(middle, abs=0.1)
        # The impact is uniform over the middle cell, so positions have a standard deviation of at least 1/sqrt(12).
        assert 0.25 < first.std() < 0.5
        assert np.argmax(profile.mean(axis=0)) == middle
        np.testing.assert_allclose(profile.mean(axis=0), profile.mean(axis=0)[::-1], rtol=0.25)


def test_99_percent_of_a_shower_lie_within_the_width_of_the_detector() -> None:
    """A detector three times as wide has the same showers, and also measures the energy that the real one loses."""
    energies = np.full(60, 100.0)
    wide = simulate(energies, seed=4, detector=dataclasses.replace(CLIC_ECAL, cells_across=75))
    inside = wide[:, 25:50, 25:50].sum(dtype=float)
    assert 0.990 < inside / wide.sum(dtype=float) < 0.998
    np.testing.assert_allclose(inside, simulate(energies, seed=4).sum(dtype=float), rtol=1e-4)


def test_relative_error_of_the_absorbed_energy_falls_with_the_energy(showers_at: dict[int, np.ndarray]) -> None:
    """The sampling noise is c/sqrt(E), c = 0.11. Above 50 GeV, fluctuations of the energy that leaks out are larger.

    The sum over the cells does not show the noise: the coarse layers at the back measure half as much of the energy
    that they absorb, so fluctuations in depth change this sum by 5% at any high energy.
    """
    visible = layers(CLIC_ECAL).visible_fraction
    spread = {}
    for energy in (2, 10, 50):
        absorbed = (profiles(showers_at[energy])[2] / visible).sum(axis=1)
        spread[energy] = absorbed.std() / absorbed.mean()
    assert spread[2] > spread[10] > spread[50]
    for energy in (2, 10):
        assert spread[energy] == pytest.approx(0.11 / np.sqrt(energy), rel=0.15)


def test_cells_are_finite_energies_of_the_right_shape() -> None:
    cells = simulate([2.0, 500.0], seed=1)
    assert cells.shape == (2, *SHAPE)
    assert cells.dtype == np.float32
    assert np.isfinite(cells).all()
    assert (cells >= 0).all()
    assert (cells.sum(axis=(1, 2, 3)) > 0).all()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**63 - 1), first=st.integers(0, 10**9), cut=st.integers(0, 5))
def test_an_event_does_not_depend_on_the_other_events_of_a_call(seed: int, first: int, cut: int) -> None:
    def draw(first_event: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        energies = draw_energies(count, seed=seed, first_event=first_event, energy_min=2, energy_max=60)
        return energies, simulate(energies, seed=seed, first_event=first_event)

    whole, front, back = draw(first, 5), draw(first, cut), draw(first + cut, 5 - cut)
    for together, *parts in zip(whole, front, back, strict=True):
        np.testing.assert_array_equal(together, np.concatenate(parts))


def test_events_and_seeds_give_different_showers() -> None:
    cells = np.concatenate([simulate([50.0, 50.0], seed=seed) for seed in (1, 2)])
    assert len({shower.tobytes() for shower in cells}) == 4
