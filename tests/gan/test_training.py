"""A training on one rank: record, checkpoints, resuming, and the stop if a loss is not a number."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tensorflow as tf

from gan.data.showers import open_showers
from gan.data.writing import write_showers
from gan.errors import GeneratorDead, InputError, TrainingDiverged
from gan.parallel import Alone, Worker
from gan.run.checkpoint import read_checkpoint
from gan.run.folder import RunFolder
from gan.settings import TrainingSettings
from gan.training import alarms, loop
from gan.training.loop import Training
from gan.training.state import Progress, State
from scaling.records import read_run

SMALL = {"filters": "original", "batch_size": 4, "validation_fraction": 0.25, "warmup_epochs": 1}


def train(files: Path, out: Path, *, tensorboard: bool = False, **changes: Any) -> None:
    settings = TrainingSettings(**{**SMALL, **changes})
    folder = RunFolder(out)
    with open_showers([str(files / "*.h5")]) as showers:
        described = showers.described()
        folder.prepare(settings, described, resume=True)
        Training(settings, showers, folder, Worker(host="here"), Alone(), tensorboard=tensorboard).run()


@pytest.fixture(scope="module")
def run(shower_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training")
    (folder / "temporary").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder / "temporary"))
        train(shower_files, folder / "run", epochs=1, tensorboard=True)
        train(shower_files, folder / "run", epochs=2)
    return folder / "run"


def test_nothing_is_left_where_a_killed_rank_could_not_remove_it(run: Path) -> None:
    assert not list((run.parent / "temporary").iterdir())


def test_record_tells_the_whole_run(run: Path) -> None:
    record = read_run(run)
    assert record.complete
    assert record.parts == 2
    header = record.header
    assert (header.workers, header.train_events, header.validation_events) == (1, 18, 6)
    assert header.resumed_epochs == 1
    assert header.parameters == {"generator": 872_948, "discriminator": 73_450}
    assert [file["events"] for file in header.files] == [9, 15]
    assert [epoch.epoch for epoch in record.epochs] == [1, 2]
    for epoch in record.epochs:
        assert (epoch.steps, epoch.events) == (4, 16)
        assert set(epoch.losses) == {"discriminator_real", "discriminator_fake", "generator_1", "generator_2"}
        assert all(np.isfinite(list(epoch.losses.values())))
        assert 0 < epoch.step_seconds.median <= epoch.step_seconds.p95 <= epoch.step_seconds.max
        assert epoch.seconds >= epoch.step_seconds.max
        assert 0 <= epoch.input_seconds < epoch.seconds
        assert set(epoch.validation) >= {
            *("generator", "discriminator_fake", "judged_real", "judged_fake", "variety", "shower_distance"),
            *("sampling_fraction_error", "active_cells", "hits", "profile_l1_z", "moment_error"),
        }
        assert all(np.isfinite(list(epoch.validation.values())))


def test_checkpoints_and_log_are_there(run: Path) -> None:
    newest = read_checkpoint(run / "checkpoints" / "epoch-0002.npz")
    assert newest.epochs == 2
    assert {name.split("/")[0] for name in newest.arrays} == {
        "generator", "discriminator", "generator_optimizer", "discriminator_optimizer",
    }  # fmt: skip
    best = read_checkpoint(run / "checkpoints" / "best.npz")
    assert best.distances[-1] == min(newest.distances)
    text = (run / "train.log").read_text()
    assert "Continuing after 1 complete epoch" in text
    assert "epoch 2/2" in text
    assert "validation: shower distance 0." in text or "validation: shower distance 1.000" in text


def test_tensorboard_gets_the_losses(run: Path) -> None:
    events = list((run / "tensorboard").glob("events.out.tfevents.*"))
    assert len(events) == 1
    content = b"".join(bytes(record.numpy()) for record in tf.data.TFRecordDataset(str(events[0])))
    for name in (
        b"discriminator_real",
        b"generator_1",
        b"held_out/shower_distance",
        b"held_out/sampling_fraction_error/108-206",
        b"events_per_second",
    ):
        assert name in content


def test_training_changes_both_networks(run: Path) -> None:
    first, second = (read_checkpoint(run / "checkpoints" / f"epoch-000{n}.npz") for n in (1, 2))
    for group in ("generator", "discriminator"):
        assert not np.array_equal(first.arrays[f"{group}/000"], second.arrays[f"{group}/000"])


def test_a_complete_run_is_left_as_it_is(run: Path, shower_files: Path) -> None:
    before = (run / "run.jsonl").read_bytes()
    train(shower_files, run, epochs=2)
    assert (run / "run.jsonl").read_bytes() == before


@pytest.mark.parametrize("changes", [{"seed": 9}, {"filters": "16"}, {"precision": "bf16"}, {"optimizer": "adam"}])
def test_folder_of_another_run_is_refused(run: Path, shower_files: Path, changes: dict[str, Any]) -> None:
    name = next(iter(changes))
    with pytest.raises(InputError, match=f"belongs to another run: --{name} was"):
        train(shower_files, run, epochs=2, **changes)


def test_no_resume_sets_the_earlier_run_aside(run: Path, shower_files: Path, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    (tmp_path / "run.jsonl").write_bytes((run / "run.jsonl").read_bytes())
    folder.prepare(TrainingSettings(), [], resume=False)
    assert not folder.record.exists()
    assert [path.name for path in tmp_path.glob("earlier-*/*")] == ["run.jsonl"]


@pytest.mark.parametrize("half", ["", '{"record": "epo'])
def test_a_record_that_a_kill_lost_is_written_from_the_checkpoint(
    run: Path, shower_files: Path, tmp_path: Path, half: str
) -> None:
    """The kill comes between the checkpoint of epoch 2 and its line, or within the line."""
    shutil.copytree(run, tmp_path / "run")
    record = tmp_path / "run" / "run.jsonl"
    lines = record.read_text().splitlines(keepends=True)
    assert ['"record": "header"' in line for line in lines] == [True, False, False, True, False, False]
    record.write_text("".join(lines[:4]) + half)
    train(shower_files, tmp_path / "run", epochs=2)
    before, after = read_run(run), read_run(tmp_path / "run")
    assert after.complete
    assert list(after.epochs) == [before.epochs[0], replace(before.epochs[1], checkpoint_seconds=0.0)]
    assert "before it wrote the record of epoch 2" in (tmp_path / "run" / "train.log").read_text()
    train(shower_files, tmp_path / "run", epochs=2)
    assert record.read_text().count('"record": "epoch"') == 2


def test_a_run_folder_that_goes_away_is_an_error(
    shower_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a checkpoint nor a record may claim that the run is complete."""
    out = tmp_path / "run"
    monkeypatch.setattr(loop, "verify_equal", lambda *_: shutil.rmtree(out, ignore_errors=True))
    with pytest.raises(InputError, match=r"(checkpoint|record) .* cannot be written"):
        train(shower_files, out, epochs=1)
    assert not out.exists()


