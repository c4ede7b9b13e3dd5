"""Showers in HDF5 files: finding the files, reading any events from them, writing new files.

What a file must look like is told by `gan.layout`, whose names are found here too. Which event is read when
and by which rank is left to `gan.feeding`.
"""

from __future__ import annotations

import glob
import os
import re
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from gan.errors import InputError
from gan.layout import (
    CELL_CUT,
    CELLS,
    ELECTRON,
    ENERGY_LIMIT,
    EVENTS_PER_FILE,
    FILE_NAME,
    SHAPE,
    TARGET,
    UNREADABLE,
    ShowerFile,
    check_file,
    data_sets,
    open_file,
    unreadable,
)

__all__ = [
    "CELLS",
    "CELL_CUT",
    "ENERGY_LIMIT",
    "EVENTS_PER_FILE",
    "FILE_NAME",
    "SHAPE",
    "TARGET",
    "ShowerFile",
    "ShowerSet",
    "ShowerWriter",
    "open_showers",
    "pack",
    "write_showers",
]

_COMPRESSION_LEVEL = 1

Cells = npt.NDArray[np.float32]


def open_showers(patterns: Sequence[str | os.PathLike[str]]) -> ShowerSet:
    """Return the showers in all files that match; `~` and globs, `**` too, are expanded.

    Files come in natural order (2 before 10), each once. Only their headers are read. Raises InputError for a
    pattern that matches nothing and for a file that is not in the layout.
    """
    paths = {os.path.realpath(path): path for pattern in patterns for path in _expand(os.fspath(pattern))}
    if not paths:
        raise InputError("No data files were named; expected paths or globs of HDF5 files: give at least one.")
    return ShowerSet([check_file(Path(path)) for path in sorted(paths.values(), key=_natural_order)])


class ShowerSet:
    """The events of several files, numbered through from 0 in the order of the files.

    Files are opened when first read from and stay open until `close`; a later read opens them again. One read
    runs at a time, whichever threads ask.
    """

    def __init__(self, files: Sequence[ShowerFile]) -> None:
        self.files = tuple(files)
        self._starts = np.cumsum([0, *(file.events for file in self.files)])
        self._open: dict[Path, tuple[h5py.File, h5py.Dataset, h5py.Dataset]] = {}
        self._lock = threading.Lock()

    @property
    def events(self) -> int:
        """The number of events in all files."""
        return int(self._starts[-1])

    def read(self, events: npt.ArrayLike) -> tuple[Cells, npt.NDArray[np.float32]]:
        """Return cells (n, 25, 25, 25) and energies (n,), GeV, of the events with these numbers, in order.

        Reads nothing but those events, neighbours in one go. Raises InputError where a file cannot be read, a
        cell is not finite or an energy is out of range, and IndexError for a number that is no event's.
        """
        wanted, back = np.unique(np.asarray(events, dtype=np.int64), return_inverse=True)
        if len(wanted) and not 0 <= wanted[0] <= wanted[-1] < self.events:
            raise IndexError(f"events {wanted[0]} to {wanted[-1]} of a set that holds 0 to {self.events - 1}")
        cells = np.empty((len(wanted), *SHAPE), dtype=np.float32)
        energies = np.empty(len(wanted), dtype=np.float32)
        with self._lock:
            for file, run, rows in self._runs(wanted):
                cells[run], energies[run] = self._read_rows(file, rows)
        return cells[back], energies[back]

    def energies(self) -> npt.NDArray[np.float32]:
        """Return the energy of every event, GeV. Raises InputError as `read` does."""
        with self._lock:
            return np.concatenate([self._read_energies(file, slice(0, file.events)) for file in self.files])

    def close(self) -> None:
        """Close all files."""
        with self._lock:
            for handle, *_ in self._open.values():
                handle.close()
            self._open.clear()

    def __enter__(self) -> ShowerSet:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _runs(self, wanted: npt.NDArray[np.int64]) -> Iterator[tuple[ShowerFile, slice, slice]]:
        """Cut sorted numbers into neighbours in one file: the file, places in `wanted`, rows of the file."""
        numbers = np.searchsorted(self._starts, wanted, side="right") - 1
        breaks = np.flatnonzero((np.diff(wanted) != 1) | (np.diff(numbers) != 0)) + 1
        for begin, end in pairwise([0, *breaks.tolist(), len(wanted)]):
            if begin < end:
                row = int(wanted[begin] - self._starts[numbers[begin]])
                yield self.files[numbers[begin]], slice(begin, end), slice(row, row + end - begin)

    def _read_rows(self, file: ShowerFile, rows: slice) -> tuple[Cells, npt.NDArray[np.float32]]:
        cells = _to_float32(self._read(file, CELLS, rows)).reshape(-1, *SHAPE)
        finite = np.isfinite(cells).all(axis=(1, 2, 3))
        if not finite.all():
            raise InputError(
                f"{file.path}: event {rows.start + int(np.argmin(finite))} (from 0) has cells that are not "
                f"finite; expected energies in GeV. Leave the file out or write it again."
            )
        cells[cells < CELL_CUT] = 0
        return cells, self._read_energies(file, rows)

    def _read_energies(self, file: ShowerFile, rows: slice) -> npt.NDArray[np.float32]:
        energies = _to_float32(self._read(file, TARGET, rows))
        good = (energies > 0) & (energies <= ENERGY_LIMIT)
        if not good.all():
            first = int(np.argmin(good))
            raise InputError(
                f"{file.path}: event {rows.start + first} (from 0) has the energy {energies[first]:g} in "
                f"column 1 of '{TARGET}'; GeV expected, above 0 and at most {ENERGY_LIMIT:g}; "
                f"is the file in MeV?"
            )
        return energies

    def _read(self, file: ShowerFile, name: str, rows: slice) -> npt.NDArray[Any]:
        """Read rows of the cells or of the target's energies, in the type of the file."""
        try:
            if file.path not in self._open:
                handle = open_file(file.path)
                self._open[file.path] = (handle, *data_sets(handle, file.path))
            _, cells, target = self._open[file.path]
            rows_read: npt.NDArray[Any] = cells[rows] if name == CELLS else target[rows, 1]
        except UNREADABLE as error:
            raise unreadable(file.path, error) from error
        if len(rows_read) != rows.stop - rows.start:
            raise InputError(
                f"{file.path} ends before event {rows.stop - 1} (from 0); {file.events} events were there at "
                f"first. The file was changed meanwhile: start again."
            )
        return rows_read


