"""The 3DGAN network with 2-D convolutions for showers of 25 x 25 x 25 cells.

Each network has three paths. A path sees the shower as images whose channels are the cells along one axis: depth, y or
x. Sources: Rehm et al., "Physics Validation of Novel Convolutional 2D Architectures for Speeding Up High Energy Physics
Simulations" (EPJ Web of Conferences 251, 2021) for the layers and losses; the authors' public training script for the
slope and the energies. Keras and TensorFlow are imported by the builders, since the launcher loads this module before
it binds the ranks.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gan.models.architecture import Architecture, FilterSet, Parts
from gan.models.conv3d import CELLS, LOSSES
from gan.models.latent import Latent
from gan.models.recipes import CONV2D_DEFAULT, REHM2021

if TYPE_CHECKING:
    import keras

    from gan.ops.convolutions import Padding

__all__ = ["CONV2D"]

LATENT = Latent(size=200, energies=(0.02, 5.0), opening_energies=(1.0, 4.0))
SLOPE = 0.3
"""Slope of LeakyReLU below zero."""
SEED = (5, 5, 5)
"""Shape of the generator's first image."""
FEATURES = 10
"""Number of values from which the discriminator computes its answers."""

VIEWS = {"depth": ((1, 2, 3), (1, 2, 3)), "y": ((1, 3, 2), (1, 3, 2)), "x": ((2, 3, 1), (3, 1, 2))}
"""Order of the axes in each path, by the axis that becomes the channels: into the path, and back."""


def build_generator(parts: Parts) -> keras.Model:
    """Return the generator: latent vectors (n, 200) -> values of cells, float32 (n, 25, 25, 25, 1)."""
    import keras
    from keras import layers

    from gan.ops.blocks import ConvolutionBlock
    from gan.ops.images import TransposedConvolution
    from gan.ops.scale import CellOutput

    dtype, wide, narrow = parts.dtype, parts.filters, parts.filters // 2
    latent = keras.Input((LATENT.size,), name="latent")
    seed = layers.Dense(math.prod(SEED), dtype=dtype, name="dense")(latent)
    seed = layers.Reshape(SEED, dtype=dtype, name="reshape")(seed)
    paths = []
    for view, (into, back) in VIEWS.items():
        x = layers.Permute(into, dtype=dtype, name=f"{view}_into")(seed)
        x = _block(parts, narrow, 5, name=f"{view}_conv1")(x)
        x = TransposedConvolution(wide, (5, 5), 3, dtype=dtype, name=f"{view}_enlarged2")(x)
        x = _block(parts, wide, 5, name=f"{view}_conv2")(x)
        x = TransposedConvolution(wide, (5, 5), 2, dtype=dtype, name=f"{view}_enlarged3")(x)
        x = _block(parts, wide, 8, name=f"{view}_conv3")(x)
        x = _block(parts, wide, 5, valid=True, name=f"{view}_conv4")(x)
        x = _block(parts, narrow, 4, name=f"{view}_conv5")(x)
        x = _block(parts, narrow, 3, name=f"{view}_conv6")(x)
        x = _block(parts, CELLS[2], 2, valid=True, name=f"{view}_conv7")(x)
        paths.append(layers.Permute(back, dtype=dtype, name=f"{view}_back")(x))
    x = layers.Concatenate(dtype=dtype, name="views")(paths)
    x = ConvolutionBlock(CELLS[2], (3, 3), _padding(3), dtype=dtype, name="conv8")(x)
    x = layers.Reshape((*CELLS, 1), dtype=dtype, name="shower")(x)
    output = CellOutput(parts.last_activation, parts.scale, parts.law, parts.opening, dtype="float32", name="cells")
    return keras.Model(latent, output(x, latent), name="generator")


def build_discriminator(parts: Parts) -> keras.Model:
    """Return the discriminator: values of cells (n, 25, 25, 25, 1) -> an output (n, 1) for each of `LOSSES`."""
    import keras
    from keras import layers

    from gan.ops.blocks import DenseBlock
    from gan.ops.scale import CellSum, DiscriminatorView

    dtype, wide, narrow = parts.dtype, parts.filters, parts.filters // 2
    cells = keras.Input((*CELLS, 1), name="cells")
    seen = DiscriminatorView(parts.scale, parts.input_noise, parts.masks, dtype="float32", name="view")(cells)
    shower = layers.Reshape(CELLS, dtype=dtype, name="shower")(seen)
    paths = []
    for view, (into, back) in VIEWS.items():
        x = layers.Permute(into, dtype=dtype, name=f"{view}_into")(shower)
        x = _block(parts, wide, 8, name=f"{view}_conv1")(x)
        x = _block(parts, narrow, 6, valid=True, name=f"{view}_conv2")(x)
        x = _block(parts, narrow, 5, valid=True, name=f"{view}_conv3")(x)
        x = _block(parts, narrow, 4, valid=True, name=f"{view}_conv4")(x)
        x = _block(parts, narrow, 3, valid=True, name=f"{view}_conv5")(x)
        x = _block(parts, 9, 3, valid=True, name=f"{view}_conv6")(x)
        paths.append(layers.Permute(back, dtype=dtype, name=f"{view}_back")(x))
    x = layers.Concatenate(dtype=dtype, name="views")(paths)
    x = layers.Flatten(dtype=dtype, name="flat")(x)
    x = DenseBlock(FEATURES, slope=SLOPE, norm=parts.norm, masks=parts.masks, dtype=dtype, name="features")(x)
    features = layers.Activation("linear", dtype="float32", name="features_fp32")(x)
    generation = layers.Dense(1, activation="sigmoid", dtype="float32", name="generation")(features)
    auxiliary = layers.Dense(1, dtype="float32", name="auxiliary")(features)
    ecal = CellSum(parts.scale, dtype="float32", name="ecal")(cells)
    return keras.Model(cells, [generation, auxiliary, ecal], name="discriminator")


def _block(parts: Parts, filters: int, size: int, *, valid: bool = False, name: str) -> keras.layers.Layer:
    """Return a convolution without bias, then LeakyReLU, batch normalization and dropout.

    The convolution keeps the shape of the image, or with `valid` has no padding.
    """
    from gan.ops.blocks import ConvolutionBlock

    return ConvolutionBlock(
        filters,
        (size, size),
        [(0, 0)] * 2 if valid else _padding(size),
        slope=SLOPE,
        bias=False,
        norm=parts.norm,
        masks=parts.masks,
        dtype=parts.dtype,
        name=name,
    )


def _padding(size: int) -> Padding:
    from gan.ops.convolutions import same

    return same((size, size))


CONV2D = Architecture(
    name="conv2d",
    title="3DGAN with two-dimensional convolutions, 25 x 25 x 25 cells",
    cells=CELLS,
    latent=LATENT,
    filters={"original": FilterSet(64, 64)},
    dropout=0.2,
    losses=LOSSES,
    recipes={"default": CONV2D_DEFAULT, "rehm2021": REHM2021},
    build_generator=build_generator,
    build_discriminator=build_discriminator,
)
