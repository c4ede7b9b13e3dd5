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

    def size(self) -> int:
        """Bytes of the record, to tell later whether a new part of the run has written to it."""
        path = None if self.out is None else self.out / "run.jsonl"
        return path.stat().st_size if path is not None and path.exists() else 0

    def ended(self, before: int) -> bool:
        """Whether a part of the run that began at a size of `before` wrote its end; True where nothing is written."""
        found = self.record()
        return self.out is None or (found is not None and found.end is not None and self.size() != before)


def outcome(status: int, target: Target, before: int = 0) -> int:
    """The exit status of `launcher run`: what the record says, and where it says nothing new the starter's.

    A record wins: ranks that ended in good order may leave a starter that did not, and the other way round.

    Args:
        before: size of the record when the ranks were started.
    """
    found = target.record()
    if found is not None and found.end is not None:
        if found.complete and found.end.epochs >= target.epochs:
            return COMPLETE
        if found.end.status == "interrupted" and target.size() != before:
            return INTERRUPTED
    failed = status if 0 < status < 256 else FAILED
    return status if target.out is None and 0 <= status < 256 else failed
