"""What a run came to, as its record tells it: starters' exit statuses say little, srun's may be 0 after a node died."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from scaling.records import RecordError, Run, read_run

__all__ = ["COMPLETE", "FAILED", "INTERRUPTED", "NODE_DIED", "Target", "outcome"]

COMPLETE = 0
FAILED = 1
INTERRUPTED = 75
"""A checkpoint is written and the same command goes on (EX_TEMPFAIL of sysexits.h)."""
NODE_DIED = 76


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """The training that is to be complete in the end; empty for other commands, which leave no record."""

    out: Path | None = None
    epochs: int = 0
    resume: bool = True

    def record(self) -> Run | None:
        """The record of the run, or None where there is none that can be read."""
        try:
            return None if self.out is None else read_run(self.out)
        except RecordError:
            return None

    def already_complete(self) -> bool:
        """Whether nothing is left to train, so that no rank need be started."""
        found = self.record() if self.resume else None
        return found is not None and found.complete and found.end is not None and found.end.epochs >= self.epochs

    def ended(self) -> bool:
        """Whether the last part of the run wrote its end; True where there is no record to look at."""
        found = self.record()
        return self.out is None or (found is not None and found.end is not None)


def outcome(status: int, target: Target) -> int:
    """The exit status of `launcher run` from that of the starter and the record."""
    if status != 0 or target.out is None:
        return status if 0 <= status < 256 else FAILED
    found = target.record()
    if found is None or found.end is None or found.end.status == "failed":
        return FAILED
    return COMPLETE if found.complete else INTERRUPTED
