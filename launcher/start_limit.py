"""End a rank whose start does not end: the file system or another node does not answer.

`gan.training.watch` does this for the training itself, and can name the rank for which the others wait. Before, the
ranks have no place in which all of them can write.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

__all__ = ["StartLimit"]

SHORTEST = 1200.0
"""Smallest limit in seconds. On a slow file system, hundreds of ranks load TensorFlow for minutes."""

WAITING = 10.0
"""Seconds that ranks which wait for others leave to those that work: they know the reason."""


class StartLimit:
    """Time limit for the start of a rank, a context manager."""

    def __init__(self, seconds: float, end: Callable[[str], object]) -> None:
        """Create the limit.

        Args:
            seconds: the limit; at least SHORTEST is used. 0 for none.
            end: ends the job and prints the reason. Another thread calls it.
        """
        self._seconds = max(seconds, SHORTEST) if seconds else 0.0
        self._end = end
        self._what, self._waits = "starting", False
        self._done = threading.Event()

    def __enter__(self) -> StartLimit:
        if self._seconds:
            threading.Thread(target=self._watch, name="start-limit", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()

    def at(self, what: str, *, waits: bool = False) -> None:
        """Note what the rank does now, for the message. `waits` is True if it waits for other ranks."""
        self._what, self._waits = what, waits

    def _watch(self) -> None:
        began = time.monotonic()
        if self._done.wait(self._seconds) or (self._waits and self._done.wait(WAITING)):
            return
        try:
            self._end(
                f"Error: the start has not ended after {time.monotonic() - began:.0f} s (--hang-timeout): this rank is "
                f"still {self._what}. Check the nodes and their file systems, and start the run again"
            )
        finally:
            # Not sys.exit: the main thread hangs.
            os._exit(os.EX_TEMPFAIL)
