"""The folder of a run: the paths of its record, log and checkpoints, and whether a training may continue in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from gan.errors import InputError
from gan.pretrained import is_pretrained, pretrained_checkpoint
from gan.run.checkpoint import Checkpoints
from gan.settings import TrainingSettings
from scaling.records import Header, RecordError, read_run
from scaling.records.saving import remove_parts
from scaling.records.wording import count

__all__ = ["RunFolder", "find_checkpoint"]

MAY_DIFFER = {
    "recipe",  # its values are compared
    "epochs",
    "warmup_epochs",
    "lr_scaling",
    "lr_schedule",
    "lr_decay",
    "learning_rate",
    "batch_size",
    "virtual_workers",
    "stop_when_dead",
}
"""Settings that may change when a training continues. All others define the networks, the data or the updates."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The `--out` folder of a training."""

    path: Path
    check: Callable[[], None] = field(default=lambda: None, compare=False)
    """Function that raises InputError if this run may no longer write into the folder."""

    @property
    def record(self) -> Path:
        return self.path / "run.jsonl"

    @property
    def log(self) -> Path:
        return self.path / "train.log"

    @property
    def checkpoints(self) -> Checkpoints:
        return Checkpoints(self.path / "checkpoints", check=self.check)

    @property
    def logs(self) -> Path:
        """Folder for the output of the ranks other than 0, one file for each rank."""
        return self.path / "logs"

    @property
    def waiting(self) -> Path:
        """Folder in which ranks that wait for others write where they are, see `training.roll_call`."""
        return self.path / "waiting"

    def make(self) -> None:
        """Create the folder.

        Raises:
            InputError: the folder cannot be written, or something that the run writes is a symbolic link there.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            raise InputError(
                f"--out {self.path} cannot be written ({error}); expected a folder that you can write to: change --out"
            ) from error
        # A link could lead the run to overwrite or remove files in another place.
        for path in self._written:
            if path.is_symlink():
                raise InputError(
                    f"--out {self.path} holds a symbolic link {path.name}; expected a file or folder of the run: "
                    "remove the link, or change --out"
                )

    @property
    def _written(self) -> tuple[Path, ...]:
        """What a training writes into the folder."""
        return self.record, self.log, self.logs, self.checkpoints.folder, self.waiting, self.path / "tensorboard"

    def prepare(self, settings: TrainingSettings, files: Sequence[Mapping[str, Any]], *, resume: bool) -> None:
        """Create the folder, or check that this training may continue in it. Call this on rank 0, before any writing.

        Args:
            settings: settings of the training that is about to start.
            files: data files of the training, see `ShowerSet.described`.
            resume: False to move an earlier run into a folder `earlier-...`. Nothing is deleted.

        Raises:
            InputError: the folder cannot be written, or belongs to a run with other settings or data.
        """
        self.make()
        for folder in (self.path, self.checkpoints.folder):
            remove_parts(folder)
        # A run that was killed while it wrote its first line has no record yet.
        if self.record.exists() and b"\n" not in self.record.read_bytes() and self.checkpoints.latest() is None:
            self.record.unlink()
        if not self.record.exists():
            if resume and self.checkpoints.latest() is not None:
                raise InputError(
                    f"--out {self.path} holds checkpoints but no {self.record.name}; expected both or none. "
                    "Use another folder, or --no-resume to move them into a subfolder"
                )
            if not resume:
                self._set_aside()
            return
        if not resume:
            self._set_aside()
            return
        try:
            header = read_run(self.record).header
        except RecordError as error:
            raise InputError(
                f"--out {self.path}: {error}. Use another folder, or --no-resume to move that run into a subfolder"
            ) from error
        try:
            differing = _differences(header, settings, files)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"--out {self.path}: {self.record.name} names the data files of its run in an unknown form "
                f"({error!r}); expected path and events of each. Use another folder, or --no-resume to move that run "
                "into a subfolder"
            ) from error
        if differing:
            raise InputError(
                f"--out {self.path} belongs to another run: {'; '.join(differing)}. "
                "Use another folder, or --no-resume to move that run into a subfolder and start from the beginning"
            )

    def _set_aside(self) -> None:
        present = [path for path in self._written if path.exists()]
        if not present:
            return
        aside = self.path / f"earlier-{datetime.now():%Y%m%d-%H%M%S-%f}"
        aside.mkdir()
        for path in present:
            path.rename(aside / path.name)


def _differences(header: Header, settings: TrainingSettings, files: Sequence[Mapping[str, Any]]) -> list[str]:
    """Describe the differences between this training and the run of the header."""
    # A run from before a setting existed used its default.
    earlier = {**TrainingSettings().as_dict(), **header.settings}
    differing = [
        f"--{name.replace('_', '-')} was {earlier[name]}, is {value}"
        for name, value in settings.as_dict().items()
        if name not in MAY_DIFFER and earlier[name] != value
    ]
    before = [(Path(str(file["path"])).name, file["events"]) for file in header.files]
    if before != [(Path(str(file["path"])).name, file["events"]) for file in files]:
        differing.append(
            f"its data were {count(len(before), 'file')} with {sum(n for _, n in before)} events, now "
            f"{count(len(files), 'file')} with {sum(int(file['events']) for file in files)} events"
        )
        return differing
    # Records of older versions have no digests.
    other = [
        Path(str(now["path"])).name
        for then, now in zip(header.files, files, strict=True)
        if "energies" in then and "energies" in now and then["energies"] != now["energies"]
    ]
    if other:
        differing.append(f"{other[0]} held other events{f', and {len(other) - 1} more' if len(other) > 1 else ''}")
    return differing


def find_checkpoint(source: Path) -> Path:
    """Return the checkpoint for a path: a checkpoint file itself, or the best checkpoint in a folder.

    Args:
        source: a checkpoint file, a run's folder, a folder of checkpoints, or `pretrained:NAME`.

    Raises:
        InputError: there is no checkpoint.
    """
    if is_pretrained(source):
        return pretrained_checkpoint(source)
    if source.is_file():
        return source
    checkpoints = Checkpoints(source) if any(source.glob("*.npz")) else RunFolder(source).checkpoints
    best = checkpoints.best()
    if best is None:
        seen = "holds no checkpoint" if source.is_dir() else "does not exist"
        raise InputError(
            f"--from {source} {seen}; expected the --out folder of a training with at least one complete epoch, or one "
            "of its files checkpoints/*.npz, or a generator that ships, such as pretrained:conv3d"
        )
    return best
