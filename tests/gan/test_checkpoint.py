"""Checkpoints are complete or do not exist, and damage is detected."""

from __future__ import annotations

import os
from pathlib import Path

import keras
import numpy as np
import pytest

from gan.errors import InputError
from gan.run.checkpoint import Checkpoint, Checkpoints, read_checkpoint, restore, snapshot


def checkpoint(epochs: int, value: float = 0.0) -> Checkpoint:
    return Checkpoint(
        epochs=epochs,
        arrays={"generator/000": np.full((2, 3), value, "float32")},
        distances=[1.0, value],
    )


def test_round_trip(tmp_path: Path) -> None:
    folder = Checkpoints(tmp_path)
    assert folder.latest() is None
    folder.save(checkpoint(2, 0.5), best=True)
    read = folder.latest()
    assert read is not None
    assert (read.epochs, read.distances) == (2, [1.0, 0.5])
    np.testing.assert_array_equal(read.arrays["generator/000"], checkpoint(2, 0.5).arrays["generator/000"])


def test_keeps_the_last_few_and_the_best(tmp_path: Path) -> None:
    folder = Checkpoints(tmp_path, keep=2)
    for epoch in range(1, 6):
        folder.save(checkpoint(epoch), best=epoch == 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "best.npz",
        "epoch-0004.npz",
        "epoch-0005.npz",
    ]
    assert read_checkpoint(tmp_path / "best.npz").epochs == 2


@pytest.mark.parametrize("keep_bytes", [0, 10, 200])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    tmp_path: Path, keep_bytes: int, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Checkpoints(tmp_path)
    folder.save(checkpoint(1), best=False)
    newest = folder.save(checkpoint(2), best=False)
    newest.write_bytes(newest.read_bytes()[:keep_bytes])
    latest = folder.latest()
    assert latest is not None
    assert latest.epochs == 1
    assert "epoch-0002.npz" in caplog.text


@pytest.mark.parametrize("place", [-1, -40, -100, -200, -400])
def test_a_flipped_bit_near_the_directory_leads_to_the_checkpoint_before(tmp_path: Path, place: int) -> None:
    """There, NumPy would lose arrays or fail in another way. The directory of the archive is at its end."""
    folder = Checkpoints(tmp_path)
    folder.save(checkpoint(1), best=False)
    newest = folder.save(checkpoint(2), best=False)
    content = bytearray(newest.read_bytes())
    content[place] ^= 32
    newest.write_bytes(content)
    latest = folder.latest()
    assert latest is not None
    assert latest.epochs == 1


def test_a_folder_that_refuses_is_a_clear_error_and_harms_nothing(tmp_path: Path) -> None:
    folder = Checkpoints(tmp_path)
    folder.save(checkpoint(1), best=False)
    (tmp_path / f".epoch-0002.npz.{os.getpid()}.part").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        folder.save(checkpoint(2), best=False)
    latest = folder.latest()
    assert latest is not None
    assert latest.epochs == 1


def test_flipped_bits_are_seen(tmp_path: Path) -> None:
    path = Checkpoints(tmp_path).save(checkpoint(1, 3.0), best=False)
    content = bytearray(path.read_bytes())
    where = content.find(np.float32(3.0).tobytes() * 2)
    assert where > 0
    content[where] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a checkpoint, or is damaged"):
        read_checkpoint(path)


def test_restore_refuses_other_variables() -> None:
    right, other = keras.Variable(np.zeros((2, 3))), keras.Variable(np.zeros((4,)))
    restore({"generator": [right]}, checkpoint(1, 7.0))
    assert np.all(right.numpy() == 7.0)
    assert list(snapshot({"generator": [right]})) == ["generator/000"]
    with pytest.raises(InputError, match="other settings"):
        restore({"generator": [other]}, checkpoint(1))
    with pytest.raises(InputError, match="is missing"):
        restore({"generator": [right, right]}, checkpoint(1))


def test_another_file_is_not_taken_for_a_pickle(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("learning rate 0.001")
    with pytest.raises(
        InputError, match=r"is not a checkpoint, or is damaged \(it is not a NumPy archive, or its end is missing\)"
    ):
        read_checkpoint(tmp_path / "notes.txt")
