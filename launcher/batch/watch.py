"""Runs the program that starts the ranks and stays with it: requests to stop are passed on, dead nodes end it.

What is started, and what follows from how it ended, is `run`'s business.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from gan.training.interruption import SIGNALS
from launcher.heartbeat import LIMIT, Monitor

__all__ = ["Requests", "watch", "who_fell_silent"]

ENDS_WITHIN = 5.0
"""Seconds that a starter has to end its ranks once a node is dead."""


class Requests:
    """Signals that ask this process to see to the run's end in good order."""

    def __init__(self) -> None:
        self._seen: list[int] = []

    @contextmanager
    def listening(self) -> Iterator[Requests]:
        """From the first line to the last: a signal while files are staged or taken away must not break a chain."""
        before = {number: signal.signal(number, self._note) for number in SIGNALS}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @property
    def first(self) -> str:
        """Name of the first signal; empty where none came."""
        return signal.Signals(self._seen[0]).name if self._seen else ""

    def _note(self, number: int, _: Any) -> None:
        self._seen.append(number)


def watch(
    argv: Sequence[str],
    environment: Mapping[str, str],
    monitor: Monitor,
    requests: Requests,
    end_ranks: Callable[[], None],
) -> tuple[int, list[str]]:
    """Run the starter to its end, or end it when a node has died. Returns its status and the dead nodes.

    Args:
        end_ranks: ends ranks that the starter leaves behind when it is killed.
    """
    # In a session of its own: what Slurm signals to this process's group must not end the ranks as well.
    child = subprocess.Popen(argv, env=dict(environment), start_new_session=True)
    said = False
    try:
        while True:
            try:
                return child.wait(timeout=1.0), []
            except subprocess.TimeoutExpired:
                pass
            if dead := monitor.silent():
                end_ranks()
                _end(child)
                return child.returncode, dead
            if requests.first:
                # Again and again, since ranks that are still starting cannot hear.
                count = monitor.ask_to_stop()
                if not said:
                    print(f"{requests.first}: asking the ranks on {count} nodes to checkpoint and end", flush=True)
                said = True
    except KeyboardInterrupt:
        _end(child)
        return 130, []


def who_fell_silent(monitor: Monitor) -> list[str]:
    """After a bad end: the nodes that neither go on nor say goodbye, since srun may notice a dead node first."""
    until = time.monotonic() + LIMIT + 5.0
    while monitor.present() and time.monotonic() < until:
        if dead := monitor.silent():
            return dead
        time.sleep(0.5)
    return []


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(ENDS_WITHIN)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
