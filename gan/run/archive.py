"""Archives of arrays in one file: NumPy's format, with a digest of the whole content at the end of the file.

The digest is the comment of the ZIP archive, so NumPy reads such a file too. It is checked before anything in the file
is used: ZIP's own checksums do not cover the directory of the archive. A digest does not prove who wrote a file, so
sizes are checked as well, before memory is allocated for them.
"""

from __future__ import annotations

import hashlib
import math
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

__all__ = ["ArchiveError", "read_archive", "write_archive"]

_MARK = b"sha256:"
_DIGITS = 64
_END = re.compile(rb"PK\x05\x06.{16}\x00\x00", re.DOTALL)
"""Last bytes of a ZIP archive without a comment."""
_END_BYTES, _COUNT_AT = 22, 10
"""Length of this end, and the place of the number of entries in it (2 bytes)."""
_HEADERS: dict[tuple[int, int], Callable[[Any], tuple[tuple[int, ...], bool, np.dtype[Any]]]] = {
    (1, 0): npy.read_array_header_1_0,
    (2, 0): npy.read_array_header_2_0,
}


class ArchiveError(ValueError):
    """A file is no archive of arrays, or is damaged."""


def write_archive(file: IO[bytes], arrays: Mapping[str, npt.ArrayLike]) -> None:
    """Write arrays to a new file, then the digest.

    Args:
        file: empty, opened for writing and reading.
        arrays: arrays by name.
    """
    np.savez(file, **arrays)  # type: ignore[arg-type]
    with zipfile.ZipFile(file, "a") as archive:
        archive.comment = _MARK + b"0" * _DIGITS
    size = file.seek(0, 2)
    digest = _digest(file, size - _DIGITS)
    file.seek(size - _DIGITS)
    file.write(digest)


def read_archive(path: Path, wanted: Callable[[str], bool] = lambda name: True) -> dict[str, npt.NDArray[Any]]:
    """Read arrays of a file by name.

    Files of older versions have no digest. Then only ZIP's checksums and the sizes are checked.

    Args:
        path: the file.
        wanted: returns whether to read the array of this name.

    Raises:
        ArchiveError: the file is no archive, or is damaged.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        _check_digest(file)
        try:
            with zipfile.ZipFile(file) as archive:
                _check_entries(archive, file.seek(0, 2))
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files if wanted(name)}
        # In a file without a digest, a flipped bit can lead to any error of zipfile and NumPy.
        except Exception as error:
            raise ArchiveError(str(error) or type(error).__name__) from error


def _digest(file: IO[bytes], size: int) -> bytes:
    """Return the digest of the first `size` bytes of a file, as hexadecimal digits."""
    file.seek(0)
    digest = hashlib.sha256()
    while size and (block := file.read(min(size, 1 << 20))):
        digest.update(block)
        size -= len(block)
    return digest.hexdigest().encode()


def _check_digest(file: IO[bytes]) -> None:
    size = file.seek(0, 2)
    file.seek(max(0, size - len(_MARK) - _DIGITS))
    last = file.read()
    if last.startswith(_MARK):
        if _digest(file, size - _DIGITS) != last[len(_MARK) :]:
            raise ArchiveError("its digest is wrong")
    elif not _END.fullmatch(last[-_END_BYTES:]):
        raise ArchiveError("it is not a NumPy archive, or its end is missing")


def _check_entries(archive: zipfile.ZipFile, size: int) -> None:
    """Check that no array is lost, and that no array claims more bytes than it has in the file.

    Args:
        archive: the archive.
        size: size of the file in bytes.
    """
    entries = archive.infolist()
    # zipfile stops without an error at an entry of the directory that it cannot read.
    assert archive.fp is not None
    archive.fp.seek(size - _END_BYTES - len(archive.comment) + _COUNT_AT)
    expected = int.from_bytes(archive.fp.read(2), "little")
    if len(entries) & 0xFFFF != expected:
        raise ArchiveError(f"its directory lists {len(entries)} arrays instead of {expected}")
    total = sum(entry.file_size for entry in entries)
    if total > size or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ArchiveError(f"its arrays claim {total:,} bytes in a file of {size:,} bytes")
    for entry in entries:
        with archive.open(entry) as array:
            version = npy.read_magic(array)
            if version not in _HEADERS:
                raise ArchiveError(f"{entry.filename} has version {version} of NumPy's format")
            shape, _, kind = _HEADERS[version](array)
            there = entry.file_size - array.tell()
        if kind.itemsize == 0 or kind.kind not in "biufU":
            raise ArchiveError(f"{entry.filename} has the type {kind}; expected numbers or a text")
        claimed = math.prod(shape) * kind.itemsize
        if claimed != there:
            raise ArchiveError(f"{entry.filename} claims an array of {claimed:,} bytes, and has {there:,}")
