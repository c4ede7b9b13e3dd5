"""Read single events from one HDF5 file at random: find the bytes of each event and decode them.

A training reads events in random order, 8 at a time. HDF5 reads them under h5py's lock. But if the bytes of an event
are contiguous, HDF5 is needed only once, to find the position of the bytes. After that, a read is one `pread` and, for
compressed events, one call of zlib. Both release the GIL.

This module caches nothing, because the kernel's page cache is enough. All workers of a node share this cache, and they
read different events of an epoch, so no byte is cached twice. The cache takes 5 kB per event of the files of this
project, and the kernel frees it when memory is short. A batch of 8 takes 1.6 ms of one core, 0.8 ms of it in zlib.
Sharing decoded events between the workers of a node would save those 0.8 ms, a thousandth of a step, for twelve times
the memory.

Direct reads work for two kinds of files: uncompressed files, contiguous or in chunks of whole events; and files with
gzip compression, with or without the shuffle filter, in chunks of one event. HDF5 reads all other files. If a chunk
spans many events, HDF5 decodes all of them to read one, so `unpacking` rewrites such files.

`layout` checks files, and `feeding` chooses the events of a batch.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from gan.data.chunks import can_list_chunks, chunk_places, filters_of
from gan.data.layout import SHAPE, UNREADABLE, ShowerFile, data_sets, open_file, unreadable
from gan.errors import InputError

__all__ = ["EventFile", "Places"]

_CELLS = int(np.prod(SHAPE))
_FILTERS = ((), (h5py.h5z.FILTER_DEFLATE,), (h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE))
"""Filters that `Places.read` can undo, in the order in which HDF5 applies them."""

Rows = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Places:
    """Position and encoding of the bytes of each event in a file."""

    offsets: npt.NDArray[np.int64]
    """Position of each event in the file, in bytes, (events,)."""
    sizes: npt.NDArray[np.int64]
    """Stored bytes of each event, (events,)."""
    dtype: np.dtype[Any]
    """Numeric type of the cells in the file."""
    deflate: bool = False
    """True if events are compressed with gzip."""
    shuffle: bool = False
    """True if HDF5's shuffle filter grouped the bytes by their position in a number before compression."""

    @classmethod
    def of(cls, cells: h5py.Dataset) -> Places | None:
        """Find the positions in a data set of shape (events, 25, 25, 25, ...). Return None if only HDF5 can read it."""
        filters = filters_of(cells)
        # In some versions of HDF5 a user block shifts all positions by its length.
        if filters not in _FILTERS or cells.file.userblock_size:
            return None
        if cells.id.get_type().get_size() != cells.dtype.itemsize:
            return None  # NumPy does not have this type, so HDF5 must convert it.
        bytes_each, events = _CELLS * cells.dtype.itemsize, np.arange(len(cells))
        sizes = np.full(len(cells), bytes_each)
        if cells.chunks is None:
            begin = cells.id.get_offset()  # None if the data are in another file, or were never written.
            return None if begin is None else cls(offsets=begin + events * bytes_each, sizes=sizes, dtype=cells.dtype)
        per_chunk = cells.chunks[0]
        if cells.chunks[1:] != cells.shape[1:] or (filters and per_chunk > 1) or not can_list_chunks(cells):
            return None
        starts, stored = chunk_places(cells)
        if not stored.all():
            return None  # A chunk was never written, or was written without the filters.
        if filters:
            return cls(offsets=starts, sizes=stored, dtype=cells.dtype, deflate=True, shuffle=len(filters) == 2)
        return cls(
            offsets=starts[events // per_chunk] + events % per_chunk * bytes_each, sizes=sizes, dtype=cells.dtype
        )

    def read(self, descriptor: int, row: int) -> Rows:
        """Return the cells of one event, (15625,), in the type of the file.

        Args:
            descriptor: open file descriptor of the file.
            row: number of the event in the file, from 0.

        Raises:
            OSError: the event cannot be read or is damaged.
        """
        size = int(self.sizes[row])
        stored = os.pread(descriptor, size, int(self.offsets[row]))
        if len(stored) != size:
            raise OSError(f"event {row} (from 0): the file holds {len(stored)} of its {size} bytes")
        try:
            content = zlib.decompress(stored, bufsize=_CELLS * self.dtype.itemsize) if self.deflate else stored
            numbers = _unshuffled(content, self.dtype.itemsize) if self.shuffle else content
            return np.frombuffer(numbers, self.dtype, count=_CELLS)
        except (zlib.error, ValueError) as error:
            raise OSError(f"event {row} (from 0): {error}") from error


class EventFile:
    """Events of one file. The first read opens the file. The first read after `close` opens it again."""

    def __init__(self, file: ShowerFile) -> None:
        self.file = file
        """The original file."""
        self.source = file.path
        """The file that is read: `file.path`, or a copy of it."""
        self.decoded = 1
        """Number of events that HDF5 decodes to read one. It is known after the file was opened for the first time."""
        self._stamp: tuple[int, ...] = ()
        self._targets: Rows = np.empty(0)
        self._places: Places | None = None
        self._descriptor: int | None = None
        self._through: h5py.Dataset | None = None

    def energies(self, rows: slice) -> Rows:
        """Return primary energies in GeV, (rows,), in the type of the file. They are not checked.

        Raises:
            InputError: the file cannot be read.
        """
        with self._opened():
            return self._targets[rows]

    def cells(self, rows: slice, into: npt.NDArray[np.float32]) -> None:
        """Fill `into`, (rows, 25, 25, 25), with unchecked cells in GeV. Values too large for float32 become infinite.

        Raises:
            InputError: the file cannot be read.
        """
        with self._opened(), np.errstate(over="ignore"):
            if self._through is not None:
                into[:] = self._through[rows].reshape(-1, *SHAPE)
            elif self._places is not None and self._descriptor is not None:
                for place, row in enumerate(range(rows.start, rows.stop)):
                    into[place] = self._places.read(self._descriptor, row).reshape(SHAPE)

    def use(self, source: Path) -> None:
        """Read from `source` from now on: another file with the same events."""
        if source != self.source:
            self.close()
            self.source, self._stamp = source, ()

    def open(self) -> None:
        """Open the file. If it is new or has changed, find the positions of its events.

        Raises:
            InputError: the file cannot be read, or its number of events has changed.
        """
        with self._opened():
            pass

    def close(self) -> None:
        """Close the file, if it is open."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        if self._through is not None:
            self._through.file.close()
        self._descriptor = self._through = None

    @contextmanager
    def _opened(self) -> Iterator[None]:
        """Open the file if it is closed, and turn errors of reading into an InputError."""
        try:
            if self._descriptor is None and self._through is None:
                self._open()
            yield
        except UNREADABLE as error:
            raise unreadable(self.source, error) from error

    def _open(self) -> None:
        descriptor = os.open(self.source, os.O_RDONLY)
        try:
            status = os.fstat(descriptor)
            stamp = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            if stamp != self._stamp or self._places is None:
                self._look_up()
                if os.stat(self.source).st_ino != status.st_ino:
                    raise OSError("another process replaced it at the same time")
                self._stamp = stamp
            if self._places is not None:
                self._descriptor, descriptor = descriptor, -1
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def _look_up(self) -> None:
        """Read all energies (0.2 MB for 10,000 events) and find the positions. Without positions, keep HDF5 open."""
        handle = open_file(self.source)
        try:
            cells, target = data_sets(handle, self.file.path)
            if len(cells) != self.file.events:
                raise InputError(
                    f"{self.file.path} has {len(cells)} events; expected {self.file.events} as at the start. "
                    "Another program has changed the file: start again."
                )
            self._targets = target[:, 1]
            self._places = Places.of(cells)
            self.decoded = 1
            if self._places is None:
                if can_list_chunks(cells):
                    chunk_places(cells)  # for its check, before HDF5 uses the index
                self.decoded = cells.chunks[0] if cells.chunks else 1
                self._through, handle = cells, None
        finally:
            if handle is not None:
                handle.close()


def _unshuffled(content: bytes, itemsize: int) -> npt.NDArray[np.uint8]:
    """Undo HDF5's shuffle filter, which stores the first bytes of all numbers, then the second bytes, and so on."""
    numbers = np.empty((_CELLS, itemsize), dtype=np.uint8)
    # Copying column by column is three times as fast as NumPy's copy of the transpose.
    for place, column in enumerate(np.frombuffer(content, np.uint8).reshape(itemsize, _CELLS)):
        numbers[:, place] = column
    return numbers
