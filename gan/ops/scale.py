"""The numbers in which the networks see and give showers, and the last layer of a generator.

Cells hold 1e-6 to 10 GeV, while a network works best with numbers near 1. `CellScale` converts between the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from gan.ops.blocks import Masks

__all__ = [
    "CellOutput",
    "CellScale",
    "CellSum",
    "DiscriminatorView",
    "EnergyLaw",
    "Opening",
    "typical_cells",
]

SMALLEST_UNIT = 1e-5
"""Smallest unit of a cell in GeV. It is below the signal of any particle, so cells without a signal stay near 0."""
LEAK = 0.1
"""Slope of the gradient below zero for `leaky-gradient`."""
NOTHING = 1e-20
"""Smallest visible energy in GeV whose logarithm is taken. That of an empty shower would not be finite."""
OPENING_SLOPE = 0.3
"""Slope of the last activation below zero in the opening epochs, for `leaky-start`."""


def typical_cells(cells: npt.NDArray[np.floating[Any]], energies: npt.NDArray[np.floating[Any]]) -> Any:
    """Return the root mean square of each cell per unit of primary energy, float32 (X, Y, Z), at least SMALLEST_UNIT.

    Args:
        cells: showers in GeV, (n, X, Y, Z).
        energies: primary energies in `latent.ENERGY_UNIT`, (n,).
    """
    relative = cells / energies[:, np.newaxis, np.newaxis, np.newaxis]
    mean_square = np.mean(np.square(relative, dtype=np.float64), axis=0)
    return np.maximum(np.sqrt(mean_square), SMALLEST_UNIT).astype(np.float32)


class CellScale:
    """Conversion of cells: value = (cell / unit) ** power.

    A power below 1 makes weak and strong cells more alike: with 0.5, the range of 1e-6 to 10 GeV becomes 1e-3 to 3.

    Args:
        kind: `gev`: the unit of all cells is 1 GeV; `rms`: each cell has its own unit, the root mean square of its
            energy in training showers, for a primary energy of 100 GeV.
        power: exponent, above 0.
        cells: number of cells along x, y and depth.
        faint: cell energy in GeV below which cells are almost invisible to the discriminator. 0: all are visible.
    """

    def __init__(self, kind: str, power: float, cells: tuple[int, int, int], faint: float = 0.0) -> None:
        self.power, self.faint = power, faint
        self.units: list[Any] = []
        """The unit of each cell in GeV, as a variable of shape (X, Y, Z, 1). Empty if the unit is 1 GeV."""
        if kind == "rms":
            self.units.append(keras.Variable(np.ones((*cells, 1), np.float32), trainable=False, name="unit"))

    def set_units(self, units: npt.NDArray[np.floating[Any]]) -> None:
        """Set the unit of each cell in GeV, (X, Y, Z)."""
        self.units[0].assign(units[..., np.newaxis])

    def values(self, cells: tf.Tensor) -> tf.Tensor:
        """Convert cells in GeV, (n, X, Y, Z, 1), to values."""
        relative = cells / self.units[0].value if self.units else cells
        if self.power == 1.0:
            return relative
        return tf.sqrt(relative) if self.power == 0.5 else tf.pow(relative, self.power)

    def cells(self, values: tf.Tensor) -> tf.Tensor:
        """Convert values to cells in GeV. Negative values, which only `leaky-start` gives, need the power 1."""
        if self.power != 1.0:
            values = tf.square(values) if self.power == 0.5 else tf.pow(values, 1.0 / self.power)
        return values * self.units[0].value if self.units else values

    def visible(self, values: tf.Tensor) -> tf.Tensor:
        """Return values (c / u) ** p as the discriminator sees them: multiplied by (c / (c + faint)) ** p."""
        if not self.faint:
            return values
        unit = self.units[0].value if self.units else 1.0
        # The same as above, without the infinite gradient of a root at 0.
        return tf.square(values) * tf.pow(unit / (self.cells(values) + self.faint), self.power)


class Opening:
    """The opening epochs of a training, while a step is traced.

    Outside the `with` block of `during`, the last activation is a plain ReLU.
    """

    def __init__(self) -> None:
        self.slope: tf.Tensor | None = None
        """Slope of the last activation below zero, a scalar."""

    @contextmanager
    def during(self, early: tf.Tensor) -> Iterator[None]:
        """Use the slope of the opening epochs if the boolean scalar `early` is true, else the slope 0."""
        self.slope = tf.where(early, OPENING_SLOPE, 0.0)
        try:
            yield
        finally:
            self.slope = None


@dataclass(frozen=True, slots=True)
class EnergyLaw:
    """How the cells of a generated shower follow its primary energy, for the latent input `sphere`."""

    exponent: float
    """Power of the latent vector's mean square that is the primary energy in units of 100 GeV."""
    visible: Callable[[tf.Tensor], tf.Tensor]
    """Expected visible energy in GeV for primary energies in units of 100 GeV."""
    bound: float
    """Largest deviation of the visible energy from the expected one, as a difference of logarithms. 0 for no bound."""


