"""Files with large chunks are copied once per node, by the first worker that reaches them, and give the same events."""

from __future__ import annotations

import shutil
import tempfile
import threading
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from gan.cli import main
from gan.data.layout import SHAPE
from gan.data.reading import Places
from gan.data.repacking import repack_file
from gan.data.showers import ShowerSet, open_showers
from gan.data.writing import write_showers
from gan.errors import InputError
from tests.support.sample_showers import random_showers, target_of, write_raw

CELLS, ENERGIES = random_showers(24)
LARGE = {"chunks": (6, 5, 25, 25), "compression": "gzip"}


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder for temporary files of a node."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Glob of four files: one file with one event per chunk, and three files with large chunks."""
    write_showers(tmp_path / "0.h5", CELLS[:6], ENERGIES[:6], {})
    for number in (1, 2, 3):
        own = slice(6 * number, 6 * number + 6)
        write_raw(tmp_path / f"{number}.h5", CELLS[own].astype(np.float64), target_of(ENERGIES[own]), **LARGE)
    return tmp_path / "*.h5"


def copies(node: Path) -> list[Path]:
    return sorted(node.glob("*/*.h5"))


class Made(NamedTuple):
    """One copy and its source."""

    source: Path
    copy: Path


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Made]:
    """The copies that workers made, in order."""
    calls: list[Made] = []

    def noting(source: Path, target: Path) -> int:
        calls.append(Made(source, target))
        return repack_file(source, target)

    monkeypatch.setattr("gan.data.unpacking.repack_file", noting)
    return calls


def test_a_repacked_file_has_one_event_per_chunk_and_the_same_events(tmp_path: Path) -> None:
    source = write_raw(tmp_path / "a.h5", CELLS.astype(np.float64), target_of(ENERGIES) * [-1, 1], **LARGE)
    with h5py.File(source, "a") as file:
        file.attrs["seed"] = 7
    reported: list[int] = []
    assert repack_file(source, tmp_path / "b.h5", reported.append) == sum(reported) == 24
    with h5py.File(tmp_path / "b.h5") as file:
        assert Places.of(file["ECAL"]) is not None
        np.testing.assert_array_equal(file["ECAL"][:], CELLS)
        np.testing.assert_array_equal(file["target"][:], target_of(ENERGIES) * [-1, 1])
        assert file.attrs["seed"] == 7


@pytest.mark.parametrize("at_once", [1, 4, 7, 13, 512])
def test_pieces_hold_whole_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr("gan.data.repacking.EVENTS_AT_ONCE", at_once)
    source = write_raw(tmp_path / "a.h5", CELLS[:20], target_of(ENERGIES[:20]), **LARGE)
    reported: list[int] = []
    repack_file(source, tmp_path / "b.h5", reported.append)
    assert all(events % 6 == 0 for events in reported[:-1])
    with open_showers([tmp_path / "b.h5"]) as showers:
        np.testing.assert_array_equal(showers.read(range(20))[0], CELLS[:20])


def test_large_chunks_are_read_from_copies_that_are_removed_at_the_end(
    node: Path, files: Path, made: list[Made]
) -> None:
    messages: list[str] = []
    with open_showers([files]) as showers:
        showers.prepare(messages.append)
        assert [made.source.name for made in made] == ["1.h5", "2.h5", "3.h5"]
        assert copies(node) == sorted(each.copy for each in made)
        for each in made:
            each.source.write_bytes(b"the copy is read instead")
        np.testing.assert_array_equal(showers.read(range(24))[0], CELLS)
        np.testing.assert_array_equal(showers.energies(), ENERGIES)
        showers.prepare(messages.append)
        assert len(made) == 3
    assert not copies(node)
    assert len(messages) == 1
    assert "3 of 4 data files have compressed or divided chunks of up to 6 events" in messages[0]
    assert "Unpacking 18 events" in messages[0]
    assert "python -m gan repack" in messages[0]


def test_files_with_small_chunks_are_left_alone(node: Path, tmp_path: Path) -> None:
    write_raw(tmp_path / "a.h5", CELLS, target_of(ENERGIES), chunks=(4, *SHAPE), compression="gzip")
    with open_showers([tmp_path / "a.h5"]) as showers:
        showers.prepare(pytest.fail)
        np.testing.assert_array_equal(showers.read([9])[0][0], CELLS[9])
    assert not list(node.iterdir())


