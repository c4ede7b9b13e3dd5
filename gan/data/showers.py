"""Find HDF5 files of showers, and read any of their events as one set.

`layout` checks files, `reading` reads events from one file, and `feeding` chooses the events of each rank.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gan.data.energies import ENERGY_LIMIT
from gan.data.layout import CELL_CUT, SHAPE, TARGET, ShowerFile, check_file
from gan.data.reading import EventFile
from gan.data.unpacking import Copies
from gan.errors import InputError

__all__ = ["ShowerSet", "open_showers"]

OPEN_FILES = 64
"""Largest number of files that a set keeps open. The usual limit of a process is 1024."""

Cells = npt.NDArray[np.float32]


def open_showers(patterns: Sequence[str | os.PathLike[str]]) -> ShowerSet:
    """Return the showers of all files that match a path or a glob. This reads only the headers of the files.

    Files are in natural order (2 before 10), and each file counts once.

    Args:
        patterns: paths, or globs with `*`, `**`, `?` and `[...]`. A leading `~` is the home folder.

    Raises:
        InputError: a pattern matches no file, or a file does not follow the layout.
    """
    paths = {os.path.realpath(path): path for pattern in patterns for path in _expand(os.fspath(pattern))}
    if not paths:
        raise InputError("No data files were given; expected paths or globs of HDF5 files. Give at least one.")
    return ShowerSet([check_file(Path(path)) for path in sorted(paths.values(), key=_natural_order)])


class ShowerSet:
    """Events of several files, numbered from 0 in the order of the files.

    A read opens the files that it needs. The last `OPEN_FILES` of them stay open until `close`. A later read opens them
    again. Several threads may use a set: their reads run one after the other.
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
        """Number of events in all files."""
        return int(self._starts[-1])

    def prepare(self, tell: Callable[[str], None] | None = None, warn: Callable[[str], None] | None = None) -> None:
        """Make later reads fast: find the positions of events, and unpack files with large chunks once per node.

        All workers of a node call this at about the same time and share the unpacking. Reads also work without it.

        Args:
            tell: function that prints a message for the user. These messages are the same on every node.
            warn: function that prints a message about this node; `tell` by default.

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
        """Return the cells (n, 25, 25, 25) and energies (n,), both float32 in GeV, of events in the given order.

        Only these events are read, together with the other events of their chunks.

        Args:
            events: numbers of the events, (n,). A number may occur twice.

        Raises:
            InputError: a file cannot be read, a cell is not finite, or an energy is out of range.
            IndexError: no event has such a number.
        """
        wanted, back = np.unique(np.asarray(events, dtype=np.int64), return_inverse=True)
        if len(wanted) and not 0 <= wanted[0] <= wanted[-1] < self.events:
            raise IndexError(f"events {wanted[0]} to {wanted[-1]}; expected numbers from 0 to {self.events - 1}")
        cells = np.empty((len(wanted), *SHAPE), dtype=np.float32)
        energies = np.empty(len(wanted), dtype=np.float32)
        # A value too large for float32 becomes infinite, and the checks below report it.
        with self._lock, np.errstate(over="ignore"):
            for reader, run, rows in self._runs(wanted):
                opened = self._opened(reader)
                opened.cells(rows, cells[run])
                energies[run] = opened.energies(rows)
        self._check_cells(wanted, cells)
        self._check_energies(wanted, energies)
        below = cells < CELL_CUT
        # Most cells are 0 already. Writing them again is slow.
        below &= cells != 0
        cells[below] = 0
        return cells[back], energies[back]

    def energies(self) -> npt.NDArray[np.float32]:
        """Return the primary energies of all events in GeV, (events,).

        Raises:
            InputError: a file cannot be read, or an energy is out of range.
        """
        with self._lock, np.errstate(over="ignore"):
            parts = [self._opened(each).energies(slice(0, each.file.events)) for each in self._readers]
            energies = np.concatenate([part.astype(np.float32) for part in parts])
        self._check_energies(np.arange(self.events), energies)
        return energies

    def described(self) -> list[dict[str, Any]]:
        """Return what a record says about each file: its path, its events, and a digest of their primary energies.

        With the digest, a resume sees other data of the same name and number of events.

        Raises:
            InputError: a file cannot be read, or an energy is out of range.
        """
        parts = np.split(self.energies(), self._starts[1:-1])
        digests = [hashlib.sha256(part.tobytes()).hexdigest()[:16] for part in parts]
        return [
            {"path": str(file.path), "events": file.events, "energies": digest}
            for file, digest in zip(self.files, digests, strict=True)
        ]

    def close(self) -> None:
        """Close all files and release the unpacked copies."""
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
        """Open a file. If too many files are open, close the one that was unused for the longest time."""
        reader.open()
        self._open[reader] = None
        self._open.move_to_end(reader)
        if len(self._open) > OPEN_FILES:
            self._open.popitem(last=False)[0].close()
        return reader

    def _runs(self, wanted: npt.NDArray[np.int64]) -> Iterator[tuple[EventFile, slice, slice]]:
        """Split sorted event numbers into runs of neighbours in one file.

        Yield for each run the reader of the file, the slice of `wanted`, and the rows in the file.
        """
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
                "Leave the file out, or write it again."
            )

    def _check_energies(self, events: npt.NDArray[np.int64], energies: npt.NDArray[np.float32]) -> None:
        valid = (energies > 0) & (energies <= ENERGY_LIMIT)
        if not valid.all():
            first = np.argmin(valid)
            path, row = self._place(events[first])
            raise InputError(
                f"{path}: event {row} (from 0) has the energy {energies[first]:g} in column 1 of '{TARGET}'; "
                f"expected GeV, above 0 and at most {ENERGY_LIMIT:g}. Convert the file if it is in MeV."
            )

    def _place(self, event: np.int64) -> tuple[Path, int]:
        """Return the file of an event and its row in this file."""
        number = int(np.searchsorted(self._starts, event, side="right")) - 1
        return self.files[number].path, int(event - self._starts[number])


def _expand(pattern: str) -> list[str]:
    """Return the files that match a path or a glob. Raise InputError if there are none."""
    path = os.path.expanduser(pattern)
    # Check for a file first: its name may contain characters that have a meaning in globs.
    matches = [path] if os.path.exists(path) else glob.glob(path, recursive=True)
    files = [name for name in matches if not os.path.isdir(name)]
    if not files and matches:
        raise InputError(f"'{pattern}' is a folder; expected HDF5 files. Give the files in it, such as 'FOLDER/*.h5'.")
    if not files:
        raise InputError(
            f"'{pattern}' matches no file; expected the path of an HDF5 file, or a pattern such as 'FOLDER/*.h5'. "
            "Check the spelling, and the folder in which you start the command."
        )
    return files


def _natural_order(path: str) -> tuple[list[str | int], str]:
    """Return a sort key that orders numbers in names by their value."""
    parts = re.split("([0-9]+)", path)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], path
