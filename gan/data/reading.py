"""Events out of one HDF5 file, at random: where the bytes of each lie, and how they become cells.

A training asks for events in random order, 8 at a time. HDF5 answers under h5py's lock. But where the bytes of an
event lie together, their place in the file is all one needs: places are looked up once, and from then on an event is
one `pread` and, where it is compressed, one call of zlib. Both release the GIL. Nothing is kept in memory: the kernel's
page cache is the cache. Workers of a node share it and read different events of an epoch, so no byte is there twice;
it takes 5 kB an event of this project's own files, and gives way where memory is short. A batch of 8 takes 1.6 ms of a
core, 0.8 of them in zlib. Decoded events in memory shared by a node's workers would save those 0.8 ms, a thousandth of
a step, for twelve times the memory.

Such files are uncompressed, contiguous or in chunks of whole events, or have one event a chunk, compressed with gzip,
with or without the shuffle filter. All others are read through HDF5; if a chunk spans many events, all of them are
decoded for each, which is why `unpacking` rewrites them. What a file must look like is `layout`'s business, and
which events are asked for `feeding`'s.
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

from gan.data.layout import SHAPE, UNREADABLE, ShowerFile, data_sets, open_file, unreadable
from gan.errors import InputError

__all__ = ["EventFile", "Places"]

_CELLS = int(np.prod(SHAPE))
_FILTERS = ((), (h5py.h5z.FILTER_DEFLATE,), (h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE))
"""Those that `Places.decode` undoes, in the order in which they were applied."""

Rows = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Places:
    """Where the bytes of each event lie in a file, and what they are."""

    offsets: npt.NDArray[np.int64]
    """Of the first byte of each event, (events,)."""
    sizes: npt.NDArray[np.int64]
    """Stored bytes of each event, (events,)."""
    dtype: np.dtype[Any]
    deflate: bool = False
    shuffle: bool = False
    """Whether bytes were sorted by significance before they were compressed."""

    @classmethod
    def of(cls, cells: h5py.Dataset) -> Places | None:
        """Look up the places in a data set of shape (events, 25, 25, 25, ...); None where HDF5 has to read it."""
        create = cells.id.get_create_plist()
        filters = tuple(create.get_filter(number)[0] for number in range(create.get_nfilters()))
        # A user block shifts all places by its length, in some versions of HDF5; others cannot list chunks.
        if filters not in _FILTERS or cells.file.userblock_size or not hasattr(cells.id, "chunk_iter"):
            return None
        if cells.id.get_type().get_size() != cells.dtype.itemsize:
            return None  # a type that NumPy does not have: HDF5 converts it
        bytes_each, events = _CELLS * cells.dtype.itemsize, np.arange(len(cells))
        sizes = np.full(len(cells), bytes_each)
        if cells.chunks is None:
            begin = cells.id.get_offset()  # None where the data lie elsewhere, or were never written
            return None if begin is None else cls(offsets=begin + events * bytes_each, sizes=sizes, dtype=cells.dtype)
        per_chunk = cells.chunks[0]
        if cells.chunks[1:] != cells.shape[1:] or (filters and per_chunk > 1):
            return None
        starts, stored = _chunks(cells)
        if not stored.all():
            return None  # never written, or written with another choice of filters
        if filters:
            return cls(offsets=starts, sizes=stored, dtype=cells.dtype, deflate=True, shuffle=len(filters) == 2)
        return cls(
            offsets=starts[events // per_chunk] + events % per_chunk * bytes_each, sizes=sizes, dtype=cells.dtype
        )

    def read(self, descriptor: int, row: int) -> Rows:
        """Return the cells (15625,) of an event, in the type of the file. Raises OSError where they are damaged."""
        size = int(self.sizes[row])
        stored = os.pread(descriptor, size, int(self.offsets[row]))
        if len(stored) != size:
            raise OSError(f"event {row} (from 0): {len(stored)} of {size} bytes are there")
        try:
            content = zlib.decompress(stored, bufsize=_CELLS * self.dtype.itemsize) if self.deflate else stored
            numbers = _unshuffled(content, self.dtype.itemsize) if self.shuffle else content
            return np.frombuffer(numbers, self.dtype, count=_CELLS)
        except (zlib.error, ValueError) as error:
            raise OSError(f"event {row} (from 0): {error}") from error


class EventFile:
    """The events of one file. Opened when first read from; after `close` a read opens it again."""

    def __init__(self, file: ShowerFile) -> None:
        self.file = file
        self.source = file.path
        self.decoded = 1
        """Events that have to be decoded to get at one; known once the file is open."""
        self._stamp: tuple[int, ...] = ()
        self._targets: Rows = np.empty(0)
        self._places: Places | None = None
        self._descriptor: int | None = None
        self._through: h5py.Dataset | None = None

    def energies(self, rows: slice) -> Rows:
        """Return energies, column 1 of the target, in the type of the file. Raises InputError if it cannot be read."""
        with self._opened():
            return self._targets[rows]

    def cells(self, rows: slice, into: npt.NDArray[np.float32]) -> None:
        """Fill `into`, (rows, 25, 25, 25), with cells in GeV, unchecked. Raises InputError if the file cannot be read.

        What is too large for float32 becomes infinite.
        """
        with self._opened(), np.errstate(over="ignore"):
            if self._through is not None:
                into[:] = self._through[rows].reshape(-1, *SHAPE)
            elif self._places is not None and self._descriptor is not None:
                for place, row in enumerate(range(rows.start, rows.stop)):
                    into[place] = self._places.read(self._descriptor, row).reshape(SHAPE)

    def use(self, source: Path) -> None:
        """Read from another file that holds the same events from now on."""
        if source != self.source:
            self.close()
            self.source, self._stamp = source, ()

    def open(self) -> None:
        """Open the file and, where it is new or has changed, look up where its events lie. Raises InputError."""
        with self._opened():
            pass

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
        if self._through is not None:
            self._through.file.close()
        self._descriptor = self._through = None

    @contextmanager
    def _opened(self) -> Iterator[None]:
        try:
            if self._descriptor is None and self._through is None:
                self._open()
            yield
        except UNREADABLE as error:
            raise unreadable(self.source, error) from error

    def _open(self) -> None:
        descriptor = os.open(self.source, os.O_RDONLY)
        try:
            seen = os.fstat(descriptor)
            stamp = (seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns)
            if stamp != self._stamp or self._places is None:
                self._look_up()
                if os.stat(self.source).st_ino != seen.st_ino:
                    raise OSError("it was replaced while it was opened")
                self._stamp = stamp
            if self._places is not None:
                self._descriptor, descriptor = descriptor, -1
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def _look_up(self) -> None:
        """Read the energies, 0.2 MB in a file of 10,000 events, and the places; leave HDF5 open if it has to read."""
        handle = open_file(self.source)
        try:
            cells, target = data_sets(handle, self.file.path)
            if len(cells) != self.file.events:
                raise InputError(
                    f"{self.file.path} has {len(cells)} events; {self.file.events} were there at first. "
                    f"The file was changed meanwhile: start again."
                )
            self._targets = target[:, 1]
            self._places = Places.of(cells)
            self.decoded = 1
            if self._places is None:
                self.decoded = cells.chunks[0] if cells.chunks else 1
                self._through, handle = cells, None
        finally:
            if handle is not None:
                handle.close()


def _unshuffled(content: bytes, itemsize: int) -> npt.NDArray[np.uint8]:
    """Put bytes that lie sorted by their place in a number back into numbers."""
    numbers = np.empty((_CELLS, itemsize), dtype=np.uint8)
    # Byte by byte: three times as fast as NumPy's copy of the transpose.
    for place, column in enumerate(np.frombuffer(content, np.uint8).reshape(itemsize, _CELLS)):
        numbers[:, place] = column
    return numbers


def _chunks(cells: h5py.Dataset) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Offset and stored bytes of each chunk of whole events; 0 bytes where a chunk is missing or left unfiltered."""
    offsets, sizes = (np.zeros(-(-len(cells) // cells.chunks[0]), dtype=np.int64) for _ in range(2))

    def note(chunk: Any) -> None:
        number = chunk.chunk_offset[0] // cells.chunks[0]
        offsets[number] = chunk.byte_offset
        sizes[number] = 0 if chunk.filter_mask else chunk.size

    cells.id.chunk_iter(note)
    return offsets, sizes
