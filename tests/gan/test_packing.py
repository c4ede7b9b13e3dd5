"""Pack a generator into a small file, and generate from it and from the generators that ship."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gan.errors import InputError
from gan.generation.network import build_generator, read_generator
from gan.generation.packing import pack_generator
from gan.parallel import Alone, Worker
from gan.pretrained import FOLDER, pretrained_names
from gan.run.checkpoint import Checkpoints
from gan.run.folder import RunFolder, find_checkpoint
from gan.settings import TrainingSettings
from gan.training.networks import Networks
from gan.training.state import Progress, State
from scaling.records import read_run

HALF = 2.0**-11
"""Unit roundoff of half precision."""
MEGABYTES = 5


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a training whose networks have their first weights."""
    folder = tmp_path_factory.mktemp("run")
    settings = TrainingSettings.of(filters="original", batch_size=2)
    networks = Networks(settings, Alone())
    networks.calibrate(0)
    progress = Progress()
    progress.finish_epoch(0.5)
    State(networks, Checkpoints(folder / "checkpoints"), settings, Worker(host="here"), Alone()).save(progress)
    return folder


def test_packed_generator_has_rounded_kernels_and_all_else_unchanged(run: Path, tmp_path: Path) -> None:
    packed = pack_generator(run, tmp_path / "new" / "generator.npz")
    whole = read_generator(find_checkpoint(run))
    assert packed.epochs == 1
    assert packed.settings == whole.settings
    for small, array in zip((*packed.arrays, *packed.units), (*whole.arrays, *whole.units), strict=True):
        assert small.dtype == np.float32
        if array.ndim in (0, 1, 4):
            np.testing.assert_array_equal(small, array)
        else:
            # Below the smallest normal number of half precision, 2^-14, the spacing is 2^-24.
            np.testing.assert_allclose(small, array, rtol=HALF, atol=2.0**-25)
    size, before = packed.path.stat().st_size, find_checkpoint(run).stat().st_size
    assert size < before / 6  # of 5 arrays of each weight, two optimizer states included, one stays, with 2 of 4 bytes
    latent = np.random.default_rng(0).normal(size=(2, 200)).astype(np.float32)
    cells = [
        build_generator(weights, "fp32").cells(latent).numpy().sum(axis=(1, 2, 3, 4)) for weights in (packed, whole)
    ]
    # The visible energy is bounded to the fit by a factor of e^0.2, and a rounding error of a kernel changes it little.
    np.testing.assert_allclose(cells[0], cells[1], rtol=0.02)


def test_existing_file_is_kept_without_overwrite(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "generator.npz"
    out.write_text("precious")
    with pytest.raises(InputError, match="exists; expected a new file"):
        pack_generator(run, out)
    assert out.read_text() == "precious"
    pack_generator(run, out, overwrite=True)
    assert read_generator(out).epochs == 1


def test_weight_beyond_half_precision_is_refused(run: Path, tmp_path: Path) -> None:
    checkpoints = RunFolder(run).checkpoints
    latest = checkpoints.latest()
    assert latest is not None
    name = next(name for name in latest.arrays if name.startswith("averaged_generator/"))
    latest.arrays[name][0, 0] = 1e6
    changed = Checkpoints(tmp_path).save(latest, best=False)
    with pytest.raises(InputError, match=r"holds a weight of 1e\+06; expected at most 65504"):
        pack_generator(changed, tmp_path / "generator.npz")


def test_unknown_name_of_a_pretrained_generator_is_an_error() -> None:
    with pytest.raises(InputError, match="--from is pretrained:nothing; expected "):
        find_checkpoint(Path("pretrained:nothing"))


@pytest.mark.parametrize("name", pretrained_names())
def test_generators_that_ship_are_small_and_documented(name: str) -> None:
    weights = read_generator(find_checkpoint(Path(f"pretrained:{name}")))
    assert weights.architecture.name == name
    assert weights.path.stat().st_size <= MEGABYTES * 1e6
    record = read_run(FOLDER / name)
    assert record.header.settings["model"] == name
    assert json.loads((FOLDER / name / "evaluation.json").read_text())
    assert (FOLDER / name / "evaluation.md").is_file()


@pytest.mark.parametrize("name", pretrained_names())
def test_generators_that_ship_make_showers(name: str) -> None:
    """The visible energy is within the bound of the recipe around the fit, and the showers differ."""
    generator = build_generator(read_generator(find_checkpoint(Path(f"pretrained:{name}"))), "fp32")
    energies = np.full((4, 1), 2.0, np.float32)
    noise = np.random.default_rng(0).normal(size=(4, 200)).astype(np.float32)
    cells = generator.cells(generator.input(noise, energies)).numpy()[..., 0]
    hits = (cells > 3e-4).sum(axis=(1, 2, 3))
    assert (hits > 300).all()  # simulated showers of 200 GeV have 800
    assert (hits < 2000).all()
    assert len({float(each) for each in cells.sum(axis=(1, 2, 3))}) == 4
