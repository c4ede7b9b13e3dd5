"""For any kind of file, direct reads, reads through HDF5 and reads from a copy return the same events as h5py."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gan.data.layout import CELL_CUT, SHAPE, check_file, open_file
from gan.data.reading import Places
from gan.data.repacking import repack_file
from gan.data.showers import open_showers
from gan.data.writing import write_showers
from gan.errors import InputError
from tests.support.environment import ROOT
from tests.support.sample_showers import random_showers, target_of, write_raw

CELLS, ENERGIES = random_showers(12)
WHOLE = st.tuples(st.integers(1, 12), *(st.just(25) for _ in range(3)))
PIECES = st.tuples(st.integers(1, 12), *(st.sampled_from([1, 4, 25]) for _ in range(3))).filter(
    lambda chunks: chunks[1] * chunks[2] * chunks[3] >= 100
)
FILTERS = st.sampled_from(
    [{}, {"compression": "gzip"}, {"compression": "gzip", "shuffle": True}, {"compression": "lzf"},
     {"shuffle": True}, {"compression": "gzip", "fletcher32": True}]
)  # fmt: skip
DTYPES = st.sampled_from(["<f4", "<f8", ">f4", ">f8", "<f2", "<i4"])


def as_read(path: Path) -> np.ndarray:
    """Return the cells of a file as h5py reads them, with small cells set to 0."""
    with open_file(path) as file:
        cells: np.ndarray = file["ECAL"][:].reshape(-1, *SHAPE).astype(np.float32)
    return np.where(cells < CELL_CUT, 0, cells)


def places(path: Path) -> Places | None:
    """Return the positions of the events in a file, or None if only HDF5 can read it."""
    with open_file(path) as file:
        return Places.of(file["ECAL"])


@settings(max_examples=50, deadline=None)
@given(
    dtype=DTYPES,
    chunks=st.one_of(st.none(), st.just(True), WHOLE, PIECES),
    filters=FILTERS,
    last_axis=st.booleans(),
    events=st.integers(1, 12),
    wanted=st.lists(st.integers(0, 11), min_size=1, max_size=9),
)
def test_any_layout_is_read_as_h5py_reads_it(
    dtype: str, chunks: Any, filters: dict[str, Any], last_axis: bool, events: int, wanted: list[int]
) -> None:
    cells = (CELLS[:events] * (100 if dtype == "<i4" else 1)).astype(dtype)
    if isinstance(chunks, tuple):
        chunks = (min(chunks[0], events), *chunks[1:], *([1] if last_axis else []))
    if filters and chunks is None:
        chunks = True  # h5py itself would choose chunks
    wanted = [event % events for event in wanted]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", folder)
        path = Path(folder, "a.h5")
        write_raw(path, cells[..., np.newaxis] if last_axis else cells, target_of(ENERGIES[:events]),
                  chunks=chunks, **filters)  # fmt: skip
        with open_showers([path]) as showers:
            for ready in (lambda: None, showers.prepare, showers.close):
                ready()
                read, energies = showers.read(wanted)
                assert read.dtype == np.float32
                np.testing.assert_array_equal(read, as_read(path)[wanted])
                np.testing.assert_array_equal(energies, ENERGIES[wanted])


@pytest.mark.parametrize("dtype", ["<f4", ">f8"])
@pytest.mark.parametrize(
    ("options", "direct"),
    [
        ({}, True),
        ({"chunks": (5, *SHAPE)}, True),
        ({"chunks": (1, *SHAPE), "compression": "gzip"}, True),
        ({"chunks": (1, *SHAPE), "compression": "gzip", "shuffle": True}, True),
        ({"chunks": (2, *SHAPE), "compression": "gzip"}, False),
        ({"chunks": (1, 5, 25, 25)}, False),
        ({"chunks": (1, *SHAPE), "compression": "lzf"}, False),
        ({"chunks": (1, *SHAPE), "fletcher32": True}, False),
    ],
)
def test_events_with_contiguous_bytes_are_read_without_hdf5(
    tmp_path: Path, dtype: str, options: dict[str, Any], direct: bool
) -> None:
    path = write_raw(tmp_path / "a.h5", CELLS.astype(dtype), target_of(ENERGIES), **options)
    assert (places(path) is not None) == direct


def test_a_read_needs_no_lock_of_h5py(tmp_path: Path) -> None:
    write_showers(tmp_path / "a.h5", CELLS, ENERGIES, {})
    with open_showers([tmp_path / "a.h5"]) as showers:
        showers.prepare()
        read: list[np.ndarray] = []
        thread = threading.Thread(target=lambda: read.append(showers.read([7, 2])[0]))
        with h5py._objects.phil:
            thread.start()
            thread.join(60)
            assert len(read) == 1
    np.testing.assert_array_equal(read[0], CELLS[[7, 2]])


def test_events_that_were_never_written_are_zero(tmp_path: Path) -> None:
    for name, options in {"a.h5": {"chunks": (1, *SHAPE), "compression": "gzip"}, "b.h5": {}}.items():
        with h5py.File(tmp_path / name, "w") as file:
            cells = file.create_dataset("ECAL", (3, *SHAPE), "<f4", **options)
            file["target"] = target_of(ENERGIES[:3])
            if options:
                cells[1] = CELLS[1]
        assert places(tmp_path / name) is None
        with open_showers([tmp_path / name]) as showers:
            np.testing.assert_array_equal(showers.read([0, 1, 2])[0], as_read(tmp_path / name))


def test_cells_stored_in_other_files_are_read(tmp_path: Path) -> None:
    source = write_raw(tmp_path / "source.h5", CELLS, target_of(ENERGIES))
    layout = h5py.VirtualLayout(shape=CELLS.shape, dtype=CELLS.dtype)
    layout[:] = h5py.VirtualSource(str(source), "ECAL", shape=CELLS.shape)
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        file.create_virtual_dataset("ECAL", layout)
        file["target"] = target_of(ENERGIES)
    with h5py.File(tmp_path / "external.h5", "w") as file:
        external = [(str(tmp_path / "cells.raw"), 0, h5py.h5f.UNLIMITED)]
        file.create_dataset("ECAL", data=CELLS, external=external)
        file["target"] = target_of(ENERGIES)
    for name in ("virtual.h5", "external.h5"):
        assert places(tmp_path / name) is None
        with open_showers([tmp_path / name]) as showers:
            np.testing.assert_array_equal(showers.read([3, 0])[0], CELLS[[3, 0]])


def test_a_user_block_does_not_shift_the_events(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w", userblock_size=1024) as file:
        file["ECAL"], file["target"] = CELLS, target_of(ENERGIES)
    with open_showers([tmp_path / "a.h5"]) as showers:
        np.testing.assert_array_equal(showers.read([5])[0][0], CELLS[5])


def test_a_truncated_chunk_is_an_input_error(tmp_path: Path) -> None:
    path = write_raw(tmp_path / "a.h5", CELLS, target_of(ENERGIES))
    showers = open_showers([path])
    showers.prepare()
    os.truncate(path, places(path).offsets[3] + 10)  # type: ignore[union-attr]
    np.testing.assert_array_equal(showers.read([2])[0][0], CELLS[2])
    with pytest.raises(InputError, match=r"a\.h5 cannot be read \(event 3 .*: the file holds 10 of its 62500 bytes\)"):
        showers.read([3])
    showers.close()


@pytest.mark.parametrize("filters", [{"compression": "gzip"}, {"fletcher32": True}, {"compression": "lzf"}])
@pytest.mark.parametrize("wrong", ["no bytes", "another row", "an address outside", "an address above int64"])
def test_a_damaged_index_of_chunks_is_an_input_error(tmp_path: Path, filters: dict[str, Any], wrong: str) -> None:
    """HDF5 believes the index: it crashes on a chunk without bytes, for example.

    A key of the index holds the stored bytes (4), the mask of left-out filters (4) and the place of the chunk (8 for
    each axis, and one more). The address of the chunk follows.
    """
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("ECAL", data=CELLS, chunks=(1, *CELLS.shape[1:]), **filters)
        file["target"] = target_of(ENERGIES)
    with h5py.File(path) as file:
        cells = file["ECAL"]
        stored = [cells.id.get_chunk_info(row).size for row in range(2)]
        axes = cells.ndim + 1
    content = bytearray(path.read_bytes())
    key = content.index(struct.pack("<IIQ", stored[1], 0, 1))
    address = key + 8 + 8 * axes
    where, value = {
        "no bytes": (key, bytes(4)),
        "another row": (key + 8, struct.pack("<Q", 99)),
        "an address outside": (address, struct.pack("<Q", len(content) - 10)),
        "an address above int64": (address, struct.pack("<Q", 2**63 + 5)),
    }[wrong]
    content[where : where + len(value)] = value
    path.write_bytes(content)
    with pytest.raises(InputError, match="cannot be read"), open_showers([path]) as showers:
        showers.read([1])


@pytest.mark.parametrize("filters", [{"fletcher32": True}, {"shuffle": True}, {}])
@pytest.mark.parametrize("read", [check_file, lambda path: repack_file(path, path.with_name("b.h5"))])
def test_a_wrong_size_in_the_index_of_the_energies_is_an_input_error(
    tmp_path: Path, filters: dict[str, Any], read: Callable[[Path], object]
) -> None:
    """HDF5 reads as many bytes as the index says, into memory for the right number."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["ECAL"] = CELLS
        file.create_dataset("target", data=target_of(ENERGIES), chunks=(2, 2), **filters)
    with h5py.File(path) as file:
        stored = file["target"].id.get_chunk_info(1).size
    content = bytearray(path.read_bytes())
    key = content.index(struct.pack("<IIQ", stored, 0, 2))
    content[key : key + 4] = struct.pack("<I", stored + 64)
    path.write_bytes(content)
    with pytest.raises(InputError, match="the index of the chunks of /target is damaged: row 2"):
        read(path)


