"""The folder of a run: where its record, log and checkpoints are, and whether a training may go on in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from gan.errors import InputError
from gan.run.checkpoint import Checkpoints
from gan.settings import TrainingSettings
from scaling.records import Header, RecordError, read_run

__all__ = ["RunFolder"]

MAY_DIFFER = {
    "epochs",
    "warmup_epochs",
    "lr_scaling",
    "lr_schedule",
    "lr_decay",
    "learning_rate",
    "batch_size",
}
"""Settings that a continued training may change; the others decide what is trained on what."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    path: Path

    @property
    def record(self) -> Path:
        return self.path / "run.jsonl"

    @property
    def log(self) -> Path:
        return self.path / "train.log"

    @property
    def checkpoints(self) -> Checkpoints:
        return Checkpoints(self.path / "checkpoints")

    @property
    def logs(self) -> Path:
        """What ranks other than 0 write, a file each."""
        return self.path / "logs"

    def make(self) -> None:
        """Make the folder. Raises InputError where it cannot be written."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            probe = self.path / ".writable"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise InputError(f"--out {self.path} cannot be written ({error}); give a folder that can") from error

    def prepare(self, settings: TrainingSettings, files: Sequence[Mapping[str, Any]], *, resume: bool) -> None:
        """Make the folder or check that this training may go on in it. For rank 0, before anything is written.

        Without `resume` an earlier run is set aside in a folder of its own, never deleted.

        Raises:
            InputError: the folder cannot be written, or belongs to a run with other settings or data.
        """
        self.make()
        # A run that was killed while it wrote its first line has said nothing yet.
        if self.record.exists() and b"\n" not in self.record.read_bytes() and self.checkpoints.latest() is None:
            self.record.unlink()
        if not self.record.exists():
            if resume and self.checkpoints.latest() is not None:
                raise InputError(
                    f"--out {self.path} holds checkpoints but no {self.record.name}; expected both or none. "
                    "Use another folder, or --no-resume to set them aside"
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
            raise InputError(f"--out {self.path}: {error}. Use another folder or --no-resume") from error
        differing = _differences(header, settings, files)
        if differing:
            raise InputError(
                f"--out {self.path} belongs to another run: {'; '.join(differing)}. "
                "Use another folder, or --no-resume to set that run aside and begin afresh"
            )

    def _set_aside(self) -> None:
        mine = [
            path
            for path in (self.record, self.log, self.logs, self.checkpoints.folder, self.path / "tensorboard")
            if path.exists()
        ]
        if not mine:
            return
        aside = self.path / f"earlier-{datetime.now():%Y%m%d-%H%M%S-%f}"
        aside.mkdir()
        for path in mine:
            path.rename(aside / path.name)


def _differences(header: Header, settings: TrainingSettings, files: Sequence[Mapping[str, Any]]) -> list[str]:
    now = settings.as_dict()
    differing = [
        f"--{name.replace('_', '-')} was {header.settings[name]}, is {value}"
        for name, value in now.items()
        if name not in MAY_DIFFER and name in header.settings and header.settings[name] != value
    ]
    before = [(Path(str(file["path"])).name, file["events"]) for file in header.files]
    if before != [(Path(str(file["path"])).name, file["events"]) for file in files]:
        differing.append(f"its data were {len(before)} files with {sum(n for _, n in before)} events, now "
                         f"{len(files)} with {sum(int(file['events']) for file in files)}")  # fmt: skip
    return differing
