"""Generated showers come from the checkpoint's weights, do not depend on batches, and errors of the user are clear."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from gan.data.energies import draw_energies
from gan.data.showers import open_showers
from gan.data.writing import write_showers
from gan.errors import InputError
from gan.generation.network import Showers, build_generator, read_generator
from gan.generation.production import HIGHEST_ENERGY, LOWEST_ENERGY, GenerationRequest, generate
from gan.models.conv3d import CONV3D
from gan.models.generator import ShowerGenerator
from gan.models.latent import ENERGY_UNIT
from gan.parallel import Alone
from gan.physics.formulas import geant4_ecal, sampling_fraction
from gan.run.checkpoint import Checkpoint, Checkpoints, snapshot
from gan.run.folder import RunFolder, find_checkpoint
from gan.settings import TrainingSettings
from gan.training.networks import Networks
from tests.support.environment import ROOT
from tests.support.rounding import FP64, assert_within, growth, perturbed

SETTINGS = TrainingSettings(filters="original", seed=4)
ENERGIES = np.array([20.0, 50.0, 110.0, 240.0, 480.0])


@pytest.fixture(scope="module")
def networks() -> Networks:
    """Networks as after a training: all weights of the generator, including BatchNorm's statistics, are different."""
    made = Networks(SETTINGS, Alone())
    draw = np.random.default_rng(2)
    for variable in made.generator.weights:
        value = variable.numpy()
        variable.assign(value * draw.uniform(0.8, 1.2, value.shape) + draw.uniform(0, 0.01, value.shape))
    return made


@pytest.fixture(scope="module")
def checkpoint(networks: Networks) -> Checkpoint:
    about = {"settings": SETTINGS.as_dict(), "versions": {}}
    return Checkpoint(epochs=3, arrays=snapshot(networks.groups()), distances=[0.4, 0.2, 0.3], about=about)