def test_a_damaged_index_of_cells_is_an_input_error_in_repack(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("ECAL", data=CELLS, chunks=(2, *CELLS.shape[1:]), fletcher32=True)
        file["target"] = target_of(ENERGIES)
    with h5py.File(path) as file:
        stored = file["ECAL"].id.get_chunk_info(1).size
    content = bytearray(path.read_bytes())
    key = content.index(struct.pack("<IIQ", stored, 0, 2))
    content[key : key + 4] = bytes(4)
    path.write_bytes(content)
    with pytest.raises(InputError, match="the index of the chunks of /ECAL is damaged"):
        repack_file(path, tmp_path / "b.h5")


def test_a_replaced_file_is_looked_up_again(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    write_showers(path, CELLS, ENERGIES, {})
    with open_showers([path]) as showers:
        showers.read([1])
        write_raw(path, CELLS[::-1], target_of(ENERGIES[::-1]))
        showers.close()
        cells, energies = showers.read([1])
    np.testing.assert_array_equal(cells[0], CELLS[-2])
    assert energies[0] == ENERGIES[-2]


@pytest.mark.parametrize("options", [{}, {"chunks": (1, 5, 5, 25)}])
def test_few_of_many_files_are_open_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    monkeypatch.setattr("gan.data.showers.OPEN_FILES", 3)
    for number in range(12):
        own = slice(number, number + 1)
        write_raw(tmp_path / f"{number}.h5", CELLS[own], target_of(ENERGIES[own]), **options)

    def opened() -> int:
        links = [os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
        return sum(os.path.exists(link) and os.readlink(link).startswith(str(tmp_path)) for link in links)

    with open_showers([tmp_path / "*.h5"]) as showers:
        showers.prepare()
        assert opened() == 3
        for event in np.random.default_rng(1).integers(0, 12, 40):
            np.testing.assert_array_equal(showers.read([event])[0][0], CELLS[event])
            assert opened() == 3
    assert opened() == 0


@pytest.mark.parametrize(("variable", "opens"), [(None, True), ("FALSE", True), ("TRUE", False)])
def test_a_locked_file_is_read_unless_the_user_wants_locks(tmp_path: Path, variable: str | None, opens: bool) -> None:
    """This process locks the file. The effect is the same as on a file system that refuses locks."""
    path = tmp_path / "a.h5"
    write_showers(path, CELLS[:1], ENERGIES[:1], {})
    code = "import sys; from gan.data.showers import open_showers; print(open_showers(sys.argv[1:]).read([0])[1])"
    environment = {name: value for name, value in os.environ.items() if name != "HDF5_USE_FILE_LOCKING"}
    if variable:
        environment["HDF5_USE_FILE_LOCKING"] = variable
    with path.open("r+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        ended = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, env=environment,
                               cwd=ROOT, check=False)  # fmt: skip
    assert (ended.returncode == 0) == opens, ended.stderr
    if not opens:
        assert "a.h5 cannot be read" in ended.stderr
