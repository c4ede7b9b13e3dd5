"""Small showers and shower files for the tests of `gan`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from gan.data.layout import CELLS, ELECTRON, SHAPE, TARGET

__all__ = ["random_showers", "target_of", "write_raw"]


def random_showers(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return sparse cells above the cut, and primary energies. Both are different in every event."""
    rng = np.random.default_rng(seed)
    cells = rng.uniform(0.001, 1.0, (count, *SHAPE)) * (rng.random((count, *SHAPE)) < 0.05)
    return cells.astype(np.float32), rng.uniform(2, 500, count).astype(np.float32)


def target_of(energies: np.ndarray) -> np.ndarray:
    """Return the data set `target` of electrons with these primary energies."""
    return np.stack([np.full(len(energies), float(ELECTRON)), energies], axis=1)


def write_raw(path: Path, cells: Any, target: Any, **options: Any) -> Path:
    """Write a file without this project's writer, and return its path. A data set that is None is left out.

    `options` are options of h5py for the cells, such as `chunks`.
    """
    with h5py.File(path, "w") as file:
        if cells is not None:
            file.create_dataset(CELLS, data=cells, **options)
        if target is not None:
            file.create_dataset(TARGET, data=target)
    return path
