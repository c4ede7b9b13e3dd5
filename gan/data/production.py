"""Common steps of the commands that write shower files: check options, plan files, prepare the folder.

`gan.simulation.production` and `gan.generation.production` compute the showers. `writing` writes one file.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Container, Iterator, Mapping
from pathlib import Path

from gan.data.layout import FILE_NAME
from gan.errors import InputError
from scaling.records.wording import count

__all__ = ["check_counts", "check_seed", "make_folder", "pieces", "plan_files", "prepare_folder", "provenance"]


def check_counts(counts: Mapping[str, int | None]) -> None:
    """Check that option values are 1 or more. A value of None means that the option was not given.

    Args:
        counts: values by the names of the options, with `_` for `-`.

    Raises:
        InputError: a value is below 1. The message names the option.
    """
    for name, value in counts.items():
        if value is not None and value < 1:
            option = f"--{name.replace('_', '-')}"
            raise InputError(f"{option} is {value}; expected a whole number of 1 or more. Change {option}.")


def check_seed(seed: int, largest: int) -> None:
    """Raise InputError if the value of `--seed` is not between 0 and `largest`."""
    if not 0 <= seed <= largest:
        raise InputError(f"--seed is {seed}; expected a whole number from 0 to {largest}. Change --seed.")


def pieces(events: range, size: int) -> Iterator[range]:
    """Yield consecutive pieces of `size` events. The last piece holds the rest."""
    for start in range(0, len(events), size):
        yield events[start : start + size]


def plan_files(folder: Path, events: int, events_per_file: int) -> dict[Path, range]:
    """Return the files of a data set in order, each with the numbers of its events, from 0."""
    numbered = enumerate(pieces(range(events), events_per_file), start=1)
    return {folder / FILE_NAME.format(k=1, n=n): piece for n, piece in numbered}


def prepare_folder(folder: Path, files: Container[Path], *, overwrite: bool | None = None) -> None:
    """Create the output folder, and check that its old shower files are neither lost nor mixed with the new ones.

    Args:
        folder: value of `--out`.
        files: paths of the new files.
        overwrite: value of `--overwrite`; None for a command without this option.

    Raises:
        InputError: the folder cannot be created, or it holds shower files that must not be replaced, or that the new
            files would not replace.
    """
    make_folder(folder)
    present = sorted(folder.glob(FILE_NAME.format(k="*", n="*")))
    if present and not overwrite:
        way_out = "remove them" if overwrite is None else "replace them with --overwrite"
        raise InputError(
            f"{present[0]} exists already ({count(len(present), 'such file')} in the folder); expected a folder "
            f"without shower files. Give another --out, or {way_out}."
        )
    # If one folder held the files of two productions, a training would read them as one data set.
    others = [path for path in present if path not in files]
    if others:
        raise InputError(
            f"{others[0]} would stay beside the new files ({count(len(others), 'such file')} in the folder); expected "
            "only files that the new ones replace. Remove it, or give another --out."
        )


def make_folder(folder: Path) -> None:
    """Create an output folder and its parents. Raise InputError if this fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"The folder {folder} cannot be made ({error}); expected a place where you may write. "
            "Give another --out, or change the permissions."
        ) from error


def provenance(command: str, method: str) -> dict[str, str]:
    """Return the first attributes of all files of this project: the command, the method and the version.

    Args:
        command: subcommand of `python -m gan`.
        method: how the showers were computed, in words.
    """
    try:
        version = importlib.metadata.version("3dgan-scaling")
    except importlib.metadata.PackageNotFoundError:
        version = "unknown"
    return {"generator": f"3dgan-scaling, python -m gan {command}", "method": method, "version": version}
