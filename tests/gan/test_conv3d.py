"""The networks have the published shapes and numbers of parameters."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from gan.errors import InputError
from gan.models.conv3d import CONV3D
from gan.ops.blocks import ConvolutionBlock
from gan.ops.draws import position
from gan.parallel import Alone
from gan.settings import TrainingSettings
from gan.training.networks import Networks
from gan.training.step import TrainingStep
from tests.support.rounding import assert_within, sum_bound

PARAMETERS = {
    "original": {"generator": 872_948, "discriminator": 73_450},
    "16": {"generator": 1_042_528, "discriminator": 174_866},
}


@pytest.mark.parametrize("filters", PARAMETERS)
def test_parameter_counts_are_the_published_ones(filters: str) -> None:
    assert Networks(TrainingSettings(filters=filters), Alone()).parameters() == PARAMETERS[filters]


@pytest.mark.numeric
def test_generator_gives_cells_that_the_discriminator_judges() -> None:
    networks = Networks(TrainingSettings(filters="original"), Alone())
    cells = networks.generator(np.random.default_rng(0).normal(size=(2, 200)).astype("float32"))
    assert cells.shape == (2, 25, 25, 25, 1)
    assert np.min(cells) >= 0
    generation, auxiliary, ecal = networks.discriminator(cells)
    assert generation.shape == auxiliary.shape == ecal.shape == (2, 1)
    assert np.all((generation > 0) & (generation < 1))
    exact = np.sum(cells, axis=(1, 2, 3, 4), dtype=np.float64)
    # No cell is negative, so the sum of the cells is also the sum of their absolute values.
    assert_within(ecal[:, 0], exact, sum_bound(25**3, exact))


def test_bf16_computes_convolutions_in_bf16_and_keeps_everything_else_in_fp32() -> None:
    networks = Networks(TrainingSettings(filters="original", precision="bf16"), Alone())
    assert {variable.dtype for variable in networks.variables() if "iteration" not in variable.path} == {"float32"}
    layers = [*networks.generator.layers, *networks.discriminator.layers]
    convolutions = [layer for layer in layers if isinstance(layer, ConvolutionBlock)]
    assert len(convolutions) == 8
    assert {layer.compute_dtype for layer in convolutions} == {"bfloat16"}
    judged = networks.discriminator(np.zeros((1, 25, 25, 25, 1), "float32"))
    assert {str(output.dtype.name) for output in judged} == {"float32"}


def test_unknown_filters_are_refused_with_the_choices() -> None:
    with pytest.raises(InputError, match="one of 16, original"):
        CONV3D.filter_set("32")


def test_full_bf16_keeps_weights_that_bf16_can_hold() -> None:
    settings = TrainingSettings(filters="original", precision="bf16-full", batch_size=1)
    networks = Networks(settings, Alone())
    before = networks.generator_variables[0].numpy()
    cells = np.full((1, 25, 25, 25), 1e-3, np.float32)
    TrainingStep(networks, settings, Alone())(cells, np.array([100.0], np.float32), position(0, 0), 1e-2)
    assert np.any(networks.generator_variables[0].numpy() != before)
    for variable in (*networks.generator_variables, *networks.discriminator_variables):
        np.testing.assert_array_equal(variable.numpy(), tf.cast(tf.cast(variable.value, tf.bfloat16), tf.float32))
