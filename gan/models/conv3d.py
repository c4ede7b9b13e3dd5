"""The 3DGAN network with 3-D convolutions for showers of 25 x 25 x 25 cells ("EcalEnergyGan" in the public 3DGAN code).

Sources: Carminati et al., "Three dimensional Generative Adversarial Networks for fast simulation" (J. Phys. Conf. Ser.
1085, 2018) for the layers, losses and weights; the talk by Carminati et al. (2019) for the filter set `16`.
Keras and TensorFlow are imported by the builders, since the launcher loads this module before it binds the ranks.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from gan.models.architecture import Architecture, FilterSet, LossTerm, Parts
from gan.models.latent import Latent
from gan.models.recipes import CONV3D_DEFAULT, STAMPEDE2

if TYPE_CHECKING:
    import keras

    from gan.ops.convolutions import Padding

__all__ = ["CONV3D"]

LATENT = Latent(size=200, energies=(0.1, 5.0))
CELLS = (25, 25, 25)
SLOPE = 0.3
"""Slope of LeakyReLU below zero."""
NO_PADDING: Padding = [(0, 0)] * 3


def build_generator(parts: Parts) -> keras.Model:
    """Return the generator: latent vectors (n, 200) -> values of cells, float32 (n, 25, 25, 25, 1)."""
    import keras
    from keras import layers

    from gan.ops.blocks import ConvolutionBlock
    from gan.ops.convolutions import same
    from gan.ops.scale import CellOutput

    dtype, norm, filters = parts.dtype, parts.norm, parts.filters
    block = partial(ConvolutionBlock, initializer="he_uniform", slope=SLOPE, dtype=dtype)
    latent = keras.Input((LATENT.size,), name="latent")
    x = layers.Dense(7 * 7 * 8 * 8, dtype=dtype, name="dense")(latent)
    x = layers.Reshape((7, 7, 8, 8), dtype=dtype, name="reshape")(x)
    x = block(64, (6, 6, 8), same((6, 6, 8)), norm=norm, name="conv1")(x)
    x = block(filters, (6, 5, 8), [(2, 2), (2, 2), (0, 0)], upsampling=(2, 2, 2), norm=norm, name="conv2")(x)
    x = block(filters, (3, 3, 8), [(1, 1), (0, 0), (3, 3)], upsampling=(2, 2, 3), name="conv3")(x)
    x = ConvolutionBlock(1, (2, 2, 2), NO_PADDING, initializer="glorot_normal", dtype=dtype, name="conv4")(x)
    output = CellOutput(parts.last_activation, parts.scale, parts.law, parts.opening, dtype="float32", name="cells")
    return keras.Model(latent, output(x, latent), name="generator")


def build_discriminator(parts: Parts) -> keras.Model:
    """Return the discriminator: values of cells (n, 25, 25, 25, 1) -> an output (n, 1) for each of `LOSSES`."""
    import keras
    from keras import layers

    from gan.ops.blocks import ConvolutionBlock
    from gan.ops.scale import CellSum, DiscriminatorView

    dtype, norm, filters = parts.dtype, parts.norm, parts.filters
    block = partial(ConvolutionBlock, size=(5, 5, 5), slope=SLOPE, masks=parts.masks, dtype=dtype)
    cells = keras.Input((*CELLS, 1), name="cells")
    seen = DiscriminatorView(parts.scale, parts.input_noise, parts.masks, dtype="float32", name="view")(cells)
    x = block(32, padding=[(2, 2)] * 3, name="conv1")(seen)
    x = block(filters, padding=[(2, 2)] * 3, norm=norm, name="conv2")(x)
    x = block(filters, padding=[(2, 2)] * 3, norm=norm, name="conv3")(x)
    x = block(filters, padding=[(1, 1)] * 3, norm=norm, name="conv4")(x)
    x = layers.AveragePooling3D(2, dtype=dtype, name="pool")(x)
    features = layers.Flatten(dtype="float32", name="features")(x)
    generation = layers.Dense(1, activation="sigmoid", dtype="float32", name="generation")(features)
    auxiliary = layers.Dense(1, dtype="float32", name="auxiliary")(features)
    ecal = CellSum(parts.scale, dtype="float32", name="ecal")(cells)
    return keras.Model(cells, [generation, auxiliary, ecal], name="discriminator")


LOSSES = (
    LossTerm(name="generation", target="label", error="binary_crossentropy"),
    LossTerm(name="auxiliary", target="energy", error="mean_absolute_percentage_error"),
    LossTerm(name="ecal", target="visible_energy", error="mean_absolute_percentage_error"),
)

CONV3D = Architecture(
    name="conv3d",
    title="3DGAN with three-dimensional convolutions, 25 x 25 x 25 cells",
    cells=CELLS,
    latent=LATENT,
    # `original`: as published. `16`: multiples of 16, which are fastest with oneDNN.
    filters={"16": FilterSet(16, 16), "original": FilterSet(6, 8)},
    dropout=0.2,
    losses=LOSSES,
    recipes={"default": CONV3D_DEFAULT, "stampede2": STAMPEDE2},
    build_generator=build_generator,
    build_discriminator=build_discriminator,
)
