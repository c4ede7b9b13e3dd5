"""The shape term of the generator's loss: profiles and cell energies of generated showers against training showers.

The discriminator learns the fine structure of showers slowly. The shape term gives the generator from the first step
what physicists look at first: the mean profile along each axis, the spectrum of the cell energies, and how both
fluctuate and change with the primary energy. It is a moment matching loss, as the maximum mean discrepancy of
Buhmann et al., "Getting High" (Comput. Softw. Big Sci. 5, 13, 2021), with named features instead of a kernel.
"""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

__all__ = ["PAIR_THRESHOLDS", "ShapeTerm", "pairs_of_neighbours"]

THRESHOLDS = (1e-6, 1e-5, 5e-5, 1.5e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
"""GeV. A soft number of cells above each threshold describes the spectrum of the cell energies."""
PAIR_THRESHOLDS = (1e-4, 3e-4, 1e-3, 3e-3)
"""GeV. A soft number of pairs of neighbours above each threshold shows lines and boxes of cells."""
WEIGHTS = {
    "cells": 75.0,
    "profiles": 75.0,
    "visible energy": 10.0,
    "moments": 30.0,
    "spectrum": 30.0,
    "neighbours": 30.0,
}
"""Weight of each group of features. The groups of few features count together as much as the profiles or more.
Otherwise the shares pull the visible energy and the widths away while they are wrong."""
SMALLEST_TYPICAL = 1e-6
"""Smallest typical energy of a cell in GeV, for a primary energy of 100 GeV."""
DEGREE = 3
"""Degree of the fits to the logarithm of the primary energy."""
FUNCTIONS = (1.0, 0.5, 0.5, 0.5)
"""Weights of the Legendre polynomials of the primary energy, from degree 0, with which deviations are multiplied."""
FEWEST = 64
"""Number of training events below which the fits are constants."""
SMALLEST_SPREAD = 1e-6
"""Smallest standard deviation of a feature. That of a cell row without any signal would be 0."""
SMALLEST_OF_CELL = 0.03
"""The same for the feature of a cell. A cell that one of 1,000 training showers hits has it."""
SMALLEST_OF_DEVIATION = 0.1
"""The same for a deviation in units of its spread, and for its square. Usual ones are near 1."""
FAINTEST = 1e-9
"""Smallest visible energy in GeV by which cells are divided."""


class ShapeTerm:
    """Squared distance between the mean features of generated and training showers at the same primary energies.

    Call it with a batch after `fit`. The features of a shower are:

    - for each cell, c / (c + t E) with its energy c, its mean energy t in training showers, and the primary energy E;
    - the shares of the energy along x, y and z, and their first and second moments;
    - the logarithms of the visible energy, of soft numbers of cells above THRESHOLDS, and of soft numbers of pairs of
      neighbours along x, y and z above PAIR_THRESHOLDS.

    For each, the training events give a fit of mean and standard deviation over the logarithm of the primary energy.
    The term compares the deviation from the fit and its square, each multiplied by Legendre polynomials of the primary
    energy, so that the means agree at all energies.

    Args:
        cells: number of cells along x, y and depth.
    """

    def __init__(self, cells: tuple[int, int, int]) -> None:
        self._groups = {
            "cells": math.prod(cells),
            "profiles": sum(cells),
            "visible energy": 1,
            "moments": 2 * len(cells),
            "spectrum": len(THRESHOLDS),
            "neighbours": len(cells) * len(PAIR_THRESHOLDS),
        }
        """Number of features in each group, in their order."""
        count = sum(self._groups.values())

        def variable(name: str, *shape: int) -> keras.Variable:
            return keras.Variable(np.ones(shape, np.float32), trainable=False, name=name)

        self._typical = variable("typical", *cells)
        self._law, self._spread = variable("law", DEGREE + 1, count), variable("spread", count)
        self._law2, self._spread2 = variable("law2", DEGREE + 1, 2 * count), variable("spread2", 2 * count)
        self._weights = variable("weights", count)
        self._energies = variable("energies", 2)
        """Lowest and highest primary energy of the training events."""
        self.variables: list[Any] = [
            self._typical, self._law, self._spread, self._law2, self._spread2, self._weights, self._energies,
        ]  # fmt: skip
        """All results of `fit`."""

    def fit(self, cells: npt.NDArray[np.floating[Any]], energies: npt.NDArray[np.floating[Any]]) -> None:
        """Fit the features of training showers.

        Args:
            cells: showers in GeV, (n, X, Y, Z).
            energies: primary energies in `latent.ENERGY_UNIT`, (n,).
        """
        typical = np.mean(cells / energies[:, np.newaxis, np.newaxis, np.newaxis], axis=0, dtype=np.float64)
        self._typical.assign(np.maximum(typical, SMALLEST_TYPICAL).astype(np.float32))
        size = 64
        parts = [slice(start, start + size) for start in range(0, len(cells), size)]
        features = np.concatenate([self._features(tf.constant(cells[part]), energies[part]) for part in parts])
        logs = np.log(energies.astype(np.float64))
        law, rest = _fitted(logs, features)
        smallest = np.full(rest.shape[1], SMALLEST_SPREAD)
        smallest[: self._groups["cells"]] = SMALLEST_OF_CELL
        spread = np.maximum(rest.std(axis=0), smallest)
        deviations = np.arcsinh(rest / spread.astype(np.float32))
        law2, rest2 = _fitted(logs, np.concatenate([deviations, deviations**2], axis=1))
        spread2 = np.maximum(rest2.std(axis=0), SMALLEST_OF_DEVIATION)
        limits = [energies.min(), energies.max()]
        values = (self._typical, law, spread, law2, spread2, self._weighted(features), limits)
        for own, value in zip(self.variables, values, strict=True):
            own.assign(np.asarray(value, np.float32))

    def _weighted(self, features: npt.NDArray[np.float32]) -> Any:
        """Return the weight of each feature of training showers, with the mean 1.

        The outer cells and shares are most of the features, but hold little of the energy. So half of the weight
        within a group of cells or shares follows the mean energy.
        """
        ends = np.cumsum(list(self._groups.values()))[:-1]
        means = dict(zip(self._groups, np.split(features.mean(axis=0), ends), strict=True))
        energies = {"cells": self._typical.numpy().ravel(), "profiles": means["profiles"]}
        weights = []
        for group, number in self._groups.items():
            inner = energies.get(group, np.ones(number))
            weights.append(WEIGHTS[group] / number * (1.0 + inner / inner.mean()) / 2.0)
        together = np.concatenate(weights)
        return together / together.mean()

    def __call__(self, cells: tf.Tensor, energies: tf.Tensor) -> tf.Tensor:
        """Return the weighted mean over the features, a scalar. It is 0 on average if the means agree, or negative.

        A squared mean over a small batch would also punish fluctuations. So the term has only the products of
        different showers (U-statistic, as Gretton et al., JMLR 13, 2012, for the maximum mean discrepancy).

        Args:
            cells: generated showers in GeV, (n, X, Y, Z, 1), n at least 2. Showers outside the energies of the
                training events do not count.
            energies: primary energies in `latent.ENERGY_UNIT`, (n, 1).
        """
        lowest, highest = tf.unstack(self._energies.value)
        logs = tf.math.log(energies)
        powers = tf.concat([logs**degree for degree in range(DEGREE + 1)], axis=1)
        # asinh: a feature far from its fit must neither hide the others nor lose its gradient.
        deviations = tf.asinh(
            (self._features(cells[..., 0], energies[:, 0]) - powers @ self._law.value) / self._spread.value
        )
        deviations = tf.concat([deviations, tf.square(deviations)], axis=1)
        deviations = (deviations - powers @ self._law2.value) / self._spread2.value
        inside = tf.cast((energies >= lowest) & (energies <= highest), tf.float32)
        count = tf.reduce_sum(inside)
        place = tf.math.divide_no_nan(2.0 * energies - lowest - highest, highest - lowest)
        distance = tf.constant(0.0)
        for weight, function in zip(FUNCTIONS, _legendre(place), strict=True):
            parts = deviations * function * inside
            pairs = tf.square(tf.reduce_sum(parts, axis=0)) - tf.reduce_sum(tf.square(parts), axis=0)
            weights = tf.concat([self._weights.value] * 2, axis=0)
            distance += weight * tf.reduce_mean(weights * pairs)
        return tf.math.divide_no_nan(distance, sum(FUNCTIONS) * count * (count - 1.0))

    def _features(self, cells: tf.Tensor, energies: tf.Tensor) -> tf.Tensor:
        """Return the features of showers in GeV, (n, X, Y, Z), of energies (n,): float32 (n, features)."""
        cells = tf.nn.relu(cells)
        typical = self._typical.value * tf.reshape(energies, (-1, 1, 1, 1))
        single = tf.reshape(cells / (cells + typical), (-1, self._groups["cells"]))
        visible = tf.reduce_sum(cells, axis=(1, 2, 3))[:, tf.newaxis] + FAINTEST
        shares = [tf.reduce_sum(cells, axis=axes) / visible for axes in ((2, 3), (1, 3), (1, 2))]
        moments = [moment for profile in shares for moment in _moments(profile)]
        above = [tf.reduce_sum(cells / (cells + threshold), axis=(1, 2, 3)) for threshold in THRESHOLDS]
        spectrum = tf.math.log1p(tf.stack(above, axis=1))
        features = [
            single,
            *shares,
            tf.math.log(visible),
            *moments,
            spectrum,
            tf.math.log1p(pairs_of_neighbours(cells)),
        ]
        return tf.concat(features, axis=1)


def pairs_of_neighbours(cells: tf.Tensor) -> tf.Tensor:
    """Return soft numbers of pairs of neighbours, (n, 3 len(PAIR_THRESHOLDS)): along x, y and z for each threshold.

    A cell counts c / (c + threshold), and a pair the product of its cells. So lines and boxes of equal cells give more
    pairs than the same cells in random places.

    Args:
        cells: showers in GeV, (n, X, Y, Z), no cell below 0.
    """
    numbers = []
    for threshold in PAIR_THRESHOLDS:
        soft = cells / (cells + threshold)
        pairs = (soft[:, 1:] * soft[:, :-1], soft[:, :, 1:] * soft[:, :, :-1], soft[..., 1:] * soft[..., :-1])
        numbers += [tf.reduce_sum(along, axis=(1, 2, 3)) for along in pairs]
    return tf.stack(numbers, axis=1)


def _legendre(place: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Return Legendre polynomials of degree 0 to 3, each with the mean square 1 over -1 to 1."""
    return (
        tf.ones_like(place),
        3.0**0.5 * place,
        5.0**0.5 * (3.0 * place**2 - 1.0) / 2.0,
        7.0**0.5 * (5.0 * place**3 - 3.0 * place) / 2.0,
    )


def _moments(shares: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the first and the second central moment along an axis in cells, (n, 1) each, from shares (n, cells)."""
    places = tf.range(shares.shape[1], dtype=tf.float32)[tf.newaxis]
    mean = tf.reduce_sum(shares * places, axis=1, keepdims=True)
    return mean, tf.reduce_sum(shares * tf.square(places - mean), axis=1, keepdims=True)


def _fitted(logs: npt.NDArray[np.float64], values: npt.NDArray[np.float32]) -> tuple[Any, Any]:
    """Fit polynomials in `logs` (n,) to values (n, k).

    Returns:
        The coefficients (DEGREE + 1, k), from degree 0, and the residuals (n, k).
    """
    degree = DEGREE if len(logs) >= FEWEST else 0
    powers = np.stack([logs**each for each in range(degree + 1)], axis=1)
    coefficients = np.linalg.pinv(powers).astype(np.float32) @ values
    padded = np.zeros((DEGREE + 1, values.shape[1]), np.float32)
    padded[: degree + 1] = coefficients
    return padded, values - powers.astype(np.float32) @ coefficients