def test_workers_of_a_node_share_the_work_and_the_last_one_removes_the_copies(
    node: Path, files: Path, made: list[Made]
) -> None:
    workers = [open_showers([files]) for _ in range(3)]
    threads = [threading.Thread(target=worker.prepare) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(each.source.name for each in made) == ["1.h5", "2.h5", "3.h5"]
    for worker in workers:
        np.testing.assert_array_equal(worker.read(range(24))[0], CELLS)
        assert len(copies(node)) == 3
        worker.close()
    assert not copies(node)
    late = open_showers([files])
    late.prepare()
    np.testing.assert_array_equal(late.read(range(24))[0], CELLS)
    late.close()


def test_copies_of_a_killed_run_are_used_and_incomplete_ones_made_again(
    node: Path, files: Path, made: list[Made]
) -> None:
    killed = open_showers([files])
    killed.prepare()
    made[0].copy.rename(made[0].copy.with_name(f".{made[0].copy.name}.part"))
    made.clear()
    with open_showers([files]) as showers:
        showers.prepare()
        assert [each.source.name for each in made] == ["1.h5"]
        np.testing.assert_array_equal(showers.read(range(24))[0], CELLS)
        killed.close()
    assert not list(node.glob("*/*.h5*"))


def test_a_file_that_has_changed_gets_a_new_copy(node: Path, files: Path) -> None:
    first = open_showers([files])
    first.prepare()
    write_raw(files.parent / "2.h5", CELLS[:6], target_of(ENERGIES[:6]), **LARGE)
    with open_showers([files]) as showers:
        showers.prepare()
        np.testing.assert_array_equal(showers.read([12])[0][0], CELLS[0])
        np.testing.assert_array_equal(first.read([12])[0][0], CELLS[12])
    first.close()


def read_slowly(files: Path) -> tuple[ShowerSet, str]:
    """Read all files in a case without copies, and return the messages to the user."""
    messages: list[str] = []
    showers = open_showers([files])
    showers.prepare(messages.append)
    np.testing.assert_array_equal(showers.read(range(24))[0], CELLS)
    showers.close()
    return showers, "\n".join(messages)


def test_without_room_for_copies_the_files_are_read_as_they_are(
    node: Path, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = shutil.disk_usage(node)._replace(free=90_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: room)
    _, messages = read_slowly(files)
    assert "Only 0 of 3 files were unpacked" in messages
    assert "reading will be slow" in messages
    assert not copies(node)


def test_without_a_place_for_copies_the_files_are_read_as_they_are(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/proc")
    _, messages = read_slowly(files)
    assert "There is no place for unpacked copies" in messages
    assert "python -m gan repack" in messages


def test_a_copy_that_cannot_be_written_does_not_stop_the_read(
    node: Path, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk becomes full during the copy."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    _, messages = read_slowly(files)
    assert "No space left on device" in messages
    assert not list(node.glob("*/*.h5*"))


def test_a_damaged_event_is_named_by_its_own_file_and_number(node: Path, tmp_path: Path) -> None:
    cells = CELLS.copy()
    cells[7, 1, 2, 3] = np.nan
    write_raw(tmp_path / "a.h5", cells, target_of(ENERGIES), **LARGE)
    with open_showers([tmp_path / "a.h5"]) as showers:
        showers.prepare()
        with pytest.raises(InputError, match=r"/a\.h5: event 7 \(from 0\) has cells that are not finite"):
            showers.read([6, 7])


def test_a_damaged_chunk_is_an_input_error_that_names_its_file(node: Path, tmp_path: Path) -> None:
    path = write_raw(tmp_path / "a.h5", CELLS, target_of(ENERGIES), **LARGE)
    with h5py.File(path) as file:
        place = file["ECAL"].id.get_chunk_info_by_coord((6, 5, 0, 0)).byte_offset
    with path.open("r+b") as raw:
        raw.seek(place + 50)
        raw.write(b"\xa5" * 200)
    with open_showers([path]) as showers:
        with pytest.raises(InputError, match=r"/a\.h5 cannot be read"):
            showers.prepare()
        np.testing.assert_array_equal(showers.read([0])[0][0], CELLS[0])
    assert not list(node.glob("*/*.h5*"))


def test_the_command_repacks_files_and_never_a_file_onto_itself(files: Path, tmp_path: Path) -> None:
    out = tmp_path / "new"
    run = CliRunner().invoke(main, ["repack", str(files), "--out", str(out)])
    assert run.exit_code == 0, run.output
    assert "Wrote 24 events to 4 file(s)" in run.output
    with open_showers([out / "*.h5"]) as showers:
        showers.prepare(pytest.fail)
        np.testing.assert_array_equal(showers.read(range(24))[0], CELLS)
    for arguments in (["--out", str(out)], ["--out", str(tmp_path), "--overwrite"]):
        again = CliRunner().invoke(main, ["repack", str(files), *arguments])
        assert again.exit_code == 2
        assert "0.h5 exists" in again.output
        assert "Give another --out" in again.output
    assert CliRunner().invoke(main, ["repack", str(files), "--out", str(out), "--overwrite"]).exit_code == 0


def test_files_of_the_same_name_are_not_repacked_together(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_showers(tmp_path / folder / "0.h5", CELLS[:1], ENERGIES[:1], {})
    run = CliRunner().invoke(main, ["repack", str(tmp_path / "?" / "0.h5"), "--out", str(tmp_path / "new")])
    assert run.exit_code == 2
    assert "2 files have only 1 different names" in run.output
    assert not (tmp_path / "new").exists()
