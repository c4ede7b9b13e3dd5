"""Write HDF5 files of showers in the form that is fastest to read at random: one compressed event per chunk.

`layout` describes the data sets of a file, and `showers` reads files.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
from h5py._hl.base import phil

from gan.data.layout import CELLS, ELECTRON, SHAPE, TARGET
from gan.errors import InputError

__all__ = ["ShowerWriter", "WriteError", "pack", "write_showers"]

_COMPRESSION_LEVEL = 1


class WriteError(InputError):
    """A file cannot be written, for example because the disk is full or the folder is read-only."""


class ShowerWriter:
    """Write a file of known length batch by batch: `with ShowerWriter(path, events, attributes) as writer`.

    The file gets its name when the block ends without an error. Until then, and after an error, an older file of that
    name stays.

    `ECAL` has one event per chunk, compressed with gzip at level 1. A simulated shower then takes 5 kB instead of
    63 kB: the page cache of a node holds a whole data set, and `gan.data.reading` reads events without HDF5. The
    checksum of gzip shows damage. (With the shuffle filter an event takes 8 kB, and decoding takes longer.)

    Raises:
        WriteError: the file cannot be written.
        ValueError: the number of written events is not `events`.
    """

    def __init__(self, path: str | os.PathLike[str], events: int, attributes: Mapping[str, Any]) -> None:
        """Prepare a file.

        Args:
            path: the file. Its folder must exist.
            events: number of events in the whole file.
            attributes: attributes of the file, such as the seed.
        """
        self.path = Path(path)
        self._beside = self.path.with_name(f".{self.path.name}.part")
        self._attributes = attributes
        self._targets = np.zeros((events, 2), dtype=np.float64)
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

    def append(self, packed: Sequence[bytes], energies: npt.ArrayLike, particles: npt.ArrayLike = ELECTRON) -> None:
        """Add events.

        Args:
            packed: cells of each event, from `pack`.
            energies: primary energies in GeV, one per event.
            particles: PDG ids, one per event or one for all.

        Raises:
            WriteError: the file cannot be written.
        """
        after = self._written + len(packed)
        self._targets[self._written : after, 0] = particles
        self._targets[self._written : after, 1] = energies
        try:
            # HDF5 is not thread-safe, and `write_direct_chunk` does not take h5py's lock by itself.
            with phil:
                for event, chunk in enumerate(packed, start=self._written):
                    self._cells.id.write_direct_chunk((event, 0, 0, 0), chunk)
        except (OSError, RuntimeError) as error:
            raise self._refused(error) from error
        self._written = after

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._finish()
        # If the disk is full when a file is closed, HDF5 raises a RuntimeError.
        except (OSError, RuntimeError) as error:
            raise self._refused(error) from error
        finally:
            self._discard()

    def _finish(self) -> None:
        if self._written != len(self._targets):
            raise ValueError(f"{self._written} of {len(self._targets)} events were appended to {self.path}")
        self._file.create_dataset(TARGET, data=self._targets)
        self._file.close()
        # Sync before the rename, so that a file of that name is complete even after a crash of the node.
        with self._beside.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(self._beside, self.path)

    def _discard(self) -> None:
        """Close and remove an unfinished file. Do nothing after a success."""
        if self._file is None:
            return
        # If the disk is full, closing fails too.
        with suppress(OSError, RuntimeError):
            self._file.close()
        self._beside.unlink(missing_ok=True)

    def _refused(self, error: Exception) -> WriteError:
        return WriteError(
            f"{self.path} cannot be written ({error}); expected a folder with space where you may write. "
            "Give another folder, or make space in this one."
        )


def pack(cells: npt.ArrayLike) -> list[bytes]:
    """Compress cells (n, 25, 25, 25) in GeV event by event, for `ShowerWriter.append`."""
    return [zlib.compress(event, _COMPRESSION_LEVEL) for event in np.ascontiguousarray(cells, dtype="<f4")]


def write_showers(
    path: str | os.PathLike[str], cells: npt.ArrayLike, energies: npt.ArrayLike, attributes: Mapping[str, Any]
) -> None:
    """Write a complete file in one call.

    Args:
        path: the file. Its folder must exist.
        cells: energies in the cells in GeV, (n, 25, 25, 25).
        energies: primary energies in GeV, (n,).
        attributes: attributes of the file.

    Raises:
        WriteError: the file cannot be written.
    """
    energies = np.asarray(energies)
    with ShowerWriter(path, len(energies), attributes) as writer:
        writer.append(pack(cells), energies)
