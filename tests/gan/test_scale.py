"""Cells and the values that the networks see: conversion and back, units, energies, gradients at zero."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from gan.models.latent import SPHERE_POWER, Latent
from gan.ops.scale import (
    LEAK,
    OPENING_SLOPE,
    SMALLEST_UNIT,
    CellOutput,
    CellScale,
    CellSum,
    EnergyLaw,
    Opening,
    typical_cells,
)

pytestmark = pytest.mark.numeric

SHAPE = (3, 4, 5)
ENERGIES = np.array([[0.02], [1.0], [5.0]], np.float32)
LATENT = Latent(size=200, energies=(0.02, 5.0))
EXPONENT = 1 / (2 * SPHERE_POWER)
NOISE = np.random.default_rng(0).standard_normal((3, 200)).astype(np.float32)
ON_SPHERE = tf.constant(LATENT.scaled(NOISE, ENERGIES, "sphere"))
# Two conversions are at most 8 roundings of relative size 2**-24; a square or its root doubles or halves earlier ones.
TOLERANCE = 16 * 2.0**-24


def scale_of(kind: str, power: float) -> CellScale:
    scale = CellScale(kind, power, SHAPE)
    if kind == "rms":
        scale.set_units(np.random.default_rng(1).uniform(1e-5, 0.1, SHAPE))
    return scale


@pytest.mark.parametrize("kind", ["gev", "rms"])
@given(power=st.sampled_from([1.0, 0.85, 0.5]), cell=st.floats(2.0**-20, 10, width=32))
def test_conversion_and_back(kind: str, power: float, cell: float) -> None:
    cells = tf.fill((2, *SHAPE, 1), np.float32(cell))
    scale = scale_of(kind, power)
    # tf.pow computes exp(power * log): an error of the exponent of up to |log value| x 2**-24 < 14 x 2**-24.
    tolerance = TOLERANCE if power in (1.0, 0.5) else 32 * TOLERANCE
    np.testing.assert_allclose(scale.cells(scale.values(cells)), cells, rtol=tolerance)


def test_gev_and_power_1_change_nothing() -> None:
    cells = tf.constant(np.random.default_rng(0).uniform(size=(2, *SHAPE, 1)), tf.float32)
    scale = scale_of("gev", 1.0)
    assert scale.values(cells) is cells
    assert scale.cells(cells) is cells


def test_units_are_root_mean_squares_per_energy_with_a_lowest_value() -> None:
    cells = np.zeros((2, *SHAPE), np.float32)
    cells[0, 0, 0, 0], cells[1, 0, 0, 0] = 0.3, 0.8
    units = typical_cells(cells, np.array([1.0, 2.0]))
    assert units.dtype == np.float32
    assert units[0, 0, 0] == pytest.approx(np.sqrt((0.3**2 + 0.4**2) / 2), rel=1e-6)
    assert np.all(units.reshape(-1)[1:] == np.float32(SMALLEST_UNIT))


def test_sum_of_the_cells_is_in_gev() -> None:
    cells = tf.constant(np.random.default_rng(0).uniform(size=(2, *SHAPE, 1)), tf.float32)
    scale = scale_of("rms", 0.5)
    sums = CellSum(scale)(scale.values(cells))
    np.testing.assert_allclose(sums[:, 0], np.sum(cells, axis=(1, 2, 3, 4)), rtol=60 * TOLERANCE)


def test_length_of_the_noise_on_a_sphere_gives_the_energy() -> None:
    noise = np.random.default_rng(0).standard_normal((3, 200)).astype(np.float32)
    for latent in (LATENT.scaled(noise, ENERGIES, "sphere"), LATENT.scaled(tf.constant(noise), ENERGIES, "sphere")):
        length = np.mean(np.square(np.asarray(latent, np.float64)), axis=1, keepdims=True)
        np.testing.assert_allclose(length**2, ENERGIES, rtol=1000 * 2.0**-24)  # sums of 200 squares, twice, squared
    np.testing.assert_array_equal(LATENT.scaled(noise, ENERGIES), noise * ENERGIES)


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_output_grows_with_the_energy(power: float) -> None:
    scale = scale_of("gev", power)
    output = CellOutput("relu", scale, EnergyLaw(EXPONENT, lambda energy: energy, 0.0), Opening())
    cells = scale.cells(output(tf.ones((3, *SHAPE, 1)), ON_SPHERE)).numpy()
    np.testing.assert_allclose(cells.reshape(3, -1), np.tile(ENERGIES, 60), rtol=2000 * 2.0**-24)


@pytest.mark.parametrize("size", [0.0, 1e-3, 1.0, 30.0])
@pytest.mark.parametrize("power", [1.0, 0.5])
def test_visible_energy_stays_within_its_bound(power: float, size: float) -> None:
    scale = scale_of("rms", power)
    output = CellOutput("relu", scale, EnergyLaw(EXPONENT, lambda energy: 0.02 * energy, 0.2), Opening())
    raw = tf.constant(np.random.default_rng(0).uniform(size=(3, *SHAPE, 1)) * size, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(raw)
        values = output(raw, ON_SPHERE)
    assert np.isfinite(values).all()
    assert np.isfinite(tape.gradient(values, raw)).all()
    if size:
        visible = np.sum(scale.cells(values), axis=(1, 2, 3))
        # Rounding of the logarithm and the exponential adds less than 1e-3 to the bound.
        assert np.all(np.abs(np.log(visible / (0.02 * ENERGIES))) < 0.201)


PLAIN = CellScale("gev", 1.0, SHAPE)


def gradient_of(output: CellOutput, values: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    inputs = tf.reshape(tf.constant(values, tf.float32), (1, -1, 1, 1, 1))
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        result = output(inputs, tf.ones((1, 200)))
    return result.numpy().ravel(), tape.gradient(result, inputs).numpy().ravel()


def test_last_activations_and_their_gradients() -> None:
    values, opening = [-2.0, 3.0], Opening()
    for activation, slope in (("relu", 0.0), ("leaky-start", 0.0), ("leaky-gradient", LEAK)):
        result, gradient = gradient_of(CellOutput(activation, PLAIN, None, opening), values)
        np.testing.assert_array_equal(result, [0, 3])
        np.testing.assert_array_equal(gradient, np.array([slope, 1], np.float32))
    for early, slope in ((True, OPENING_SLOPE), (False, 0.0)):
        with opening.during(tf.constant(early)):
            result, gradient = gradient_of(CellOutput("leaky-start", PLAIN, None, opening), values)
        np.testing.assert_array_equal(result, np.array([-2 * np.float32(slope), 3]))
        np.testing.assert_array_equal(gradient, np.array([slope, 1], np.float32))


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_faint_cells_fade_from_the_discriminators_view(power: float) -> None:
    scale = CellScale("rms", power, SHAPE, faint=1e-4)
    scale.set_units(np.full(SHAPE, 1e-3))
    cells = np.array([0.0, 1e-6, 1e-4, 1e-1])
    values = tf.constant(np.tile((cells / 1e-3) ** power, 15).reshape(1, *SHAPE, 1), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(values)
        visible = scale.visible(values)
    expected = (cells / 1e-3) ** power * (cells / (cells + 1e-4)) ** power
    # Up to 8 roundings, and an error of 10 x 2**-24 of the exponent of tf.pow.
    np.testing.assert_allclose(visible.numpy().ravel()[:4], expected, rtol=32 * 2.0**-24)
    assert np.isfinite(tape.gradient(visible, values)).all()
    assert scale_of("rms", power).visible(values) is values
