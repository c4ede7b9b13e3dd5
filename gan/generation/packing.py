"""Pack a trained generator into a small file that can only generate, for example to send it to somebody."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from gan.errors import InputError
from gan.generation.network import GeneratorWeights, read_generator
from gan.run.checkpoint import GENERATOR, UNITS, Checkpoint, write_checkpoint
from gan.run.folder import find_checkpoint

__all__ = ["pack_generator"]


def pack_generator(source: Path, out: Path, *, overwrite: bool = False) -> GeneratorWeights:
    """Write the generator of a checkpoint to a new file, with kernels in half precision.

    Half precision keeps 11 significant bits, 3 more than BF16, in which networks may compute.

    Args:
        source: checkpoint or folder of a training, see `find_checkpoint`.
        out: the new file.
        overwrite: whether to replace an existing file.

    Returns:
        What the new file holds.

    Raises:
        InputError: there is no generator, a weight does not fit into half precision, or the file cannot be written.
    """
    weights = read_generator(find_checkpoint(source))
    if out.exists() and not overwrite:
        raise InputError(f"--out {out} exists; expected a new file: change --out, or give --overwrite")
    groups = {GENERATOR: [_halved(array, source) for array in weights.arrays], UNITS: weights.units}
    checkpoint = Checkpoint(
        epochs=weights.epochs,
        steps=weights.steps,
        arrays={
            f"{group}/{number:03d}": array for group, arrays in groups.items() for number, array in enumerate(arrays)
        },
        about={"settings": dict(weights.settings)},
    )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_checkpoint(out, checkpoint)
    except OSError as error:
        raise InputError(f"--out {out} cannot be written ({error}); expected a file in a writable folder") from error
    return read_generator(out)


def _halved(array: np.ndarray, source: Path) -> npt.NDArray[np.floating]:
    """Return a kernel in half precision. Vectors stay as they are: they are small, and variances vary widely."""
    if array.ndim < 2:
        return array
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    if not np.isfinite(half).all():
        raise InputError(
            f"{source} holds a weight of {np.abs(array).max():g}; expected at most {np.finfo(np.float16).max:g}: use "
            "the checkpoint itself"
        )
    return half
