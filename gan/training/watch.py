"""Watch the main thread of a rank from a second thread: name the ranks that hold all others up, and hear signals early.

While a rank computes or waits in an exchange, Python runs no signal handler and no other code of the main thread. This
thread runs on, but not if the rank is suspended: a rank whose thread is silent is therefore itself late.
"""

from __future__ import annotations

import math
import os
import select
import signal
import threading
import time
from contextlib import suppress

from gan.training.alert import Alert
from gan.training.interruption import SIGNALS
from gan.training.roll_call import Phase, Place, RollCall

__all__ = ["Watch"]

TICK = 1.0
"""Seconds between two looks at the main thread."""

NOTICE = 30.0
"""A rank waits at least so many seconds before it asks where the others are."""

MANY = 10.0
"""It also waits at least so many times the longest time of this phase up to now."""

ANSWERS = 5.0
"""Seconds that the ranks have to write their places, before one of them reports."""

FIRST = 600.0
"""Smallest limit in seconds for a phase that this process has not completed before. It includes compilations."""

AFTER_REQUEST = 30.0
"""Limit in seconds for reading and computing after a request to stop, if the steps are much shorter."""

OTHERS = 30.0
"""Seconds after the limit at which a rank ends itself, if the one that should end the run did not."""


class Watch:
    """The second thread of a rank, a context manager."""

    def __init__(self, roll: RollCall, limit: float, alert: Alert) -> None:
        """Create the watch of this rank.

        Args:
            roll: where the ranks tell their places.
            limit: seconds without progress after which the run ends; infinite for never.
            alert: what the watch does then.
        """
        self._roll = roll
        self._limit = limit
        self._alert = alert
        self._place = Place(1, 1, Phase.READING)
        self._since = time.monotonic()
        self._beats = 0
        self._times: dict[Phase, list[float]] = {phase: [] for phase in Phase}
        """Seconds of the first stretch of each phase, which includes compilations, and of the longest later one."""
        self._asked = self._stopped = self._answered = False
        self._said = ""
        self._next_look = 0.0
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Watch:
        self._reads, self._writes = os.pipe()
        os.set_blocking(self._writes, False)
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            # The kernel's part of Python's signal handling writes here at once, also while TensorFlow computes.
            self._earlier = signal.set_wakeup_fd(self._writes, warn_on_full_buffer=False)
        self._since = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._main:
            signal.set_wakeup_fd(self._earlier)
        self._stopped = True
        with suppress(OSError):
            os.write(self._writes, b"\0")
        self._thread.join()
        os.close(self._reads)
        os.close(self._writes)
        if self._answered:
            self._roll.withdraw()

    def at(self, phase: Phase, epoch: int, step: int) -> None:
        """Note that this rank begins a phase at a step of the training, both counted from 1."""
        self.alive()
        self._place = Place(epoch, step, phase)

    def alive(self) -> None:
        """Note progress within a phase."""
        now = time.monotonic()
        times, seconds = self._times[self._place.phase], now - self._since
        if len(times) < 2:
            times.append(seconds)
        else:
            times[1] = max(times[1], seconds)
        self._since = now
        self._beats += 1

    def _run(self) -> None:
        beats, silent, last = -1, 0.0, time.monotonic()
        while True:
            heard = select.select([self._reads], [], [], TICK)[0]
            if self._stopped:
                return
            if heard:
                self._hear(os.read(self._reads, 64))
            now = time.monotonic()
            # Time in which this rank itself was suspended does not count: the others may have been, too.
            elapsed, last = min(now - last, 2 * TICK), now
            if beats != self._beats:
                beats, silent = self._beats, 0.0
                self._go_on()
            else:
                silent += elapsed
                self._judge(silent)

    def _hear(self, numbers: bytes) -> None:
        # `launcher run` repeats its request every second.
        asked = [number for number in numbers if number in SIGNALS]
        if asked and not self._asked:
            self._asked = True
            self._alert.signal(signal.Signals(asked[0]).name, self._place)

    def _go_on(self) -> None:
        if self._answered:
            self._roll.withdraw()
        if self._said:
            self._alert.remark(f"The training goes on: {self._place.moment}")
        self._answered, self._said, self._next_look = False, "", 0.0

    def _judge(self, silent: float) -> None:
        place = self._place
        notice, limit = self._limits(place.phase)
        if silent < notice:
            return
        if not self._answered:
            # If the folder cannot be written, the other ranks name this one: they cannot see that it lives.
            with suppress(OSError):
                self._roll.answer(place)
            self._answered = True
        ends = silent >= limit
        if silent < notice + ANSWERS or (not ends and silent < self._next_look):
            return
        # A look at the places of 512 ranks takes 512 small reads, so the looks become rare.
        self._next_look = 1.5 * silent
        if not self._roll.speaks():
            if silent > limit + OTHERS:
                self._alert.end("")
            return
        late = self._roll.late()
        if ends:
            self._alert.end(f"no progress for {silent:.0f} s (--hang-timeout): {late}")
        elif late != self._said:
            self._alert.remark(f"Warning: no progress for {silent:.0f} s: {late}{self._then(limit)}")
            self._said = late

    def _limits(self, phase: Phase) -> tuple[float, float]:
        """Return after how many silent seconds in a phase this rank asks for the others, and ends the run."""
        times = self._times[phase]
        if not times:
            limit = max(self._limit, FIRST)
            return FIRST / 2, limit
        # The first stretch includes the compilation, so it says little about the usual time.
        many = 2 * times[0] if len(times) == 1 else MANY * times[1]
        limit = max(self._limit, many)
        if self._asked and phase <= Phase.COMPUTING:
            limit = min(limit, max(many, AFTER_REQUEST))
        return min(max(NOTICE, many), limit / 2), limit

    def _then(self, limit: float) -> str:
        return "" if math.isinf(limit) else f". The run ends after {limit:.0f} s without progress (--hang-timeout)"
