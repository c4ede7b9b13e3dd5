"""Archives of arrays: damage of any kind is one error, and no memory is allocated for claims."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.lib import format as npy

from gan.run.archive import ArchiveError, read_archive, write_archive

ARRAYS = {
    "about": np.array('{"epochs": 1}'),
    "generator/000": np.arange(12, dtype=np.float32).reshape(3, 4),
    "generator/001": np.zeros((0, 3)),
    "generator_optimizer/000": np.array(7, np.int64),
}
MANY = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _bytes() -> bytes:
    file = io.BytesIO()
    write_archive(file, ARRAYS)
    return file.getvalue()


WHOLE = _bytes()
"""An archive with a digest."""


def plain() -> bytes:
    """Return an archive of an older version, without a digest."""
    file = io.BytesIO()
    np.savez(file, **ARRAYS)  # type: ignore[arg-type]
    return file.getvalue()


def read(content: bytes, folder: Path) -> dict[str, np.ndarray]:
    path = folder / "a.npz"
    path.write_bytes(content)
    return read_archive(path)


def assert_same(read: dict[str, np.ndarray]) -> None:
    assert read.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(read[name], array, strict=True)


def test_what_is_written_is_read_and_numpy_reads_it_too(tmp_path: Path) -> None:
    assert_same(read(WHOLE, tmp_path))
    assert_same(dict(np.load(tmp_path / "a.npz")))
    assert list(read_archive(tmp_path / "a.npz", lambda name: name.startswith("generator/"))) == [
        "generator/000",
        "generator/001",
    ]


def test_archives_of_older_versions_are_read(tmp_path: Path) -> None:
    assert_same(read(plain(), tmp_path))


@MANY
@given(place=st.integers(0, len(WHOLE) - 1), bit=st.integers(0, 7))
@example(place=len(WHOLE) - 64 - 7, bit=0)  # the first letter of the mark
def test_every_flipped_bit_is_an_error(tmp_path: Path, place: int, bit: int) -> None:
    damaged = bytearray(WHOLE)
    damaged[place] ^= 1 << bit
    with pytest.raises(ArchiveError):
        read(bytes(damaged), tmp_path)


@MANY
@given(st.integers(0, len(WHOLE) - 1))
def test_every_missing_end_is_an_error(tmp_path: Path, size: int) -> None:
    with pytest.raises(ArchiveError):
        read(WHOLE[:size], tmp_path)


@MANY
@given(data=st.data())
def test_damage_without_a_digest_is_an_archive_error_or_not_seen(tmp_path: Path, data: st.DataObject) -> None:
    """ZIP's checksums cover the content of the arrays, not the directory. No other exception may leave the reader."""
    damaged = bytearray(plain())
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        arrays = read(bytes(damaged), tmp_path)
    except ArchiveError:
        return
    assert sum(array.nbytes for array in arrays.values()) <= len(damaged)


def header(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    npy.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return file.getvalue()


def claim() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("generator/000.npy", header((10**15,)))
    return file.getvalue()


def bomb() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("generator/000.npy", header((1 << 26,)) + bytes(1 << 28))
    return file.getvalue()


def many_names_for_the_same_bytes() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.npy", header((1 << 18,)) + bytes(1 << 20))
        for _ in range(300):
            archive.filelist.append(archive.filelist[0])
        archive._didModify = True  # type: ignore[attr-defined]
    return file.getvalue()


@pytest.mark.parametrize("make", [claim, bomb, many_names_for_the_same_bytes])
def test_sizes_are_checked_before_memory_is_allocated(tmp_path: Path, make: object) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(make())  # type: ignore[operator]
    tracemalloc.start()
    try:
        with pytest.raises(ArchiveError, match="claim"):
            read_archive(path)
        # Blocks for reading are 1 MB.
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
