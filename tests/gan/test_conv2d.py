"""The Conv2D networks have the published numbers of parameters, and compute what plain Keras layers compute."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from gan.ops.blocks import ConvolutionBlock
from gan.ops.draws import Draws, position
from gan.parallel import Alone
from gan.settings import TrainingSettings
from gan.training.networks import Networks
from gan.training.step import LOSSES, TrainingStep
from tests.benchmarks.baseline2d import VIEWS, plain_discriminator2d, plain_generator2d, plain_path

REHM = TrainingSettings.of(model="conv2d", recipe="rehm2021", batch_size=2)


@pytest.fixture(scope="module")
def networks() -> Networks:
    return Networks(REHM, Alone())


def test_parameter_counts_are_the_published_ones(networks: Networks) -> None:
    assert networks.parameters() == {"generator": 2_055_324, "discriminator": 714_114}


def test_the_plain_networks_of_the_benchmark_have_the_same_parameters(networks: Networks) -> None:
    plain = {"generator": plain_generator2d().count_params(), "discriminator": plain_discriminator2d().count_params()}
    assert networks.parameters() == plain


def test_shapes_and_types(networks: Networks) -> None:
    latent = np.random.default_rng(0).normal(size=(2, 200)).astype(np.float32)
    cells = networks.generator(latent)
    assert cells.shape == (2, 25, 25, 25, 1)
    assert np.min(cells) >= 0
    assert [tuple(output.shape) for output in networks.discriminator(cells)] == [(2, 1)] * 3


def test_bf16_computes_convolutions_in_bf16() -> None:
    networks = Networks(TrainingSettings.of(model="conv2d", precision="bf16"), Alone())
    blocks = [layer for layer in networks.generator.layers if isinstance(layer, ConvolutionBlock)]
    assert len(blocks) == 22
    assert {block.compute_dtype for block in blocks} == {"bfloat16"}
    assert networks.generator(np.ones((1, 200), np.float32)).dtype == "float32"


@pytest.mark.numeric
def test_a_path_of_the_generator_equals_plain_keras_layers(networks: Networks) -> None:
    generator = networks.generator
    random = np.random.default_rng(1)
    latent = random.normal(size=(2, 200)).astype(np.float32)
    seeds = keras.Model(generator.input, generator.get_layer("reshape").output)(latent)
    for view, (into, back) in VIEWS.items():
        image = keras.Input((5, 5, 5))
        plain = keras.Model(image, layers.Permute(back)(plain_path(layers.Permute(into)(image), view)))
        for layer in plain.layers:
            if isinstance(layer, layers.BatchNormalization):
                ours = generator.get_layer(layer.name.removesuffix("_norm"))
                statistics = [ours.gamma, ours.beta, ours.moving_mean, ours.moving_variance]
                # The moving statistics are those of some training, so that the normalization counts.
                ours.moving_mean.assign(random.normal(scale=0.1, size=ours.moving_mean.shape))
                ours.moving_variance.assign(random.uniform(0.5, 2.0, size=ours.moving_variance.shape))
                layer.set_weights([value.numpy() for value in statistics])
            elif layer.weights:
                layer.set_weights(generator.get_layer(layer.name).weights[: len(layer.weights)])
        ours = keras.Model(generator.input, generator.get_layer(f"{view}_back").output)(latent).numpy()
        expected = plain(seeds, training=False).numpy()
        assert expected.std() > 0
        # 9 convolutions of up to 4,096 products, with random signs: their rounding errors add up like a random walk,
        # sqrt(9 x 4096) x 2**-24 = 1e-5 of the size of a layer's cells.
        np.testing.assert_allclose(ours, expected, atol=1e-4 * np.abs(expected).max())


def test_a_step_changes_both_networks_and_has_one_update_of_the_generator(networks: Networks) -> None:
    before = [networks.generator_variables[0].numpy(), networks.discriminator_variables[0].numpy()]
    cells = np.full((2, 25, 25, 25), 1e-3, np.float32)
    result = TrainingStep(networks, REHM, Alone())(cells, np.array([100.0, 200.0], np.float32), position(0, 0), 1e-3)
    assert result.losses.shape == (3, 4)
    assert len(LOSSES) == 4
    assert np.isfinite(result.losses).all()
    after = [networks.generator_variables[0].numpy(), networks.discriminator_variables[0].numpy()]
    assert all((old != new).any() for old, new in zip(before, after, strict=True))


def test_dropout_is_drawn_in_training_only(networks: Networks) -> None:
    latent = tf.constant(np.random.default_rng(0).normal(size=(2, 200)).astype(np.float32))
    draws = Draws(1, 0, 2, tf.constant(0, tf.uint64))
    plain = networks.generator(latent, training=False).numpy()
    with networks.masks.drawn(draws, "generator_1"):
        again = networks.generator(latent, training=False).numpy()
        dropped = networks.generator(latent, training=True).numpy()
    np.testing.assert_array_equal(plain, again)
    assert (dropped != plain).any()
