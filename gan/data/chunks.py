"""Read the index of the chunks of an HDF5 data set, and check it.

HDF5 does not check the numbers in this index, and it crashes on some wrong ones.
"""

from __future__ import annotations

import math
import os
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

__all__ = ["can_list_chunks", "chunk_places", "filters_of"]

_KEEP_SIZE = {h5py.h5z.FILTER_SHUFFLE: 0, h5py.h5z.FILTER_FLETCHER32: 4}
"""Filters that do not compress, with the bytes that they add to a chunk."""


def filters_of(data: h5py.Dataset) -> tuple[int, ...]:
    """Return the numbers of the filters of a data set, in the order in which HDF5 applies them."""
    create = data.id.get_create_plist()
    return tuple(create.get_filter(number)[0] for number in range(create.get_nfilters()))


def can_list_chunks(data: h5py.Dataset) -> bool:
    """Return True if the data set has chunks, and this version of HDF5 can list them."""
    return data.chunks is not None and hasattr(data.id, "chunk_iter")


def chunk_places(data: h5py.Dataset) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the offset in the file and the stored bytes of every chunk, the last axis fastest.

    A size of 0 means that the chunk was never written, or was written without a filter.

    Args:
        data: a data set for which `can_list_chunks` is True.

    Raises:
        OSError: the index is damaged.
    """
    grid = [-(-length // chunk) for length, chunk in zip(data.shape, data.chunks, strict=True)]
    offsets, sizes = (np.zeros(math.prod(grid), dtype=np.int64) for _ in range(2))
    end = os.path.getsize(data.file.filename)
    filters, plain = filters_of(data), math.prod(data.chunks) * data.id.get_type().get_size()

    def note(chunk: Any) -> None:
        cell = [begin // length for begin, length in zip(chunk.chunk_offset, data.chunks, strict=True)]
        used = [kind for bit, kind in enumerate(filters) if not chunk.filter_mask >> bit & 1]
        known = all(kind in _KEEP_SIZE for kind in used)
        # A wrong number can be larger than int64, so compare before it goes into an array.
        if (
            any(place >= places for place, places in zip(cell, grid, strict=True))
            or chunk.byte_offset + chunk.size > end
            or not chunk.size
            or (known and chunk.size != plain + sum(_KEEP_SIZE[kind] for kind in used))
        ):
            place = f"row {chunk.chunk_offset[0]} (from 0), {chunk.size} bytes at {chunk.byte_offset} of {end}"
            raise OSError(f"the index of the chunks of {data.name} is damaged: {place}")
        number = int(np.ravel_multi_index(cell, grid))
        offsets[number] = chunk.byte_offset
        sizes[number] = 0 if chunk.filter_mask else chunk.size

    data.id.chunk_iter(note)
    return offsets, sizes
