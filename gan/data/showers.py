"""Showers in HDF5 files: finding the files, and reading any events from them as one set.

What a file must look like is told by `layout` and new ones are written by `writing`; their names are found
here too. How an event comes out of its file is `reading`'s business; which event is read when and by which rank is
left to `feeding`.
"""

from __future__ import annotations

import glob
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gan.data.layout import (
    CELL_CUT,
    CELLS,
    ENERGY_LIMIT,
    EVENTS_PER_FILE,
    FILE_NAME,
    SHAPE,
    TARGET,
    ShowerFile,
    check_file,
)
from gan.data.reading import EventFile
from gan.data.unpacking import Copies
from gan.data.writing import ShowerWriter, pack, write_showers
from gan.errors import InputError

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

OPEN_FILES = 64
"""Well below the 1024 that a process may usually have open."""

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

    Files are opened when first read from; the last `OPEN_FILES` stay open until `close`, after which a read opens
    them again. One read runs at a time, whichever threads ask.
    """

    def __init__(self, files: Sequence[ShowerFile]) -> None:
        self.files = tuple(files)
        self._starts = np.cumsum([0, *(file.events for file in self.files)])
        self._readers = [EventFile(file) for file in self.files]
        self._open: OrderedDict[EventFile, None] = OrderedDict()
        self._copies: Copies | None = None
        self._lock = threading.Lock()

    @property
    def events(self) -> int:
        """The number of events in all files."""
        return int(self._starts[-1])

    def prepare(self, tell: Callable[[str], None] | None = None, warn: Callable[[str], None] | None = None) -> None:
        """Do once what makes later reads fast: look up where events lie, unpack files of large chunks on this node.

        To be called by all workers of a node at about the same time: they share the unpacking. Reads work without.

        Args:
            tell: is given sentences for the user, where there is something to say that holds for every node.
            warn: those about this node; as `tell` by default.

        Raises:
            InputError: a file cannot be read.
        """
        with self._lock:
            decoded = {reader.file: self._opened(reader).decoded for reader in self._readers}
            say = tell or (lambda _: None)
            self._copies = self._copies or Copies.of(decoded, say, warn or say)
            copies = self._copies.paths if self._copies else {}
            for reader in self._readers:
                if reader.file.path in copies:
                    reader.use(copies[reader.file.path])
                    self._opened(reader)

    def read(self, events: npt.ArrayLike) -> tuple[Cells, npt.NDArray[np.float32]]:
        """Return cells (n, 25, 25, 25) and energies (n,), GeV, of the events with these numbers, in order.

        Reads nothing but those events, and what lies in a chunk with them. Raises InputError where a file cannot be
        read, a cell is not finite or an energy is out of range, and IndexError for a number that is no event's.
        """
        wanted, back = np.unique(np.asarray(events, dtype=np.int64), return_inverse=True)
        if len(wanted) and not 0 <= wanted[0] <= wanted[-1] < self.events:
            raise IndexError(f"events {wanted[0]} to {wanted[-1]} of a set that holds 0 to {self.events - 1}")
        cells = np.empty((len(wanted), *SHAPE), dtype=np.float32)
        energies = np.empty(len(wanted), dtype=np.float32)
        # What is too large for float32 becomes infinite, and is reported.
        with self._lock, np.errstate(over="ignore"):
            for reader, run, rows in self._runs(wanted):
                opened = self._opened(reader)
                opened.cells(rows, cells[run])
                energies[run] = opened.energies(rows)
        self._check_cells(wanted, cells)
        self._check_energies(wanted, energies)
        below = cells < CELL_CUT
        # Most cells are 0 already, and setting them again is slow.
        below &= cells != 0
        cells[below] = 0
        return cells[back], energies[back]

    def energies(self) -> npt.NDArray[np.float32]:
        """Return the energy of every event, GeV. Raises InputError as `read` does."""
        with self._lock, np.errstate(over="ignore"):
            found = [self._opened(each).energies(slice(0, each.file.events)) for each in self._readers]
            energies = np.concatenate([part.astype(np.float32) for part in found])
        self._check_energies(np.arange(self.events), energies)
        return energies

    def close(self) -> None:
        """Close all files and give up the copies of unpacked ones."""
        with self._lock:
            while self._open:
                self._open.popitem()[0].close()
            if self._copies is not None:
                self._copies.close()
                self._copies = None
                for reader in self._readers:
                    reader.use(reader.file.path)

    def __enter__(self) -> ShowerSet:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _opened(self, reader: EventFile) -> EventFile:
        """Open a file, and close the one that was not used for longest if there are too many."""
        reader.open()
        self._open[reader] = None
        self._open.move_to_end(reader)
        if len(self._open) > OPEN_FILES:
            self._open.popitem(last=False)[0].close()
        return reader

    def _runs(self, wanted: npt.NDArray[np.int64]) -> Iterator[tuple[EventFile, slice, slice]]:
        """Cut sorted numbers into neighbours in one file: its reader, places in `wanted`, rows of the file."""
        numbers = np.searchsorted(self._starts, wanted, side="right") - 1
        breaks = np.flatnonzero((np.diff(wanted) != 1) | (np.diff(numbers) != 0)) + 1
        for begin, end in pairwise([0, *breaks.tolist(), len(wanted)]):
            if begin < end:
                row = int(wanted[begin] - self._starts[numbers[begin]])
                yield self._readers[numbers[begin]], slice(begin, end), slice(row, row + end - begin)

    def _check_cells(self, events: npt.NDArray[np.int64], cells: Cells) -> None:
        finite = np.isfinite(cells)
        if not finite.all():
            path, row = self._place(events[np.argmin(finite.all(axis=(1, 2, 3)))])
            raise InputError(
                f"{path}: event {row} (from 0) has cells that are not finite; expected energies in GeV. "
                f"Leave the file out or write it again."
            )

    def _check_energies(self, events: npt.NDArray[np.int64], energies: npt.NDArray[np.float32]) -> None:
        good = (energies > 0) & (energies <= ENERGY_LIMIT)
        if not good.all():
            first = np.argmin(good)
            path, row = self._place(events[first])
            raise InputError(
                f"{path}: event {row} (from 0) has the energy {energies[first]:g} in column 1 of '{TARGET}'; "
                f"GeV expected, above 0 and at most {ENERGY_LIMIT:g}; is the file in MeV?"
            )

    def _place(self, event: np.int64) -> tuple[Path, int]:
        """The file of an event and its row there."""
        number = int(np.searchsorted(self._starts, event, side="right")) - 1
        return self.files[number].path, int(event - self._starts[number])


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
