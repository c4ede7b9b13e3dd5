"""What Slurm says about a job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Job"]

RUNNING = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED", "REQUEUE_HOLD", "RESIZING")


@dataclass(frozen=True, slots=True)
class Job:
    """What Slurm knows about a job."""

    id: int
    fields: Mapping[str, str]
    """As `scontrol show job` prints them."""

    @classmethod
    def parse(cls, text: str) -> Job:
        """A job from the one line that `scontrol show --oneliner job` prints about it."""
        # A value may have blanks in it; what follows one is lost, which concerns none of the fields below.
        fields = dict(word.split("=", 1) for word in text.split() if "=" in word)
        return cls(int(fields["JobId"]), fields)

    @property
    def state(self) -> str:
        """PENDING, RUNNING, COMPLETED, FAILED, TIMEOUT, NODE_FAIL, CANCELLED, ..."""
        return self.fields["JobState"]

    @property
    def ended(self) -> bool:
        return self.state not in RUNNING

    @property
    def exit_code(self) -> int:
        return int(self.fields["ExitCode"].split(":")[0])

    @property
    def signal(self) -> int:
        """What ended the job's script; 0 where it ended by itself."""
        return int(self.fields["ExitCode"].split(":")[1])

    @property
    def output(self) -> str:
        """What the job has written to its standard output."""
        path = Path(self.fields["StdOut"])
        return path.read_text(errors="replace") if path.exists() else ""
