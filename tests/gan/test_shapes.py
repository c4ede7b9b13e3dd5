"""The shape term: it is 0 on average for showers like those of the training, and sees showers that differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from gan.simulation.gflash import simulate
from gan.training.shapes import PAIR_THRESHOLDS, ShapeTerm, pairs_of_neighbours

CELLS = (25, 25, 25)
EVENTS, BATCH = 384, 8

Showers = tuple[np.ndarray, np.ndarray]


def showers(seed: int) -> Showers:
    energies = np.random.default_rng(seed).uniform(20, 400, EVENTS)
    return simulate(energies, seed=seed), (energies / 100).astype(np.float32)


@pytest.fixture(scope="module")
def training() -> Showers:
    return showers(1)


@pytest.fixture(scope="module")
def others() -> Showers:
    return showers(2)


@pytest.fixture(scope="module")
def term(training: Showers) -> ShapeTerm:
    fitted = ShapeTerm(CELLS)
    fitted.fit(*training)
    return fitted


def values(term: ShapeTerm, cells: np.ndarray, energies: np.ndarray) -> np.ndarray:
    """Return the term of each batch of BATCH showers."""
    batches = [slice(start, start + BATCH) for start in range(0, len(cells), BATCH)]
    return np.array([float(term(cells[each, ..., np.newaxis], energies[each, np.newaxis])) for each in batches])


def test_it_is_zero_on_average_for_showers_of_the_training(term: ShapeTerm, training: Showers) -> None:
    """The mean over disjoint batches is unbiased, up to the four parameters of each fit among the 384 events."""
    measured = values(term, *training)
    assert abs(measured.mean()) < 4 * measured.std(ddof=1) / np.sqrt(len(measured)) + 4 / EVENTS


def test_fluctuations_do_not_count_as_a_distance(term: ShapeTerm, others: Showers) -> None:
    """A plain squared mean over 8 showers would be 1/8 for deviations of unit variance.

    Of other showers, the fit's own error stays: 4 parameters from 384 events.
    """
    assert values(term, *others).mean() < 1 / BATCH / 2


DISTORTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "one cell deeper": lambda cells: np.roll(cells, 1, axis=3),
    "one cell to the side": lambda cells: np.roll(cells, 1, axis=1),
    "the mean shower for all": lambda cells: np.broadcast_to(cells.mean(axis=0), cells.shape),
    "one shower for all": lambda cells: np.broadcast_to(cells[:1], cells.shape),
    "without cells below 0.3 MeV": lambda cells: np.where(cells < 3e-4, 0, cells),
    "each cell averaged with its neighbour": lambda cells: (cells + np.roll(cells, 1, axis=1)) / 2,
    "with faint cells everywhere": lambda cells: cells + np.float32(1e-5),
    "empty": np.zeros_like,
}


@pytest.mark.parametrize("name", DISTORTIONS)
def test_distorted_showers_are_far_away(term: ShapeTerm, others: Showers, name: str) -> None:
    cells, energies = others
    clean, distorted = values(term, cells, energies), values(term, DISTORTIONS[name](cells), energies)
    assert distorted.mean() > clean.mean() + 0.1


def test_showers_of_a_wrong_energy_are_far_away(term: ShapeTerm, others: Showers) -> None:
    cells, energies = others
    order = np.argsort(energies)
    # The profile in depth of a low energy belongs to a high one, so the means over all energies stay the same.
    assert values(term, cells[order], energies[order[::-1]]).mean() > values(term, cells, energies).mean() + 0.1


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_only_neighbours_along_an_axis_are_a_pair(axis: int) -> None:
    cells = np.zeros((2, 5, 5, 5), np.float32)
    other, apart = [2, 2, 2], [2, 2, 2]
    other[axis], apart[axis] = 3, 4
    cells[:, 2, 2, 2] = 1e-3
    cells[0][tuple(other)] = 3e-3
    cells[1][tuple(apart)] = 3e-3
    pairs = pairs_of_neighbours(tf.constant(cells)).numpy().reshape(2, len(PAIR_THRESHOLDS), 3)
    expected = [1e-3 / (1e-3 + limit) * 3e-3 / (3e-3 + limit) for limit in PAIR_THRESHOLDS]
    assert pairs[0, :, axis] == pytest.approx(expected, rel=1e-5)  # some roundings of float32
    assert pairs.sum() == pytest.approx(sum(expected), rel=1e-5)


@pytest.mark.parametrize("value", [0.0, 1e-30, 1e-3, 10.0])
def test_gradients_are_finite_for_showers_of_any_brightness(term: ShapeTerm, value: float) -> None:
    cells = tf.fill((2, *CELLS, 1), value)
    with tf.GradientTape() as tape:
        tape.watch(cells)
        distance = term(cells, tf.constant([[1.0], [2.0]]))
    assert np.isfinite(float(distance))
    assert np.isfinite(tape.gradient(distance, cells).numpy()).all()


def test_energies_outside_the_training_do_not_count(term: ShapeTerm, others: Showers) -> None:
    cells, energies = (part[:4] for part in others)
    outside = np.array([0.01, 9.0], np.float32)
    both: list[Any] = [np.concatenate(pair) for pair in ((cells, cells[:2]), (energies, outside))]
    apart = float(term(cells[..., np.newaxis], energies[:, np.newaxis]))
    together = float(term(both[0][..., np.newaxis], both[1][:, np.newaxis]))
    # The same products, summed in another order: some hundred numbers of up to 100.
    assert together == pytest.approx(apart, abs=1e-3)
    assert float(term(cells[:2, ..., np.newaxis], outside[:, np.newaxis])) == 0.0


def test_few_training_events_give_constant_fits(training: Showers) -> None:
    fitted = ShapeTerm(CELLS)
    fitted.fit(*(part[:3] for part in training))
    law = fitted.variables[1].numpy()
    assert (law[1:] == 0).all()
    assert np.isfinite(values(fitted, *(part[:16] for part in training))).all()
