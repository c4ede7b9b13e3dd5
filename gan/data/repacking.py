"""Rewrite shower files in the form that is fastest to read at random: `python -m gan repack`.

HDF5 decodes a whole chunk to read one event in it. With the chunks that h5py chooses by itself for compressed showers
(4 x 4 x 4 cells of 250 events or more), a batch of 8 takes 0.4 s of one core; with chunks of 100 events it takes 0.1 s.
The new files have one event per chunk, as `writing` writes them.

`unpacking` uses the same code for temporary copies.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from gan.data.chunks import can_list_chunks, chunk_places
from gan.data.layout import SHAPE, UNREADABLE, ShowerFile, data_sets, open_file, unreadable
from gan.data.production import make_folder
from gan.data.writing import ShowerWriter, pack
from gan.errors import InputError

__all__ = ["repack_file", "repack_files"]

EVENTS_AT_ONCE = 512
"""Number of events to decode together, or one chunk if it holds more. 512 events take 32 MB in float32."""


def repack_files(
    files: Sequence[ShowerFile], out: Path, *, overwrite: bool = False, report: Callable[[int], None] | None = None
) -> list[Path]:
    """Rewrite files under the same names in another folder, and return the new paths in order.

    Args:
        files: the files to read.
        out: folder of the new files; created if it does not exist.
        overwrite: whether to replace files in `out` that have these names. The files to read are never replaced.
        report: called with the number of events written since the last call.

    Raises:
        InputError: two files have the same name, a new file would replace another one, a file cannot be read, or the
            new ones cannot be written.
    """
    targets = {out / file.path.name: file.path for file in files}
    if len(targets) < len(files):
        raise InputError(
            f"{len(files)} files have only {len(targets)} different names; expected different names, since the new "
            "files keep them. Repack files of the same name one after the other, each with its own --out."
        )
    sources = {os.path.realpath(file.path) for file in files}
    for target in targets:
        if target.exists() and os.path.realpath(target) in sources:
            raise InputError(f"{target} exists and is a file to read; expected another folder. Give another --out.")
        if target.exists() and not overwrite:
            raise InputError(
                f"{target} exists; expected a folder without files of these names. Give another --out, or replace the "
                "files with --overwrite."
            )
    make_folder(out)
    for target, source in targets.items():
        repack_file(source, target, report)
    return list(targets)


def repack_file(source: Path, target: Path, report: Callable[[int], None] | None = None) -> int:
    """Rewrite the events of one file: one event per chunk, float32, compressed with gzip. Return their number.

    Every chunk is decoded once. Data sets other than `ECAL` and further columns of `target` are not copied. The new
    file gets its name when it is complete.

    Args:
        source: the file to read.
        target: the new file. Its folder must exist.
        report: called with the number of events written since the last call.

    Raises:
        InputError: `source` cannot be read.
        WriteError: `target` cannot be written.
    """
    try:
        with open_file(source) as handle:
            cells, labels = data_sets(handle, source)
            if can_list_chunks(cells):
                chunk_places(cells)  # for its check, before HDF5 uses the index
            chunk = cells.chunks[0] if cells.chunks else 1
            piece = max(chunk, EVENTS_AT_ONCE // chunk * chunk)
            with ShowerWriter(target, len(cells), dict(handle.attrs)) as writer:
                for begin in range(0, len(cells), piece):
                    rows = slice(begin, begin + piece)
                    # Copy values that are not finite, too. The program that reads the new file reports them.
                    with np.errstate(over="ignore"):
                        packed = pack(cells[rows].reshape(-1, *SHAPE).astype(np.float32))
                    ids_and_energies = labels[rows, :2]
                    writer.append(packed, ids_and_energies[:, 1], ids_and_energies[:, 0])
                    if report:
                        report(len(packed))
            return len(cells)
    except UNREADABLE as error:
        raise unreadable(source, error) from error
