"""Checkpoints: the whole state of a training in one file. Only this module knows the format and the file names.

A checkpoint is an archive of arrays, with a JSON text that describes them. A digest of the archive reveals damage.
A checkpoint holds no state of random numbers, because these are functions of the seed and the position, see
`ops.draws`.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gan.errors import InputError
from gan.run.archive import read_archive, write_archive
from scaling.records.lines import from_values
from scaling.records.saving import PART, replacing

__all__ = [
    "AVERAGED",
    "GENERATOR",
    "SHAPES",
    "UNITS",
    "Checkpoint",
    "Checkpoints",
    "read_checkpoint",
    "restore",
    "snapshot",
    "write_checkpoint",
]

log = logging.getLogger(__name__)

GENERATOR = "generator"
"""Name of the group that holds the generator's weights."""
AVERAGED = "averaged_generator"
"""Name of the group that holds the averages of the generator's weights, if the training computes them."""
UNITS = "units"
"""Name of the group that holds the unit of each cell, if the networks do not see GeV."""
SHAPES = "shapes"
"""Name of the group that holds the expected features of showers, if the training has a shape term."""
_ABOUT = "about"
_BEST = "best.npz"
_NAME = re.compile(r"epoch-(\d{4,})(?:-step-(\d{6,}))?")


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """The state after some epochs, and after some steps of the next epoch if the training was interrupted."""

    epochs: int
    """Number of complete epochs."""
    steps: int = 0
    """Number of complete steps of the next epoch."""
    global_batch_size: int = 0
    """Number of events per step."""
    losses: Sequence[float] = ()
    """Sum of the losses over these steps, for each of the four updates in a step."""
    arrays: Mapping[str, np.ndarray]
    """Values by group and position, such as `generator/003`."""
    distances: Sequence[float] = ()
    """Shower distance on the validation events of every complete epoch, NaN if it is unknown."""
    record: str = ""
    """Line of the last complete epoch for the record file. A run that is killed before it writes the line writes it
    after its next start."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """Settings and versions of the training."""

    @property
    def moment(self) -> tuple[int, int]:
        """Position in the training: epochs and steps. Checkpoints are sorted by it."""
        return self.epochs, self.steps

    @property
    def name(self) -> str:
        """File name without .npz."""
        return f"epoch-{self.epochs:04d}" + (f"-step-{self.steps:06d}" if self.steps else "")

    def group(self, name: str) -> dict[str, np.ndarray]:
        """Return the arrays of a group by name, in the order of the network's variables."""
        return {key: self.arrays[key] for key in sorted(self.arrays) if key.startswith(f"{name}/")}


def snapshot(groups: Mapping[str, Sequence[Any]]) -> dict[str, np.ndarray]:
    """Return copies of the values of grouped variables. The keys are the names in a checkpoint."""
    return {
        # TensorFlow's array may share its memory with the variable, which the next step changes.
        f"{group}/{number:03d}": np.array(variable.numpy())
        for group, variables in groups.items()
        for number, variable in enumerate(variables)
    }


def restore(groups: Mapping[str, Sequence[Any]], checkpoint: Checkpoint) -> None:
    """Set grouped variables to the values of a checkpoint.

    Raises:
        InputError: the checkpoint holds other variables, for example of other filters or another optimizer.
    """
    for group, variables in groups.items():
        for number, variable in enumerate(variables):
            name = f"{group}/{number:03d}"
            value = checkpoint.arrays.get(name)
            if value is None or value.shape != tuple(variable.shape):
                seen = "is missing" if value is None else f"has the shape {value.shape}"
                raise InputError(
                    f"checkpoint {checkpoint.name}: {name} {seen}; expected {tuple(variable.shape)} for "
                    f"{variable.path}. It belongs to a training with other settings: use another --out"
                )
            variable.assign(value)


