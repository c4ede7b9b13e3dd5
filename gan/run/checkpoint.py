"""Checkpoints: the whole state of a training in one file, written beside and renamed.

A checkpoint is a NumPy archive of arrays with a JSON text of what they belong to; its checksums show damage.
Random numbers need no place in it: they are functions of the seed and the position (see `draws`).
"""

from __future__ import annotations

import json
import logging
import os
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gan.errors import InputError
from scaling.records.saving import replacing

__all__ = ["Checkpoint", "Checkpoints", "restore", "snapshot"]

log = logging.getLogger(__name__)

_ABOUT = "about"
_NAME = re.compile(r"epoch-(\d{4,})(?:-step-(\d{6,}))?")


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """The state after some epochs, and after some steps of the next one where the training was interrupted."""

    epochs: int
    """Epochs complete."""
    steps: int = 0
    """Steps done of the next epoch."""
    global_batch_size: int = 0
    """Events of each of these steps."""
    losses: Sequence[float] = ()
    """Their sums over these steps, one for each update."""
    arrays: Mapping[str, np.ndarray]
    """By group and position, `generator/003`."""
    validation_errors: Sequence[float] = ()
    """One for each epoch so far."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """Settings and versions, for people and for `generate`."""

    @property
    def moment(self) -> tuple[int, int]:
        """Epochs and steps: the order of checkpoints."""
        return self.epochs, self.steps

    @property
    def name(self) -> str:
        return f"epoch-{self.epochs:04d}" + (f"-step-{self.steps:06d}" if self.steps else "")


def snapshot(groups: Mapping[str, Sequence[Any]]) -> dict[str, np.ndarray]:
    """The values of grouped variables by their names in a checkpoint."""
    return {
        f"{group}/{number:03d}": variable.numpy()
        for group, variables in groups.items()
        for number, variable in enumerate(variables)
    }


def restore(groups: Mapping[str, Sequence[Any]], checkpoint: Checkpoint) -> None:
    """Set grouped variables to the values of a checkpoint.

    Raises:
        InputError: it holds other variables, as of other filters or another optimizer.
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
    """The checkpoints of one run: the last few, and the best."""

    def __init__(self, folder: Path, keep: int = 3) -> None:
        self.folder = folder
        self._keep = keep

    def save(self, checkpoint: Checkpoint, *, best: bool) -> Path:
        """Write a checkpoint; only then remove the oldest ones. Returns its path.

        Raises:
            InputError: the file system refuses; the checkpoints before stay as they are.
        """
        path = self.folder / f"{checkpoint.name}.npz"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _write(path, checkpoint)
            if best:
                _link(path, self.folder / "best.npz")
        except OSError as error:
            raise InputError(
                f"{path} cannot be written ({error}); make room or mend the rights there, then give the same command "
                "again: it goes on from the checkpoint before"
            ) from error
        for old in self._paths()[: -self._keep]:
            if old != path:
                old.unlink(missing_ok=True)
        if checkpoint.steps:
            # On another global batch the numbers of steps do not compare: the newest stands alone.
            for other in self.folder.glob(f"epoch-{checkpoint.epochs:04d}-step-*.npz"):
                if other != path:
                    other.unlink(missing_ok=True)
        return path

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint that is whole; damaged ones are passed over with a warning."""
        for path in reversed(self._paths()):
            try:
                return read_checkpoint(path)
            except InputError as error:
                log.warning("%s; going back to the one before", error)
        return None

    def _paths(self) -> list[Path]:
        """Oldest first, by epoch and step."""
        found = {path: _NAME.fullmatch(path.stem) for path in self.folder.glob("epoch-*.npz")}
        moments = {path: (int(match[1]), int(match[2] or 0)) for path, match in found.items() if match}
        return sorted(moments, key=lambda path: moments[path])


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint file.

    Raises:
        InputError: it is not a checkpoint or is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        about = json.loads(str(arrays.pop(_ABOUT)))
        return Checkpoint(arrays=arrays, **about)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is no whole checkpoint ({error})") from error


def _write(path: Path, checkpoint: Checkpoint) -> None:
    about = {
        "epochs": checkpoint.epochs,
        "steps": checkpoint.steps,
        "global_batch_size": checkpoint.global_batch_size,
        "losses": list(checkpoint.losses),
        "validation_errors": list(checkpoint.validation_errors),
        "about": dict(checkpoint.about),
    }
    arrays: dict[str, Any] = {_ABOUT: np.array(json.dumps(about)), **checkpoint.arrays}
    with replacing(path) as file:
        np.savez(file, **arrays)


def _link(path: Path, name: Path) -> None:
    beside = name.with_name(name.name + ".part")
    beside.unlink(missing_ok=True)
    try:
        os.link(path, beside)
    except OSError:  # file systems without hard links
        beside.write_bytes(path.read_bytes())
    os.replace(beside, name)
