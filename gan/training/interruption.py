"""Asks a training to stop in good order: on SIGUSR1 or SIGTERM, or shortly before the job's time is over.

Every rank listens for itself and may be the only one that was asked; that all stop at the same step is the business of
`training`. Where the end of the job is known from is the launcher's.
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["SIGNALS", "Interruption"]

SIGNALS = (signal.SIGUSR1, signal.SIGTERM)
"""Slurm sends the first where a job asks for a warning (--signal), the second on preemption and at its time limit."""

REPEATS_WITHIN = 5.0
"""Seconds within which SIGTERM may come again and mean the same: Slurm and the MPI that it told may both send it."""


class Interruption:
    """Why this rank should stop, if it should."""

    def __init__(self, deadline: float | None = None, margin: float = 0.0) -> None:
        """Args: deadline: the job's end in seconds since 1970. margin: seconds to leave before it."""
        self._deadline = deadline
        self._margin = margin
        self._asked = ""
        self._terminated = -math.inf

    @contextmanager
    def listening(self) -> Iterator[Interruption]:
        """Take signals as requests while inside; for the main thread. SIGTERM once more, later, ends the process."""
        before = {number: signal.signal(number, self._on_signal) for number in SIGNALS}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def ask(self, reason: str) -> None:
        """Ask this rank to stop; the first reason is the one that is told."""
        self._asked = self._asked or reason

    def reason(self, step_seconds: float = 0.0) -> str:
        """Why to stop now; empty to go on.

        Args:
            step_seconds: what a step takes. The time of two is left free on top of the margin: the one in which all
                ranks hear of the wish, and one that takes longer than usual.
        """
        if self._asked:
            return self._asked
        if self._deadline is not None:
            left = self._deadline - time.time()
            if left < self._margin + 2 * step_seconds:
                return f"the job ends in {max(left, 0):.0f} s"
        return ""

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if number == signal.SIGTERM and now - self._terminated > REPEATS_WITHIN:
            if self._terminated > -math.inf:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            self._terminated = now
        self.ask(f"asked by {signal.Signals(number).name}")