class Checkpoints:
    """The checkpoints of one run: the newest ones and the best one."""

    def __init__(self, folder: Path, keep: int = 3, check: Callable[[], None] = lambda: None) -> None:
        """Describe the checkpoints of a folder.

        Args:
            folder: the folder. Saving creates it.
            keep: number of checkpoints to keep besides the best.
            check: function that raises InputError if this run may no longer write there.
        """
        self.folder = folder
        self._keep = keep
        self._check = check

    def save(self, checkpoint: Checkpoint, *, best: bool) -> Path:
        """Write a checkpoint, remove the oldest ones, and return the path of the new one.

        Raises:
            InputError: the file cannot be written. Earlier checkpoints stay unchanged.
        """
        self._check()
        path = self.folder / f"{checkpoint.name}.npz"
        try:
            # Without parents: a run folder that is gone must not come back with a checkpoint only.
            self.folder.mkdir(exist_ok=True)
            write_checkpoint(path, checkpoint)
            if best:
                _link(path, self.folder / _BEST)
        except OSError as error:
            raise InputError(
                f"the checkpoint {path} cannot be written ({error}). Free some space or correct the permissions, then "
                "give the same command again: the training continues from the checkpoint before"
            ) from error
        for old in self._paths()[: -self._keep]:
            if old != path:
                old.unlink(missing_ok=True)
        if checkpoint.steps:
            # Numbers of steps cannot be compared after a change of the global batch size, so keep only the newest
            # checkpoint.
            for other in self.folder.glob(f"epoch-{checkpoint.epochs:04d}-step-*.npz"):
                if other != path:
                    other.unlink(missing_ok=True)
        return path

    def latest(self) -> Checkpoint | None:
        """Return the newest intact checkpoint, or None. Damaged ones are skipped with a warning."""
        for path in reversed(self._paths()):
            try:
                return read_checkpoint(path)
            except InputError as error:
                log.warning("%s; going back to the one before", error)
        return None

    def best(self) -> Path | None:
        """Return the checkpoint with the smallest shower distance, else the newest after a complete epoch, else None.

        Checkpoints within an epoch do not count, because they have the BatchNorm statistics of rank 0 only.
        """
        whole = [path for path in self._paths() if "-step-" not in path.name]
        candidates = [self.folder / _BEST, *reversed(whole)]
        return next((path for path in candidates if path.is_file()), None)

    def _paths(self) -> list[Path]:
        """Return all checkpoints, sorted by epoch and step."""
        names = {path: _NAME.fullmatch(path.stem) for path in self.folder.glob("epoch-*.npz")}
        moments = {path: (int(match[1]), int(match[2] or 0)) for path, match in names.items() if match}
        return sorted(moments, key=lambda path: moments[path])


def read_checkpoint(path: Path, groups: Collection[str] | None = None) -> Checkpoint:
    """Read a checkpoint file.

    Args:
        path: the file.
        groups: names of the groups to read. By default all.

    Raises:
        InputError: the file is not a checkpoint, or is damaged.
    """
    try:
        arrays = read_archive(path, lambda name: name == _ABOUT or groups is None or name.split("/")[0] in groups)
        if text := [name for name, array in arrays.items() if name != _ABOUT and array.dtype.kind not in "biuf"]:
            raise ValueError(f"{text[0]} holds {arrays[text[0]].dtype}; expected numbers")
        about = _translated(json.loads(str(arrays.pop(_ABOUT))))
        checkpoint: Checkpoint = from_values(Checkpoint, {**about, "arrays": arrays})
        if min(checkpoint.epochs, checkpoint.steps, checkpoint.global_batch_size) < 0:
            raise ValueError("it has a negative number of epochs, steps or events")
        return checkpoint
    except (OSError, ValueError, KeyError, RecursionError) as error:
        raise InputError(
            f"{path} is not a checkpoint, or is damaged ({error}); expected a file checkpoints/*.npz of a training"
        ) from error


def _translated(about: Any) -> Mapping[str, Any]:
    """Return the description of a checkpoint in the names of today.

    Older versions stored the profile error of the 3DGAN authors for each epoch. It cannot be compared with a shower
    distance, so it becomes NaN.

    Raises:
        ValueError: the description is not an object.
    """
    if not isinstance(about, dict):
        raise ValueError("its description is not an object")
    errors = about.get("validation_errors")
    return {**about, "distances": [math.nan] * len(errors)} if isinstance(errors, list) else about


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint file. An earlier file with this name stays until the new one is complete."""
    about = {
        "epochs": checkpoint.epochs,
        "steps": checkpoint.steps,
        "global_batch_size": checkpoint.global_batch_size,
        "losses": list(checkpoint.losses),
        "distances": list(checkpoint.distances),
        "record": checkpoint.record,
        "about": dict(checkpoint.about),
    }
    arrays: dict[str, Any] = {_ABOUT: np.array(json.dumps(about)), **checkpoint.arrays}
    with replacing(path) as file:
        write_archive(file, arrays)


def _link(path: Path, name: Path) -> None:
    """Make `name` a second name of a file, or a copy on file systems without hard links."""
    part = name.with_name(f".{name.name}.{os.getpid()}{PART}")
    part.unlink(missing_ok=True)
    try:
        os.link(path, part)
    except OSError:
        with replacing(name) as copy:
            copy.write(path.read_bytes())
        return
    os.replace(part, name)
