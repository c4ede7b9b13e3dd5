"""The networks: Conv3D 3DGAN for showers of 25 x 25 x 25 cells ("EcalEnergyGan" of the public 3DGAN code).

Layers and their parameters only. What they are trained with is in `losses` and `step`, number formats in `precision`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from gan.errors import InputError
from gan.layers import CounterDropout, Masks

__all__ = ["LATENT", "FilterSet", "conv3d_discriminator", "conv3d_generator", "filter_set"]

LATENT = 200
"""Size of the generator's input, a normal vector times the energy."""
CELLS = (25, 25, 25)
SLOPE = 0.3
"""Of LeakyReLU below zero."""
DROPOUT = 0.2

Tensor = Any
"""Symbolic while a network is built, TensorFlow's when it is called."""
MakeBatchNorm = Callable[..., keras.layers.Layer]


@dataclass(frozen=True, slots=True)
class FilterSet:
    """Number of filters in the middle layers of each network."""

    generator: int
    discriminator: int


def filter_set(name: str) -> FilterSet:
    """`original`: as published; `16`: the multiples of 16 that oneDNN computes best (Carminati et al. 2019)."""
    sets = {"16": FilterSet(16, 16), "original": FilterSet(6, 8)}
    if name not in sets:
        raise InputError(f"--filters is {name!r}; expected one of {', '.join(sets)}")
    return sets[name]


def conv3d_generator(filters: int, dtype: object, batch_norm: MakeBatchNorm) -> keras.Model:
    """Latent vector (n, 200) -> cells in GeV, float32 (n, 25, 25, 25, 1)."""

    def convolve(x: Tensor, number: int, channels: int, kernel: tuple[int, int, int], padding: str = "valid") -> Tensor:
        x = layers.Conv3D(
            channels,
            kernel,
            padding=padding,
            kernel_initializer="he_uniform",
            dtype=dtype,
            name=f"conv{number}",
        )(x)
        return layers.LeakyReLU(negative_slope=SLOPE, dtype=dtype, name=f"leaky{number}")(x)

    latent = keras.Input((LATENT,), name="latent")
    x = layers.Dense(7 * 7 * 8 * 8, dtype=dtype, name="dense")(latent)
    x = layers.Reshape((7, 7, 8, 8), dtype=dtype, name="reshape")(x)
    x = convolve(x, 1, 64, (6, 6, 8), padding="same")
    x = batch_norm(dtype=dtype, name="norm1")(x)
    x = layers.UpSampling3D((2, 2, 2), dtype=dtype, name="up1")(x)
    x = layers.ZeroPadding3D((2, 2, 0), dtype=dtype, name="pad2")(x)
    x = convolve(x, 2, filters, (6, 5, 8))
    x = batch_norm(dtype=dtype, name="norm2")(x)
    x = layers.UpSampling3D((2, 2, 3), dtype=dtype, name="up2")(x)
    x = layers.ZeroPadding3D((1, 0, 3), dtype=dtype, name="pad3")(x)
    x = convolve(x, 3, filters, (3, 3, 8))
    x = layers.Conv3D(1, (2, 2, 2), use_bias=False, dtype=dtype, name="conv4")(x)
    cells = layers.Activation("relu", dtype="float32", name="cells")(x)
    return keras.Model(latent, cells, name="generator")


def conv3d_discriminator(filters: int, dtype: object, batch_norm: MakeBatchNorm, masks: Masks) -> keras.Model:
    """Cells in GeV (n, 25, 25, 25, 1) -> probability of being real, energy in 100 GeV, sum of the cells in GeV.

    Each output is float32 (n, 1).
    """
    cells = keras.Input((*CELLS, 1), name="cells")
    x = layers.Conv3D(32, 5, padding="same", dtype=dtype, name="conv1")(cells)
    x = layers.LeakyReLU(negative_slope=SLOPE, dtype=dtype, name="leaky1")(x)
    x = CounterDropout(DROPOUT, masks, dtype=dtype, name="dropout1")(x)
    for number, padding in ((2, 2), (3, 2), (4, 1)):
        x = layers.ZeroPadding3D(padding, dtype=dtype, name=f"pad{number}")(x)
        x = layers.Conv3D(filters, 5, dtype=dtype, name=f"conv{number}")(x)
        x = layers.LeakyReLU(negative_slope=SLOPE, dtype=dtype, name=f"leaky{number}")(x)
        x = batch_norm(dtype=dtype, name=f"norm{number}")(x)
        x = CounterDropout(DROPOUT, masks, dtype=dtype, name=f"dropout{number}")(x)
    x = layers.AveragePooling3D(2, dtype=dtype, name="pool")(x)
    features = layers.Flatten(dtype="float32", name="features")(x)
    generation = layers.Dense(1, activation="sigmoid", dtype="float32", name="generation")(features)
    auxiliary = layers.Dense(1, dtype="float32", name="auxiliary")(features)
    ecal = layers.Lambda(_sum_cells, output_shape=(1,), dtype="float32", name="ecal")(cells)
    return keras.Model(cells, [generation, auxiliary, ecal], name="discriminator")


def _sum_cells(cells: Tensor) -> Tensor:
    return keras.ops.expand_dims(keras.ops.sum(cells, axis=(1, 2, 3, 4)), 1)