def test_a_record_that_goes_away_is_an_error(
    shower_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The advice is true: with the file back the training continues, and without it only a new one is possible."""
    out = tmp_path / "run"
    monkeypatch.setattr(loop, "verify_equal", lambda *_: (out / "run.jsonl").rename(tmp_path / "kept"))
    with pytest.raises(InputError, match=r"the record .* is gone .* Put it back and give the same command again"):
        train(shower_files, out, epochs=1)
    monkeypatch.undo()
    with pytest.raises(InputError, match="--no-resume"):
        train(shower_files, out, epochs=1)
    (tmp_path / "kept").rename(out / "run.jsonl")
    train(shower_files, out, epochs=1)
    assert read_run(out).complete


def test_other_data_of_the_same_name_and_size_are_refused(run: Path, shower_files: Path, tmp_path: Path) -> None:
    files = tmp_path / "files"
    shutil.copytree(shower_files, files)
    shutil.copytree(run, tmp_path / "run")
    changed = min(files.glob("*.h5"))
    with h5py.File(changed, "r+") as file:
        file["target"][3, 1] += 1
    with pytest.raises(InputError, match=f"belongs to another run: {changed.name} held other events"):
        train(files, tmp_path / "run", epochs=3)


@pytest.mark.parametrize("rows", ['[{"path": "a"}]', '[{"path": "a", "events": "many"}]', "[3]"])
def test_a_record_with_other_files_is_an_error(run: Path, shower_files: Path, tmp_path: Path, rows: str) -> None:
    record = tmp_path / "run.jsonl"
    header = json.loads((run / "run.jsonl").read_text().splitlines()[0])
    record.write_text(json.dumps({**header, "files": json.loads(rows)}) + "\n")
    with pytest.raises(InputError, match="--no-resume"):
        train(shower_files, tmp_path, epochs=1)


@pytest.mark.parametrize("name", ["run.jsonl", "train.log", "logs", "checkpoints"])
def test_a_link_in_the_folder_is_an_error_and_is_not_followed(tmp_path: Path, name: str) -> None:
    elsewhere, out = tmp_path / "elsewhere", tmp_path / "out"
    elsewhere.mkdir()
    out.mkdir()
    (out / name).symlink_to(elsewhere / "new")
    with pytest.raises(InputError, match=f"holds a symbolic link {name}; expected"):
        RunFolder(out).make()
    assert not list(elsewhere.iterdir())


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_record(tmp_path: Path) -> None:
    cells = np.full((4, 25, 25, 25), 1e38, "float32")
    write_showers(tmp_path / "EleEscan_1_0.h5", cells, np.full(4, 100.0, "float32"), {})
    out = tmp_path / "run"
    with pytest.raises(TrainingDiverged, match=r"epoch 1, step 1: the loss \w+ .* expected a finite number"):
        train(tmp_path, out, epochs=1, batch_size=2, validation_fraction=0)
    record = read_run(out)
    assert record.end is not None
    assert record.end.status == "failed"
    assert "TrainingDiverged" in record.end.message
    assert not (out / "checkpoints").exists()


@pytest.mark.slow
def test_a_generator_without_output_ends_the_run_and_the_last_good_checkpoint_is_named(
    run: Path, shower_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The generator has output in epoch 1 and loses its last kernel before epoch 2."""
    monkeypatch.setattr(alarms, "FEWEST_SILENT", 3)
    train(shower_files, tmp_path, epochs=1)
    resume = State.resume

    def resume_and_kill(self: State, steps: int) -> Progress:
        progress = resume(self, steps)
        (kernel,) = self._networks.generator.get_layer("conv4").weights
        kernel.assign(0 * kernel)
        return progress

    monkeypatch.setattr(State, "resume", resume_and_kill)
    with pytest.raises(
        GeneratorDead, match=r"no output in the last 4 steps, up to the end of epoch 2;.*epoch 1\."
    ) as error:
        train(shower_files, tmp_path, epochs=3)
    assert error.value.agreed
    assert str(tmp_path / "checkpoints" / "best.npz") in str(error.value)
    record = read_run(tmp_path)
    assert record.end is not None
    assert record.end.status == "failed"
    assert [epoch.validation["shower_distance"] == 1 for epoch in record.epochs] == [False, True]
    assert read_checkpoint(tmp_path / "checkpoints" / "best.npz").epochs == 1

    train(shower_files, tmp_path, epochs=3, stop_when_dead=False)
    assert read_run(tmp_path).complete


def test_checkpoints_with_the_figure_of_older_versions_continue(run: Path, shower_files: Path, tmp_path: Path) -> None:
    """Older versions stored a profile error for each epoch, which cannot be compared with a shower distance."""
    checkpoint = run / "checkpoints" / "epoch-0001.npz"
    with np.load(checkpoint) as archive:
        arrays = {name: archive[name] for name in archive.files}
    about = json.loads(str(arrays["about"]))
    about["validation_errors"] = [0.001 for _ in about.pop("distances")]
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    np.savez(folder / checkpoint.name, **{**arrays, "about": np.array(json.dumps(about))})
    lines = (run / "run.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "run.jsonl").write_text("".join(lines[:2]))
    train(shower_files, tmp_path, epochs=2)
    assert np.isnan(read_checkpoint(folder / "epoch-0002.npz").distances[0])
    assert read_checkpoint(folder / "best.npz").epochs == 2
