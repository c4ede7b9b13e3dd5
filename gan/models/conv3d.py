"""The networks: Conv3D 3DGAN for showers of 25 x 25 x 25 cells ("EcalEnergyGan" of the public 3DGAN code).

Layers and their parameters only. What they are trained with is in `losses` and `step`, number formats in `precision`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
from keras import layers

from gan.errors import InputError
from gan.ops.blocks import BatchNorm, ConvolutionBlock, Masks
from gan.ops.convolutions import Padding, same

__all__ = ["DROPOUT", "LATENT", "FilterSet", "conv3d_discriminator", "conv3d_generator", "filter_set"]

LATENT = 200
"""Size of the generator's input, a normal vector times the energy."""
CELLS = (25, 25, 25)
SLOPE = 0.3
"""Of LeakyReLU below zero."""
DROPOUT = 0.2

Tensor = Any
"""Symbolic while a network is built, TensorFlow's when it is called."""
NO_PADDING: Padding = [(0, 0)] * 3


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


def conv3d_generator(filters: int, dtype: object, norm: BatchNorm) -> keras.Model:
    """Latent vector (n, 200) -> cells in GeV, float32 (n, 25, 25, 25, 1)."""
    block = partial(ConvolutionBlock, initializer="he_uniform", slope=SLOPE, dtype=dtype)
    latent = keras.Input((LATENT,), name="latent")
    x = layers.Dense(7 * 7 * 8 * 8, dtype=dtype, name="dense")(latent)
    x = layers.Reshape((7, 7, 8, 8), dtype=dtype, name="reshape")(x)
    x = block(64, (6, 6, 8), same((6, 6, 8)), norm=norm, name="conv1")(x)
    x = block(filters, (6, 5, 8), [(2, 2), (2, 2), (0, 0)], upsampling=(2, 2, 2), norm=norm, name="conv2")(x)
    x = block(filters, (3, 3, 8), [(1, 1), (0, 0), (3, 3)], upsampling=(2, 2, 3), name="conv3")(x)
    x = ConvolutionBlock(1, (2, 2, 2), NO_PADDING, initializer="glorot_normal", dtype=dtype, name="conv4")(x)
    cells = layers.Activation("relu", dtype="float32", name="cells")(x)
    return keras.Model(latent, cells, name="generator")


def conv3d_discriminator(filters: int, dtype: object, norm: BatchNorm, masks: Masks) -> keras.Model:
    """Cells in GeV (n, 25, 25, 25, 1) -> probability of being real, energy in 100 GeV, sum of the cells in GeV.

    Each output is float32 (n, 1).
    """
    block = partial(ConvolutionBlock, size=(5, 5, 5), slope=SLOPE, masks=masks, dtype=dtype)
    cells = keras.Input((*CELLS, 1), name="cells")
    x = block(32, padding=[(2, 2)] * 3, name="conv1")(cells)
    x = block(filters, padding=[(2, 2)] * 3, norm=norm, name="conv2")(x)
    x = block(filters, padding=[(2, 2)] * 3, norm=norm, name="conv3")(x)
    x = block(filters, padding=[(1, 1)] * 3, norm=norm, name="conv4")(x)
    x = layers.AveragePooling3D(2, dtype=dtype, name="pool")(x)
    features = layers.Flatten(dtype="float32", name="features")(x)
    generation = layers.Dense(1, activation="sigmoid", dtype="float32", name="generation")(features)
    auxiliary = layers.Dense(1, dtype="float32", name="auxiliary")(features)
    ecal = layers.Lambda(_sum_cells, output_shape=(1,), dtype="float32", name="ecal")(cells)
    return keras.Model(cells, [generation, auxiliary, ecal], name="discriminator")


def _sum_cells(cells: Tensor) -> Tensor:
    return keras.ops.expand_dims(keras.ops.sum(cells, axis=(1, 2, 3, 4)), 1)
