"""CERN's fixed-angle layout of HDF5 files of showers: names and shapes, and whether a file follows them.

A file holds `ECAL` (N, 25, 25, 25), the cells in GeV with the depth as the last axis, and `target` (N, 2 or
more), the primary energy in GeV in column 1. Other data sets may be there, cells may have any type of number
and a last axis of 1. Finding files, reading events and writing are left to `gan.data.showers`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py

from gan.errors import InputError

__all__ = [
    "CELLS",
    "CELL_CUT",
    "ELECTRON",
    "ENERGY_LIMIT",
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
TARGET = "target"
SHAPE = (25, 25, 25)
EVENTS_PER_FILE = 10_000
FILE_NAME = "EleEscan_{k}_{n}.h5"
"""k counts productions and n the files of one, both from 1."""
CELL_CUT = 1e-6
"""GeV; what lies below is no signal and is read as 0."""
ENERGY_LIMIT = 1000.0
"""GeV; nothing in this detector's data lies above, so a larger number is in another unit."""
ELECTRON = 11
"""PDG id, column 0 of `target` in the files that we write."""

UNREADABLE = (OSError, RuntimeError, KeyError)
"""What h5py raises for a file that is no HDF5 file, truncated or damaged, depending on the place."""

_ADVICE = "Use files in the fixed-angle layout of 3DGAN."


@dataclass(frozen=True, slots=True)
class ShowerFile:
    """A file that was found to hold showers."""

    path: Path
    events: int


def check_file(path: Path) -> ShowerFile:
    """Open a file and look at its header. Raises InputError if it does not follow the layout."""
    try:
        with open_file(path) as file:
            return ShowerFile(path, len(data_sets(file, path)[0]))
    except InputError:
        raise
    except (*UNREADABLE, ValueError) as error:
        # A damaged header may name a type of number that does not exist, a ValueError.
        raise unreadable(path, error) from error


def open_file(path: Path) -> h5py.File:
    """Open a file to read, without a lock: many ranks do so, and some cluster file systems have no locks."""
    return h5py.File(path, "r", locking=False)


def data_sets(file: h5py.File, path: Path) -> tuple[h5py.Dataset, h5py.Dataset]:
    """Return the data sets of cells and targets. Raises InputError if one is missing or has another form."""
    for name in (CELLS, TARGET):
        if name not in file or not isinstance(file[name], h5py.Dataset):
            held = ", ".join(map(str, file)) or "nothing"
            raise InputError(f"{path} has no data set '{name}'; it holds {held}. {_ADVICE}")
    cells, target = file[CELLS], file[TARGET]
    # An empty data set has no shape at all.
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
            f"expected as many of each. The file may be incomplete: copy or write it again."
        )
    if not len(cells):
        raise InputError(f"{path} holds 0 events; expected at least one. Leave the file out.")
    return cells, target


def unreadable(path: Path, error: Exception) -> InputError:
    """Return the error for a file that HDF5 cannot open or read from."""
    return InputError(
        f"{path} cannot be read ({error}); expected a whole HDF5 file. Check its rights, or copy or write it again."
    )
