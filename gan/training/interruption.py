"""Requests to stop a training with a checkpoint: on a signal, or shortly before the job ends.

Every rank listens for signals, because perhaps only one rank receives the signal. The training loop then stops all
ranks at the same step. The launcher supplies the end of the job.
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["SIGNALS", "Interruption", "Received", "handled"]

SIGNALS = (signal.SIGUSR1, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
"""Slurm sends SIGUSR1 if the job asks for a warning (--signal), and SIGTERM on preemption and at the time limit. A lost
terminal sends SIGHUP, and Ctrl-C SIGINT."""

REPEATS_WITHIN = {signal.SIGTERM: 5.0, signal.SIGHUP: 5.0, signal.SIGINT: 1.0}
"""Seconds within which a second signal counts as the same request: Slurm, the MPI and the terminal may each send one. A
later one ends the process at once. SIGUSR1 never does."""


@contextmanager
def handled(numbers: Iterable[signal.Signals], handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Give signals to a handler inside the `with` block. A signal that is ignored stays ignored."""
    heard = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in heard}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


class Received:
    """The signals that this process has received, with the time of the first of each kind."""

    def __init__(self) -> None:
        self._times: dict[int, float] = {}

    @property
    def first(self) -> str:
        """Name of the first signal, or an empty text before any signal."""
        return signal.Signals(next(iter(self._times))).name if self._times else ""

    def again(self, number: int) -> bool:
        """Note a signal. Return True if it repeats an earlier request, and is not only the same request again.

        Raises:
            KeyboardInterrupt: the signal is a second Ctrl-C.
        """
        now = time.monotonic()
        within = REPEATS_WITHIN.get(signal.Signals(number), math.inf)
        again = now - self._times.setdefault(number, now) > within
        if again and number == signal.SIGINT:
            raise KeyboardInterrupt
        return again


class Interruption:
    """The reason why this rank should stop, if there is one."""

    def __init__(self, deadline: float | None = None, margin: float = 0.0) -> None:
        """Create the state of a rank without a request to stop.

        Args:
            deadline: end of the job in seconds since 1970. None means no limit.
            margin: seconds to keep free before the deadline.
        """
        self._deadline = deadline
        self._margin = margin
        self._reason = ""
        self._received = Received()

    @contextmanager
    def listening(self) -> Iterator[Interruption]:
        """Treat signals as requests to stop. Call this in the main thread.

        A second signal, some seconds later, ends the process. A signal that is ignored stays ignored: nohup and the
        shell ask for that.
        """
        with handled(SIGNALS, self._on_signal):
            yield self

    def ask(self, reason: str) -> None:
        """Ask this rank to stop. If there is an earlier request, its reason stays."""
        self._reason = self._reason or reason

    def reason(self, step_seconds: float = 0.0) -> str:
        """Return the reason to stop now, or an empty text.

        Args:
            step_seconds: seconds of a step. The time of two steps is added to the margin: one step in which the request
                reaches all ranks, and one step that may take longer than usual.
        """
        if self._reason:
            return self._reason
        if self._deadline is not None:
            left = self._deadline - time.time()
            if left < self._margin + 2 * step_seconds:
                return f"the job ends in {max(left, 0):.0f} s"
        return ""

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._received.again(number):
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.ask(f"asked by {signal.Signals(number).name}")
