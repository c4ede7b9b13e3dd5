"""CERN's fixed-angle layout of HDF5 shower files: names and shapes, and a check that a file follows it.

A file holds two data sets. `ECAL` (events, 25, 25, 25) is the energy in each cell in GeV; the last axis is the depth.
`target` (events, 2 or more) holds the primary energy in GeV in column 1. Other data sets are ignored. Cells may have
any numeric type and a further last axis of length 1.

`showers` finds files and reads events, `writing` writes files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py

from gan.data.chunks import can_list_chunks, chunk_places
from gan.errors import InputError

__all__ = [
    "CELLS",
    "CELL_CUT",
    "ELECTRON",
    "EVENTS_PER_FILE",
    "FILE_NAME",
    "SHAPE",
    "TARGET",
    "UNREADABLE",
    "ShowerFile",
    "check_file",
    "data_sets",
    "open_file",
    "unreadable",
]

CELLS = "ECAL"
"""Name of the data set of cells."""
TARGET = "target"
"""Name of the data set of primary energies."""
SHAPE = (25, 25, 25)
"""Cells of one event along x, y and the depth."""
EVENTS_PER_FILE = 10_000
"""Default number of events in one file, as in CERN's data."""
FILE_NAME = "EleEscan_{k}_{n}.h5"
"""Pattern of a file name, with the number `k` of the production and the number `n` of the file in it, both from 1."""
CELL_CUT = 1e-6
"""Smallest signal of a cell in GeV. Smaller values are read as 0."""
ELECTRON = 11
"""PDG id of the electron: the value of column 0 of `target` in the files of this project."""

UNREADABLE = (OSError, RuntimeError, KeyError)
"""Exceptions that h5py raises for a file that is truncated, damaged, or not HDF5."""

_ADVICE = "Use files in the fixed-angle layout of 3DGAN, see docs/physics.md."


@dataclass(frozen=True, slots=True)
class ShowerFile:
    """A file that follows the layout."""

    path: Path
    """Path of the file."""
    events: int
    """Number of events in the file."""


def check_file(path: Path) -> ShowerFile:
    """Open a file and check its header.

    Raises:
        InputError: the file cannot be read or does not follow the layout.
    """
    try:
        with open_file(path) as file:
            return ShowerFile(path, len(data_sets(file, path)[0]))
    except InputError:
        raise
    except (*UNREADABLE, ValueError) as error:
        # A damaged header may name a numeric type that does not exist: h5py then raises a ValueError.
        raise unreadable(path, error) from error


def open_file(path: Path) -> h5py.File:
    """Open a file for reading without a lock: many ranks read it, and some file systems have no locks."""
    return h5py.File(path, "r", locking=False)


def data_sets(file: h5py.File, path: Path) -> tuple[h5py.Dataset, h5py.Dataset]:
    """Return the data sets of cells and targets of an open file.

    Raises:
        InputError: a data set is missing, has another shape or type, or holds no event.
        OSError: the index of the energies is damaged.
    """
    for name in (CELLS, TARGET):
        if name not in file or not isinstance(file[name], h5py.Dataset):
            content = ", ".join(map(str, file)) or "nothing"
            raise InputError(f"{path} has no data set '{name}'; it holds {content}. {_ADVICE}")
    cells, target = file[CELLS], file[TARGET]
    # The shape of an empty data set is None.
    if (cells.shape or ())[1:] not in (SHAPE, (*SHAPE, 1)) or cells.dtype.kind not in "fiu":
        raise InputError(
            f"{path}: '{CELLS}' has the shape {cells.shape} and type {cells.dtype}; "
            f"expected numbers of shape (events, {', '.join(map(str, SHAPE))}). {_ADVICE}"
        )
    if target.ndim != 2 or target.shape[1] < 2 or target.dtype.kind not in "fiu":
        raise InputError(
            f"{path}: '{TARGET}' has the shape {target.shape} and type {target.dtype}; "
            f"expected numbers of shape (events, 2), the energy in column 1. {_ADVICE}"
        )
    if len(cells) != len(target):
        raise InputError(
            f"{path}: '{CELLS}' has {len(cells)} events and '{TARGET}' {len(target)}; "
            "expected the same number in both. The file may be incomplete: copy or write it again."
        )
    if not len(cells):
        raise InputError(f"{path} holds 0 events; expected at least one. Leave the file out.")
    # The index of the cells is large; who reads the cells checks it.
    if can_list_chunks(target):
        chunk_places(target)
    return cells, target


def unreadable(path: Path, error: Exception) -> InputError:
    """Return the error for a file that HDF5 cannot open or read."""
    return InputError(
        f"{path} cannot be read ({error}); expected a complete HDF5 file. Give another file, correct its permissions, "
        "or copy it again."
    )