class ShowerWriter:
    """Writes a file of known length batch by batch: `with ShowerWriter(path, events, attributes) as writer`.

    The file appears under its name when the block ends well and all events are there; until then, and after
    an error, whatever had that name before stays. Raises InputError if the file system refuses.

    `ECAL` has one event a chunk, compressed by gzip level 1. Simulated showers then take 5 kB instead of
    63 kB, and reading one at random 0.17 ms instead of 0.03 ms, little against a training step; damage is
    noticed by gzip's checksum. (With the shuffle filter they take 9 kB and 0.28 ms.)
    """

    def __init__(self, path: str | os.PathLike[str], events: int, attributes: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self._beside = self.path.with_name(f".{self.path.name}.part")
        self._attributes = attributes
        self._targets = np.full((events, 2), ELECTRON, dtype=np.float64)
        self._written = 0
        self._file: Any = None

    def __enter__(self) -> ShowerWriter:
        try:
            self._file = h5py.File(self._beside, "w", locking="best-effort")
            self._file.attrs.update(self._attributes)
            self._cells = self._file.create_dataset(
                CELLS,
                shape=(len(self._targets), *SHAPE),
                dtype="<f4",
                chunks=(1, *SHAPE),
                compression="gzip",
                compression_opts=_COMPRESSION_LEVEL,
            )
        except OSError as error:
            self._discard()
            raise self._refused(error) from error
        return self

    def append(self, packed: Sequence[bytes], energies: npt.ArrayLike) -> None:
        """Add events, cells from `pack` and as many energies in GeV."""
        after = self._written + len(packed)
        self._targets[self._written : after, 1] = energies
        try:
            for event, chunk in enumerate(packed, start=self._written):
                self._cells.id.write_direct_chunk((event, 0, 0, 0), chunk)
        except OSError as error:
            raise self._refused(error) from error
        self._written = after

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._finish()
        except OSError as error:
            raise self._refused(error) from error
        finally:
            self._discard()

    def _finish(self) -> None:
        if self._written != len(self._targets):
            raise ValueError(f"{self._written} of {len(self._targets)} events were written to {self.path}")
        self._file.create_dataset(TARGET, data=self._targets)
        self._file.close()
        os.replace(self._beside, self.path)

    def _discard(self) -> None:
        """Remove what is unfinished; after a success nothing is left to do."""
        if self._file is None:
            return
        # A full disk makes closing fail as well.
        with suppress(OSError, RuntimeError):
            self._file.close()
        self._beside.unlink(missing_ok=True)

    def _refused(self, error: OSError) -> InputError:
        return InputError(f"{self.path} cannot be written ({error}). Give a folder with the right and room to write.")


def pack(cells: npt.ArrayLike) -> list[bytes]:
    """Compress cells (n, 25, 25, 25) event by event for ShowerWriter; many processes can share this step."""
    return [zlib.compress(event, _COMPRESSION_LEVEL) for event in np.ascontiguousarray(cells, dtype="<f4")]


def write_showers(
    path: str | os.PathLike[str], cells: npt.ArrayLike, energies: npt.ArrayLike, attributes: Mapping[str, Any]
) -> None:
    """Write a whole file: cells (n, 25, 25, 25) and energies (n,), GeV, and attributes of the file."""
    energies = np.asarray(energies)
    with ShowerWriter(path, len(energies), attributes) as writer:
        writer.append(pack(cells), energies)


def _expand(pattern: str) -> list[str]:
    path = os.path.expanduser(pattern)
    # A name may hold the letters of a glob and still be a file's.
    found = [path] if os.path.exists(path) else glob.glob(path, recursive=True)
    files = [name for name in found if not os.path.isdir(name)]
    if not files:
        seen = "is a folder" if found else "matches no file"
        raise InputError(
            f"'{pattern}' {seen}; expected the path or a glob of HDF5 files: give for example 'FOLDER/*.h5'."
        )
    return files


def _natural_order(path: str) -> tuple[list[str | int], str]:
    parts = re.split("([0-9]+)", path)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], path


def _to_float32(array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Cast; what is too large becomes infinite and is reported by the checks."""
    with np.errstate(over="ignore"):
        return array.astype(np.float32)
