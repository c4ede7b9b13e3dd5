"""Checkpoints are complete or do not exist, and damage is detected."""

from __future__ import annotations

import json
import os
import resource
import signal
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
    assert (read.epochs, read.distances) == (2, (1.0, 0.5))
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


@pytest.mark.parametrize("place", range(0, 46, 5))
def test_an_old_checkpoint_loses_no_array_in_silence(tmp_path: Path, place: int) -> None:
    """Old files have no digest. zipfile ends the list of arrays at an entry whose mark is wrong."""
    path = tmp_path / "epoch-0001.npz"
    about = np.array(json.dumps({"epochs": 1}))
    np.savez(path, about=about, **dict(checkpoint(1).arrays))  # type: ignore[arg-type]
    assert read_checkpoint(path).epochs == 1
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\x01\x02") + place] ^= 8
    path.write_bytes(content)
    try:
        read = read_checkpoint(path)
    except InputError:
        return
    assert list(read.arrays) == list(checkpoint(1).arrays)


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ("[" * 100_000, "recursion|nested"),
        ("[]", "not an object"),
        ("{}", "lacks epochs"),
        ('{"epochs": -1}', "negative"),
        ('{"epochs": "1"}', "epochs is '1'; expected a whole number"),
        ('{"epochs": 1, "about": []}', "about is a list; expected an object"),
        ('{"epochs": 1, "losses": 3}', "losses is 3; expected a list"),
        ('{"epochs": 1, "record": {}}', "record is an object; expected a text"),
    ],
)
def test_a_wrong_description_is_one_error(tmp_path: Path, about: str, message: str) -> None:
    np.savez(tmp_path / "a.npz", about=np.array(about), **dict(checkpoint(1).arrays))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=message):
        read_checkpoint(tmp_path / "a.npz")


@pytest.mark.parametrize("kind", ["U0", "V0", "V4", "M8[s]"])
def test_arrays_of_other_types_are_refused(tmp_path: Path, kind: str) -> None:
    arrays = {"about": np.array('{"epochs": 1}'), "generator/000": np.zeros(3, kind)}
    np.savez(tmp_path / "a.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"generator/000.*; expected numbers"):
        read_checkpoint(tmp_path / "a.npz")


def test_a_full_disk_leaves_no_part_of_a_file(tmp_path: Path) -> None:
    """The kernel counts the buffered bytes when they are written, that is at the end of the block."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limit[1]))
    try:
        with pytest.raises(InputError, match="cannot be written"):
            Checkpoints(tmp_path).save(checkpoint(1), best=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert not list(tmp_path.iterdir())


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
