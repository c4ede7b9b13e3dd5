"""New HDF5 files of showers, in the form that is read fastest at random: one compressed event a chunk.

Reading is left to `gan.data.showers`; what such a file holds is told by `gan.data.layout`.
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
    """The file system refuses what is to be written."""


class ShowerWriter:
    """Writes a file of known length batch by batch: `with ShowerWriter(path, events, attributes) as writer`.

    The file appears under its name when the block ends well and all events are there; until then, and after
    an error, whatever had that name before stays. Raises WriteError if the file system refuses.

    `ECAL` has one event a chunk, compressed by gzip level 1. Simulated showers then take 5 kB instead of
    63 kB, little enough for the page cache of a node to hold a whole data set, and `gan.data.reading` gets at any one
    without HDF5; damage is noticed by gzip's checksum. (With the shuffle filter they take 8 kB and longer to decode.)
    """

    def __init__(self, path: str | os.PathLike[str], events: int, attributes: Mapping[str, Any]) -> None:
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
        """Add events, cells from `pack`, as many energies in GeV, and PDG ids."""
        after = self._written + len(packed)
        self._targets[self._written : after, 0] = particles
        self._targets[self._written : after, 1] = energies
        try:
            # h5py's lock, which this call alone does not take by itself: HDF5 is not made for several threads.
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
        # HDF5 has no other error than RuntimeError for a disk that is full when it closes a file.
        except (OSError, RuntimeError) as error:
            raise self._refused(error) from error
        finally:
            self._discard()

    def _finish(self) -> None:
        if self._written != len(self._targets):
            raise ValueError(f"{self._written} of {len(self._targets)} events were written to {self.path}")
        self._file.create_dataset(TARGET, data=self._targets)
        self._file.close()
        # On disk before it has its name: a file of that name is whole, also after a node's crash.
        with self._beside.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(self._beside, self.path)

    def _discard(self) -> None:
        """Remove what is unfinished; after a success nothing is left to do."""
        if self._file is None:
            return
        # A full disk makes closing fail as well.
        with suppress(OSError, RuntimeError):
            self._file.close()
        self._beside.unlink(missing_ok=True)

    def _refused(self, error: Exception) -> WriteError:
        return WriteError(f"{self.path} cannot be written ({error}). Give a folder with the right and room to write.")


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
