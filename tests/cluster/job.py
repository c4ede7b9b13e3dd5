"""A job as Slurm shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Job"]

RUNNING = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED", "REQUEUE_HOLD", "RESIZING")


@dataclass(frozen=True, slots=True)
class Job:
    """A job as Slurm shows it at one moment."""

    id: int
    fields: Mapping[str, str]
    """Fields of `scontrol show job` by name."""

    @classmethod
    def parse(cls, text: str) -> Job:
        """Parse the line that `scontrol show --oneliner job` prints."""
        # A value is cut at its first blank. The fields below have no blanks.
        fields = dict(word.split("=", 1) for word in text.split() if "=" in word)
        return cls(int(fields["JobId"]), fields)

    @property
    def state(self) -> str:
        """State of the job, such as PENDING, RUNNING, COMPLETED, FAILED, TIMEOUT, NODE_FAIL, CANCELLED."""
        return self.fields["JobState"]

    @property
    def ended(self) -> bool:
        return self.state not in RUNNING

    @property
    def exit_code(self) -> int:
        return int(self.fields["ExitCode"].split(":")[0])

    @property
    def signal(self) -> int:
        """Signal that ended the job's script; 0 if no signal ended it."""
        return int(self.fields["ExitCode"].split(":")[1])

    @property
    def output(self) -> str:
        """Standard output of the job up to now."""
        path = Path(self.fields["StdOut"])
        return path.read_text(errors="replace") if path.exists() else ""
