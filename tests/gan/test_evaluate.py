"""`python -m gan evaluate` from files and checkpoints to the report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from gan.cli import main
from gan.data.writing import write_showers
from gan.evaluation.cli import _labels
from gan.evaluation.report import SCHEMA
from gan.parallel import Alone
from gan.run.checkpoint import Checkpoint, snapshot
from gan.run.folder import RunFolder
from gan.settings import TrainingSettings
from gan.simulation.gflash import simulate

EVENTS = 120
ENERGIES = np.linspace(20.0, 480.0, EVENTS, dtype=np.float32)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a reference, another simulation of the same energies, and one that is a fifth too bright."""
    folder = tmp_path_factory.mktemp("evaluate")
    write_showers(folder / "reference.h5", simulate(ENERGIES, seed=1), ENERGIES, {})
    cells = simulate(ENERGIES, seed=2)
    write_showers(folder / "same.h5", cells, ENERGIES, {})
    write_showers(folder / "bright.h5", 1.2 * cells, ENERGIES, {})
    return folder


def evaluate(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["evaluate", *map(str, arguments)])


@pytest.mark.slow
def test_files_side_by_side(files: Path, tmp_path: Path) -> None:
    done = evaluate(
        "--from", files / "same.h5", "--from", files / "bright.h5", "--reference", files / "reference.h5",
        "--training", files / "same.h5", "--no-classifier", "--out", tmp_path,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "sampling fraction error" in done.output
    assert "The reference has 120 events. Below 500" in done.output
    table = pd.read_csv(tmp_path / "evaluation.csv")
    whole = table[table["bin"] == "all"].set_index(["sample", "figure"])
    fraction = "Wasserstein, sampling_fraction"
    assert whole.loc[("same.h5", fraction), "ratio"] < 3
    assert whole.loc[("bright.h5", fraction), "ratio"] > 5
    assert whole.loc[("same.h5", "memorisation"), "value"] == 0, "it is the training set"
    content = json.loads((tmp_path / "evaluation.json").read_text())
    assert content["schema"] == SCHEMA
    assert [sample["name"] for sample in content["samples"]] == ["same.h5", "bright.h5"]
    assert len(content["figures"]) == len(table)
    page = (tmp_path / "evaluation.html").read_text()
    assert page.count('class="plotly-graph-div"') == len(list(tmp_path.glob("*.png")))
    assert "default-src 'none'" in page
    assert len(list(tmp_path.glob("*.svg"))) == len(list(tmp_path.glob("*.png"))) > 20


@pytest.mark.slow
def test_a_network_generates_for_the_energies_of_the_reference(files: Path, tmp_path: Path) -> None:
    from gan.training.networks import Networks

    settings = TrainingSettings(filters="original")
    networks = Networks(settings, Alone())
    checkpoint = Checkpoint(epochs=1, arrays=snapshot(networks.groups()), about={"settings": settings.as_dict()})
    folder = RunFolder(tmp_path / "run")
    folder.make()
    folder.checkpoints.save(checkpoint, best=True)
    done = evaluate("--from", tmp_path / "run", "--reference", files / "reference.h5", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    content = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert content["samples"][0]["events"] == EVENTS
    assert content["samples"][0]["source"].endswith("best.npz (fp32)")
    ratios = {row["figure"]: row["ratio"] for row in content["figures"] if row["bin"] == "all"}
    assert ratios["sampling fraction error"] > 100, "an untrained network is 2,000 times too bright"


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (["--from", "none.h5"], "none.h5"),
        (["--from", "no-such-run"], "does not exist"),
        (["--from", "far.h5"], "Give a --reference with the same energies"),
        (["--from", "same.h5", "--name", "a", "--name", "b"], "2 --name and 1 --from"),
    ],
)
def test_bad_input_is_one_error(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sources: list[str], message: str
) -> None:
    monkeypatch.chdir(files)
    far = np.linspace(600.0, 900.0, 40, dtype=np.float32)
    write_showers(files / "far.h5", simulate(far, seed=3), far, {})
    done = evaluate(*sources, "--reference", "reference.h5", "--no-classifier", "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert message in done.output.replace("\n", " ")
    assert "Traceback" not in done.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("sources", "labels"),
    [
        (("runs/a", "runs/b"), ["a", "b"]),
        (("a/run", "b/run"), ["a/run", "b/run"]),
        (("generated/*.h5",), ["generated/*.h5"]),
        (("*.h5",), ["*.h5"]),
        (("run", "run"), ["1: run", "2: run"]),
    ],
)
def test_labels_are_short_and_different(sources: tuple[str, ...], labels: list[str]) -> None:
    assert _labels(sources) == labels
