"""Decide the exit status of `launcher run` from the record of the run.

The exit status of a starter is not reliable: srun may end with 0 after a node has died, and an MPI library may crash
after the training has ended.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from scaling.records import RecordError, Run, read_run

__all__ = ["COMPLETE", "FAILED", "INTERRUPTED", "NODE_DIED", "TargetRun", "exit_status"]

COMPLETE = 0
FAILED = 1
INTERRUPTED = os.EX_TEMPFAIL
"""Exit status of a training that the same command continues from its checkpoint."""
NODE_DIED = 76
"""Exit status if a node stopped answering and the launcher ended the ranks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetRun:
    """The run that the ranks should complete. The default is for a command that writes no record, such as `exec`."""

    out: Path | None = None
    """Run folder; None for a command without a record."""
    epochs: int = 0
    """Epochs in total, including those before a resume."""
    resume: bool = True
    """False if the training moves an earlier run to a subfolder and starts from the beginning."""

    def record(self) -> Run | None:
        """Read the record of the run. Return None if there is no record or it cannot be read."""
        try:
            return None if self.out is None else read_run(self.out)
        except RecordError:
            return None

    def already_complete(self) -> bool:
        """Return True if all epochs are trained, so that no rank has to start."""
        run = self.record() if self.resume else None
        return run is not None and run.complete and run.end is not None and run.end.epochs >= self.epochs

    def record_size(self) -> int:
        """Return the size of the record file in bytes, or 0 without a file."""
        path = None if self.out is None else self.out / "run.jsonl"
        return path.stat().st_size if path is not None and path.exists() else 0

    def wrote_end(self, size_before: int) -> bool:
        """Return True if the ranks wrote an end line to the record. For a command without a record, return True.

        Args:
            size_before: size of the record in bytes when the ranks started.
        """
        run = self.record()
        return self.out is None or (run is not None and run.end is not None and self.record_size() != size_before)


def exit_status(starter_status: int, target: TargetRun, size_before: int = 0) -> int:
    """Return the exit status of `launcher run`.

    If the record and the exit status of the starter disagree, the record decides.

    Args:
        starter_status: exit status of the starter; negative if a signal ended it.
        target: the run that the ranks should complete.
        size_before: size of the record in bytes when the ranks started.
    """
    run = target.record()
    if run is not None and run.end is not None:
        if run.complete and run.end.epochs >= target.epochs:
            return COMPLETE
        if run.end.status == "interrupted" and target.record_size() != size_before:
            return INTERRUPTED
    if target.out is None and starter_status == 0:
        return COMPLETE
    return starter_status if 0 < starter_status < 256 else FAILED
