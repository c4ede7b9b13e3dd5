"""Recipes are complete and valid, options override them, and their special settings do what they say."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from gan.data.showers import open_showers
from gan.errors import InputError
from gan.generation.network import build_generator, read_generator
from gan.models.registry import ARCHITECTURES
from gan.ops.blocks import Masks
from gan.ops.draws import Draws, epoch_of, position
from gan.ops.scale import CellScale, DiscriminatorView
from gan.parallel import Alone, Worker
from gan.run.checkpoint import read_checkpoint
from gan.run.folder import RunFolder
from gan.settings import TrainingSettings
from gan.training.loop import Training
from gan.training.networks import Networks
from gan.training.step import TrainingStep

ALL = [(each.name, name) for each in ARCHITECTURES.values() for name in each.recipes]
SMALL = {"filters": "original", "batch_size": 4, "validation_fraction": 0.25, "epochs": 1}


def train(files: Path, out: Path, **options: object) -> Training:
    settings = TrainingSettings.of(**{**SMALL, **options})
    folder = RunFolder(out)
    with open_showers([str(files / "*.h5")]) as showers:
        folder.prepare(settings, showers.described(), resume=True)
        training = Training(settings, showers, folder, Worker(host="here"), Alone())
        training.run()
    return training


@pytest.mark.parametrize(("model", "name"), ALL)
def test_every_recipe_makes_valid_settings(model: str, name: str) -> None:
    settings = TrainingSettings.of(model=model, recipe=name)
    assert settings.recipe == name
    values = ARCHITECTURES[model].recipes[name].values
    assert set(values) <= {field.name for field in dataclasses.fields(TrainingSettings)}
    assert {field: getattr(settings, field) for field in values} == values


def test_the_talks_recipe_has_the_values_of_the_talk() -> None:
    talk = TrainingSettings.of(recipe="stampede2")
    assert (talk.filters, talk.optimizer, talk.learning_rate, talk.lr_scaling) == ("16", "rmsprop", 0.001, "linear")
    assert (talk.batch_size, talk.epochs, talk.warmup_epochs, talk.generator_steps) == (8, 25, 5, 2)
    assert talk.weights == (8, 0.2, 0.1)
    assert talk == TrainingSettings()


def test_an_option_overrides_the_recipe() -> None:
    settings = TrainingSettings.of(model="conv2d", recipe="rehm2021", learning_rate=0.01)
    assert (settings.learning_rate, settings.batch_size) == (0.01, 128)


def test_a_recipe_of_another_architecture_is_refused() -> None:
    with pytest.raises(InputError, match="'stampede2'; expected one of default, rehm2021 for --model conv2d"):
        TrainingSettings.of(model="conv2d", recipe="stampede2")


@pytest.mark.parametrize("weights", ["8,0.2", "8,0.2,much", "", "8,0.2,-1", "nan,0.2,0.1", "8,inf,0.1"])
def test_wrong_loss_weights_are_refused(weights: str) -> None:
    with pytest.raises(
        InputError, match=r"--loss-weights is .*; expected a number of 0 or more for each of generation, auxiliary"
    ):
        TrainingSettings.of(loss_weights=weights)


def test_the_averaged_generator_is_validated_saved_and_generates(shower_files: Path, tmp_path: Path) -> None:
    training = train(shower_files, tmp_path / "run")
    networks = training.networks
    assert networks.averaged is not networks.generator
    weights = read_generator(tmp_path / "run" / "checkpoints" / "best.npz")
    for saved, average in zip(weights.arrays, networks.averaged.weights, strict=True):
        np.testing.assert_array_equal(saved, average)
    assert any((average.numpy() != now.numpy()).any() for average, now in zip(*weights_of(networks), strict=True))
    latent = np.random.default_rng(0).normal(size=(2, 200)).astype(np.float32)
    generated = build_generator(weights, "fp32").cells(latent)
    np.testing.assert_array_equal(generated, networks.shower_generator.cells(latent))


def weights_of(networks: Networks) -> tuple[list[tf.Variable], list[tf.Variable]]:
    return networks.averaged.weights, networks.generator.weights


def test_units_are_measured_once_and_kept_on_a_resume(shower_files: Path, tmp_path: Path) -> None:
    train(shower_files, tmp_path / "run")
    first = read_checkpoint(tmp_path / "run" / "checkpoints" / "best.npz", groups=("units",)).group("units")
    training = train(shower_files, tmp_path / "run", epochs=2)
    (units,) = first.values()
    assert units.shape == (25, 25, 25, 1)
    assert units.max() > 100 * units.min()
    np.testing.assert_array_equal(training.networks.scale.units[0], units)


def test_another_recipe_does_not_continue_a_run(shower_files: Path, tmp_path: Path) -> None:
    train(shower_files, tmp_path / "run")
    with pytest.raises(InputError, match=r"--optimizer was adam, is rmsprop.*--cell-scale was rms, is gev"):
        train(shower_files, tmp_path / "run", recipe="stampede2", epochs=2)


def test_statistics_of_the_average_depend_only_on_its_weights() -> None:
    networks = Networks(TrainingSettings.of(filters="original", batch_size=4), Alone())
    statistics = networks.averaged.non_trainable_variables
    networks.calibrate(epoch=0)
    first = [each.numpy() for each in statistics]
    assert any((value != 0).any() and (value != 1).any() for value in first)
    for each in statistics:
        each.assign(each + 1.0)
    networks.calibrate(epoch=0)
    for value, again in zip(first, statistics, strict=True):
        np.testing.assert_array_equal(value, again)


def test_average_moves_by_its_weight() -> None:
    networks = Networks(TrainingSettings.of(average=0.75, filters="original"), Alone())
    averaged, now = (weights[0] for weights in weights_of(networks))
    before = averaged.numpy()
    now.assign_add(tf.ones_like(now) * 4.0)
    networks.follow()
    # 0.75 x old + 0.25 x (old + 4), with 3 roundings of numbers below 8.
    np.testing.assert_allclose(averaged, before + 1.0, atol=3 * 8 * 2.0**-24)


def test_position_tells_the_epoch() -> None:
    assert [int(epoch_of(tf.constant(position(epoch, 77)))) for epoch in (0, 1, 29)] == [0, 1, 29]


@pytest.mark.parametrize(("epoch", "low", "high"), [(0, 1.0, 4.0), (1, 1.0, 4.0), (2, 0.02, 5.0)])
def test_opening_epochs_draw_energies_from_the_middle(epoch: int, low: float, high: float) -> None:
    settings = TrainingSettings.of(model="conv2d", recipe="rehm2021", batch_size=2)
    networks = Networks(settings, Alone())
    seen = []
    draw = Draws.uniform

    def remember(self: Draws, purpose: str, *limits: Any) -> tf.Tensor:
        value = draw(self, purpose, *limits)
        if purpose.endswith("energy"):
            seen.append([float(limit) for limit in limits])
        return value

    step = TrainingStep(networks, settings, Alone())
    tf.config.run_functions_eagerly(True)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Draws, "uniform", remember)
            cells = np.full((2, 25, 25, 25), 1e-3, np.float32)
            step(cells, np.array([100.0, 200.0], np.float32), position(epoch, 0), 1e-6)
    finally:
        tf.config.run_functions_eagerly(False)
    assert len(seen) == 2
    np.testing.assert_allclose(seen, [[low, high]] * 2, rtol=1e-6)


def test_input_noise_depends_on_the_event_and_not_on_the_rank_and_ends_with_the_training() -> None:
    masks = Masks(0.0)
    noise = DiscriminatorView(CellScale("gev", 1.0, (3, 3, 3)), 0.5, masks, name="view")
    values = tf.zeros((4, 3, 3, 3, 1))
    where = tf.constant(0, tf.uint64)
    with masks.drawn(Draws(1, 0, 4, where), "real"):
        together = noise(values, training=True).numpy()
        np.testing.assert_array_equal(noise(values, training=False), values)
    parts = []
    for rank in (0, 1):
        with masks.drawn(Draws(1, 2 * rank, 2, where), "real"):
            parts.append(noise(values[:2], training=True).numpy())
    np.testing.assert_array_equal(np.concatenate(parts), together)
    # 108 numbers: their standard deviation is within 4 sigma = 4 x 0.5 / sqrt(216) of 0.5.
    assert abs(together.std() - 0.5) < 0.14
    np.testing.assert_array_equal(noise(values, training=True), values)