@pytest.fixture(scope="module")
def run(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    RunFolder(folder).checkpoints.save(checkpoint, best=False)
    return folder


def changed(checkpoint: Checkpoint, folder: Path, **arrays: np.ndarray) -> Path:
    """Return a checkpoint with some other arrays. They are given by name, with `_` for `/`."""
    given = {name.replace("_", "/"): array for name, array in arrays.items()}
    return Checkpoints(folder).save(replace(checkpoint, arrays={**checkpoint.arrays, **given}), best=False)


def read(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    with open_showers([folder / "*.h5"]) as showers:
        return showers.read(np.arange(showers.events))


def test_the_weights_are_those_of_the_checkpoint(networks: Networks, run: Path) -> None:
    generator = build_generator(read_generator(find_checkpoint(run)), "fp32")
    latent = np.random.default_rng(0).normal(size=(2, 200)).astype(np.float32)
    np.testing.assert_array_equal(generator.cells(latent), networks.generator(latent, training=False))


@pytest.mark.numeric
def test_which_showers_come_out_depends_on_neither_batch_nor_streams(run: Path) -> None:
    generator = build_generator(read_generator(find_checkpoint(run)), "fp32")
    whole, _ = Showers(generator, batch_size=5, seed=7).cells(0, ENERGIES)
    assert whole.shape == (5, 25, 25, 25)
    assert len(np.unique(whole.sum(axis=(1, 2, 3)))) == 5
    in_parts = Showers(generator, batch_size=2, seed=7, streams=2)
    spans = iter([(0, ENERGIES[:2]), (2, ENERGIES[2:4]), (4, ENERGIES[4:])])
    batches = list(in_parts.batches(spans))
    cells = np.concatenate(
        [np.frombuffer(zlib.decompress(event), "<f4") for batch in batches for event in batch.packed]
    )
    assert_within(cells.reshape(whole.shape), whole, 2 * effect_of_rounding(generator, whole))
    np.testing.assert_array_equal(np.concatenate([batch.energies for batch in batches]), ENERGIES)
    other, _ = Showers(generator, batch_size=5, seed=8).cells(0, ENERGIES)
    assert np.abs(other - whole).max() > 0.01 * whole.max()


def effect_of_rounding(generator: ShowerGenerator, whole: np.ndarray) -> np.ndarray:
    """Return the possible change of an event's cells by rounding, (n, 1, 1, 1): the largest of 2 x 15,625 changes.

    A tolerance per cell would be too small: a sum of products may cancel to nearly 0, but its rounding error does not.
    """
    weights = generator.network.get_weights()
    changes = []
    for seed in (1, 2):
        generator.network.set_weights(perturbed(weights, seed))
        changes.append(np.abs(Showers(generator, batch_size=5, seed=7).cells(0, ENERGIES)[0] - whole))
    generator.network.set_weights(weights)
    return np.max(changes, axis=(0, 2, 3, 4)).reshape(-1, 1, 1, 1)


@pytest.mark.numeric
def test_bf16_gives_nearly_the_same_showers(run: Path) -> None:
    """Each of 5 layers rounds its operands by up to 2^-9. In total this changes the showers by some percent."""
    weights = read_generator(find_checkpoint(run))
    exact, rounded = (
        Showers(build_generator(weights, precision), batch_size=2, seed=1).cells(0, ENERGIES[3:])[0]
        for precision in ("fp32", "bf16")
    )
    difference = np.abs(rounded - exact).sum() / exact.sum()
    assert 0 < difference < 0.1


def test_the_command_writes_files_that_tell_where_they_come_from(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "showers"
    command = [sys.executable, "-m", "gan", "generate", "--from", run, "--out", out, "--events", 7, "--seed", 3]
    done = subprocess.run(
        [*map(str, command), "--events-per-file", "5", "--batch-size", "3", "--threads", "2"],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    cells, energies = read(out)
    expected = draw_energies(7, seed=3, first_event=0, energy_min=10, energy_max=500)
    np.testing.assert_array_equal(energies, expected.astype(np.float32))
    for said in ("Wrote 7 events to 2 file(s)", "epoch-0003.npz (fp32)", "ms/shower"):
        assert said in done.stdout
    told = re.search(r"fraction ([0-9.]+), .* from Geant4's fit \(([0-9.]+)\)", done.stdout)
    assert told is not None
    # The command prints five digits after the point.
    assert float(told[1]) == pytest.approx(sampling_fraction(cells, expected).mean(), abs=5.1e-6)
    assert float(told[2]) == pytest.approx(np.mean(geant4_ecal(expected / 100) / expected), abs=5.1e-6)
    with h5py.File(out / "EleEscan_1_2.h5") as file:
        attributes = dict(file.attrs)
    assert (attributes["seed"], attributes["first_event"], attributes["precision"]) == (3, 5, "fp32")
    assert attributes["checkpoint"] == str(run / "checkpoints/epoch-0003.npz")
    assert (attributes["checkpoint_epochs"], len(attributes["weights_sha256"])) == (3, 64)
    assert json.loads(attributes["training"])["filters"] == "original"


def test_energies_come_from_a_file_in_its_order(run: Path, tmp_path: Path) -> None:
    text = tmp_path / "energies.txt"
    text.write_text("# GeV\n" + "\n".join(map(str, ENERGIES)))
    told: list[int] = []
    summary = generate(
        GenerationRequest(source=run, out=tmp_path / "text", energies_from=text, batch_size=4), told.append
    )
    assert (summary.events, told) == (5, [4, 1])
    assert summary.milliseconds_per_shower > 0
    cells, energies = read(tmp_path / "text")
    np.testing.assert_array_equal(energies, ENERGIES.astype(np.float32))
    # The sums of cells in float64 may be in another order.
    assert summary.sampling_fraction == pytest.approx(
        sampling_fraction(cells, ENERGIES).mean(), rel=2 * growth(25**3 + 5, FP64)
    )

    write_showers(tmp_path / "simulated.h5", cells, ENERGIES, {})
    generate(
        GenerationRequest(
            source=run, out=tmp_path / "hdf5", energies_from=tmp_path / "simulated.h5", events=4, batch_size=4
        )
    )
    again, energies = read(tmp_path / "hdf5")
    np.testing.assert_array_equal(again, cells[:4])


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        ("20\n30\n", {"events": 3}, "holds 2 energies; expected at least 3"),
        ("20\n0.02\n", {}, r"energy 1 \(from 0\) is 0.02; expected GeV, 1 to 1000"),
        ("twenty\n", {}, "cannot be read"),
        ("", {}, "holds 0 energies"),
    ],
)
@pytest.mark.filterwarnings("ignore:loadtxt")
def test_energies_that_cannot_be_used(run: Path, tmp_path: Path, content: str, options: Any, said: str) -> None:
    file = tmp_path / "energies.txt"
    file.write_text(content)
    with pytest.raises(InputError, match=said):
        generate(GenerationRequest(source=run, out=tmp_path / "out", energies_from=file, **options))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"events": 0}, "--events is 0"),
        ({"batch_size": 0}, "--batch-size is 0"),
        ({"seed": -1}, "--seed is -1"),
        ({"energy_min": 30, "energy_max": 20}, "minimum not above the maximum"),
        ({"energy_max": 5000}, "1 to 1000"),
    ],
)
def test_orders_that_make_no_sense(run: Path, tmp_path: Path, options: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        GenerationRequest(source=run, out=tmp_path, **options)


def test_the_best_checkpoint_is_taken_where_there_is_one(checkpoint: Checkpoint, run: Path, tmp_path: Path) -> None:
    saved = RunFolder(tmp_path).checkpoints
    saved.save(replace(checkpoint, epochs=1), best=False)
    saved.save(replace(checkpoint, epochs=1, steps=4), best=False)
    assert find_checkpoint(tmp_path).name == "epoch-0001.npz"
    saved.save(replace(checkpoint, epochs=2), best=True)
    saved.save(replace(checkpoint, epochs=3), best=False)
    assert find_checkpoint(tmp_path).name == "best.npz"
    assert find_checkpoint(saved.folder) == find_checkpoint(tmp_path)
    assert read_generator(find_checkpoint(tmp_path)).epochs == 2
    assert find_checkpoint(saved.folder / "epoch-0003.npz").name == "epoch-0003.npz"


def test_without_a_checkpoint_nothing_is_generated(tmp_path: Path) -> None:
    for source, said in ((tmp_path, "holds no checkpoint"), (tmp_path / "absent", "does not exist")):
        with pytest.raises(InputError, match=said):
            generate(GenerationRequest(source=source, out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_damaged_and_foreign_checkpoints(checkpoint: Checkpoint, run: Path, tmp_path: Path) -> None:
    whole = find_checkpoint(run).read_bytes()
    for content in (whole[: len(whole) // 2], b"no archive"):
        (tmp_path / "damaged.npz").write_bytes(content)
        with pytest.raises(InputError, match="not a checkpoint, or is damaged"):
            read_generator(tmp_path / "damaged.npz")
    settings = {**SETTINGS.as_dict(), "filters": "16"}
    wider = replace(checkpoint, about={"settings": settings})
    with pytest.raises(InputError, match="--filters 16"):
        build_generator(read_generator(Checkpoints(tmp_path).save(wider, best=False)), "fp32")
    other = replace(checkpoint, about={"settings": {**settings, "model": "angle"}})
    with pytest.raises(InputError, match="architecture 'angle'; expected one of conv3d"):
        build_generator(read_generator(Checkpoints(tmp_path).save(other, best=False)), "fp32")


def test_numbers_that_are_not_finite(checkpoint: Checkpoint, run: Path, tmp_path: Path) -> None:
    names = sorted(name for name in checkpoint.arrays if name.startswith("generator/"))
    last = names[-1].replace("/", "_")
    kernel = checkpoint.arrays[names[-1]]
    with pytest.raises(InputError, match=f"{names[-1]} holds numbers that are not finite"):
        read_generator(changed(checkpoint, tmp_path, **{last: np.full_like(kernel, np.nan)}))
    huge = changed(checkpoint, tmp_path, **{last: np.full_like(kernel, 3e38)})
    order = GenerationRequest(source=huge, out=tmp_path / "out", events=2, energy_min=500, batch_size=2)
    with pytest.raises(InputError, match="event 0 of 500 GeV has cells that are not finite"):
        generate(order)
    assert list(order.out.iterdir()) == []


def test_showers_that_are_there_stay(run: Path, tmp_path: Path) -> None:
    present = tmp_path / "EleEscan_1_9.h5"
    present.write_bytes(b"mine")
    with pytest.raises(InputError, match=r"EleEscan_1_9.h5 exists already \(1 such file "):
        generate(GenerationRequest(source=run, out=tmp_path, events=1))
    assert present.read_bytes() == b"mine"
    shutil.rmtree(tmp_path)
    tmp_path.write_text("a file")
    with pytest.raises(InputError, match="cannot be made"):
        generate(GenerationRequest(source=run, out=tmp_path / "out", events=1))


def test_the_command_line_is_light_and_knows_the_range_of_the_training() -> None:
    code = "import sys, gan.cli; print([m for m in ('tensorflow', 'keras') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert tuple(ENERGY_UNIT * limit for limit in CONV3D.latent.energies) == (LOWEST_ENERGY, HIGHEST_ENERGY)