class CellOutput(keras.layers.Layer):
    """Last layer of a generator: the activation, and the factors for the energy.

    Args:
        activation: `relu`; `leaky-start`: LeakyReLU in the opening epochs (Rehm et al. 2021), then ReLU;
            `leaky-gradient`: ReLU whose gradient below zero is LEAK instead of 0, so that a cell without output can
            come back.
        scale: conversion of the values to cells.
        law: how the cells follow the primary energy. None if only the network decides it.
        opening: the opening epochs, for `leaky-start`.
    """

    def __init__(
        self, activation: str, scale: CellScale, law: EnergyLaw | None, opening: Opening, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.activation, self.scale, self.law, self.opening = activation, scale, law, opening

    def call(self, values: tf.Tensor, latent: tf.Tensor) -> tf.Tensor:
        values = self._activated(tf.cast(values, tf.float32))
        if self.law is None:
            return values
        energies = tf.reduce_mean(tf.square(latent), axis=1, keepdims=True) ** self.law.exponent
        values = values * _per_event(energies**self.scale.power)
        return values * _per_event(self._within_bound(values, energies)) if self.law.bound else values

    def _within_bound(self, values: tf.Tensor, energies: tf.Tensor) -> tf.Tensor:
        """Return the factor that brings the visible energy within the bound, (n, 1).

        It is a constant for the gradients: so the loss of the visible energy still moves a generator that is far
        outside, where the gradient of the bound would vanish.
        """
        assert self.law is not None
        cells = tf.reduce_sum(self.scale.cells(values), axis=(1, 2, 3))
        deviation = tf.math.log(tf.maximum(cells, NOTHING) / self.law.visible(energies))
        bounded = self.law.bound * tf.tanh(deviation / self.law.bound)
        return tf.stop_gradient(tf.exp((bounded - deviation) * self.scale.power))

    def _activated(self, values: tf.Tensor) -> tf.Tensor:
        if self.activation == "leaky-start" and self.opening.slope is not None:
            return tf.where(values > 0, values, self.opening.slope * values)
        return _relu_with_leaking_gradient(values) if self.activation == "leaky-gradient" else tf.nn.relu(values)


def _per_event(factors: tf.Tensor) -> tf.Tensor:
    """Reshape factors (n, 1) to multiply cells (n, X, Y, Z, 1)."""
    return factors[:, :, tf.newaxis, tf.newaxis, tf.newaxis]


class DiscriminatorView(keras.layers.Layer):
    """First layer of a discriminator: without faint cells and, in a training, with noise.

    Args:
        scale: makes faint cells almost invisible.
        noise: standard deviation of normal noise on the values.
        masks: source of the noise.
    """

    def __init__(self, scale: CellScale, noise: float, masks: Masks, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale, self.noise, self.masks = scale, noise, masks

    def call(self, values: tf.Tensor, training: bool = False) -> tf.Tensor:
        visible = self.scale.visible(values)
        noise = self.masks.noise(self.name, values.shape[1:]) if training and self.noise else None
        return visible if noise is None else visible + self.noise * noise


class CellSum(keras.layers.Layer):
    """Visible energy: the sum of the cells in GeV, (n, 1), from their values.

    Args:
        scale: conversion of the values to cells.
    """

    def __init__(self, scale: CellScale, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale = scale

    def call(self, values: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(self.scale.cells(values), axis=(1, 2, 3, 4))[:, tf.newaxis]


@tf.custom_gradient
def _relu_with_leaking_gradient(values: tf.Tensor) -> Any:
    return tf.nn.relu(values), lambda upstream: tf.where(values > 0, upstream, LEAK * upstream)
