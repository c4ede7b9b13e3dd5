"""Figures of the validation on simulated showers and their distortions, as functions without networks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gan.physics.metrics.validation import COLLAPSED, SHOWER_DISTANCE, WORST, validation_figures, variety
from gan.physics.observables import Observables, Observer
from gan.simulation.gflash import simulate

EVENTS = 200
CELLS = 25**3
ENERGIES = np.linspace(20.0, 480.0, EVENTS)


@pytest.fixture(scope="module")
def showers() -> tuple[np.ndarray, np.ndarray]:
    """Cells of two simulations with the same energies."""
    return simulate(ENERGIES, seed=1), simulate(ENERGIES, seed=2)


def observed(cells: np.ndarray) -> Observables:
    return Observer().add(cells, ENERGIES)


def figures(real: np.ndarray, fake: np.ndarray, spread: float = 0.5) -> dict[str, float]:
    return validation_figures(observed(real), observed(fake), spread, CELLS)


def test_simulation_against_simulation_is_near_zero(showers: tuple[np.ndarray, np.ndarray]) -> None:
    same = figures(*showers)
    # Fluctuations of a shower are 5% of its energy and about 20% of a profile's cell: over sqrt(200) events, below 2%.
    assert same[SHOWER_DISTANCE] < 0.02
    assert abs(same["sampling_fraction_error"]) < 0.02
    assert max(same[f"profile_l1_{axis}"] for axis in "xyz") < 0.05
    assert same["active_cells"] == pytest.approx(same["active_cells_real"], rel=0.05)
    assert same["hits"] == pytest.approx(same["hits_real"], rel=0.05)
    assert max(abs(same[f"mean_error_{axis}"]) for axis in "xyz") < 0.2
    assert max(abs(same[f"width_error_{axis}"]) for axis in "xyz") < 0.05
    assert sum(name.startswith("sampling_fraction_error/") for name in same) == 5


def test_showers_against_themselves_are_at_zero(showers: tuple[np.ndarray, np.ndarray]) -> None:
    same = figures(showers[0], showers[0])
    assert same[SHOWER_DISTANCE] == 0
    assert same["moment_error"] == 0


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.2, 2.0])
def test_shower_distance_is_symmetric(showers: tuple[np.ndarray, np.ndarray], factor: float) -> None:
    cells = showers[0]
    other = factor * np.roll(cells, 2, axis=3)
    there, back = figures(cells, other)[SHOWER_DISTANCE], figures(other, cells)[SHOWER_DISTANCE]
    # Exchanging the sides exchanges the terms of each quotient: a few roundings of numbers of the order 1.
    assert there == pytest.approx(back, rel=1e-12)
    assert 0.01 < there < 1


def test_shower_distance_grows_with_the_distortion(showers: tuple[np.ndarray, np.ndarray]) -> None:
    shifted = [figures(showers[0], np.roll(showers[1], shift, axis=1))[SHOWER_DISTANCE] for shift in (0, 1, 2, 4)]
    scaled = [figures(showers[0], factor * showers[1])[SHOWER_DISTANCE] for factor in (1.0, 0.8, 0.5, 0.1)]
    assert shifted == sorted(shifted)
    assert scaled == sorted(scaled)


def test_a_generator_without_output_or_with_one_output_is_the_worst(showers: tuple[np.ndarray, np.ndarray]) -> None:
    cells = showers[0]
    almost_nothing = np.zeros_like(cells)
    almost_nothing[:, 12, 12, :1] = cells[:, 12, 12, :1]
    for nothing in (np.zeros_like(cells), almost_nothing, -cells):
        seen = figures(cells, nothing)
        assert seen[SHOWER_DISTANCE] == WORST
        assert all(map(math.isfinite, seen.values()))
    assert figures(cells, showers[1], spread=COLLAPSED / 2)[SHOWER_DISTANCE] == WORST
    assert figures(cells, showers[1], spread=math.nan)[SHOWER_DISTANCE] < 0.02


def test_energies_outside_the_wide_bins_have_a_distance_too(showers: tuple[np.ndarray, np.ndarray]) -> None:
    real, fake = (Observer().add(each, np.full(EVENTS, 5.0)) for each in showers)
    seen = validation_figures(real, fake, 0.5, CELLS)
    assert seen[SHOWER_DISTANCE] < 0.02
    assert not any("/" in name for name in seen)


def test_variety_is_0_for_copies_and_1_for_disjoint_showers() -> None:
    one = np.zeros((3, 2, 2, 2))
    other = one.copy()
    one[:2, 0], other[:1, 0], other[1, 1] = 1.0, 7.0, 1.0
    assert variety(one, other).tolist() == [0.0, 1.0, 0.0]


def test_simulated_showers_of_one_energy_have_variety() -> None:
    for energy in (10.0, 100.0, 500.0):
        showers = simulate(np.full(40, energy), seed=3)
        assert variety(showers[:20], showers[20:]).mean() > 10 * COLLAPSED


@given(
    arrays(np.float64, (4, 3, 3, 4), elements=st.floats(0, 100)),
    arrays(np.float64, (4, 3, 3, 4), elements=st.floats(-1, 100)),
    st.floats(0, 1),
)
def test_any_output_gives_a_distance_between_0_and_1(real: np.ndarray, fake: np.ndarray, spread: float) -> None:
    real[:, 1, 1, :2] += 1.0
    energies = np.array([10.0, 100, 200, 300])
    seen = validation_figures(Observer().add(real, energies), Observer().add(fake, energies), spread, 36)
    assert 0 <= seen[SHOWER_DISTANCE] <= WORST
