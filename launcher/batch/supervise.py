"""Supervise the starter (srun, ibrun or mpirun): forward stop requests to the ranks, and end the run if a node dies.

`launcher.batch.run` builds the command of the starter, and decides what to do after its end.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from gan.training.interruption import SIGNALS, Received, handled
from launcher.batch.outcome import INTERRUPTED
from launcher.heartbeat import LIMIT, Monitor
from scaling.records.wording import count

__all__ = ["StopRequests", "supervise", "wait_for_silent_nodes"]

_DIE_TOGETHER = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execvp(sys.argv[2], sys.argv[2:])
"""
"""Program that becomes the starter. The kernel sends the starter SIGTERM when the process of `launcher run` is killed.
The starter then ends its ranks: none trains on without supervision. A function that `subprocess` calls after its fork
could do the same, but may hang in a process with threads."""

ENDS_WITHIN = 5.0
"""Time limit in seconds for the starter to end its ranks after a node has died."""


class StopRequests:
    """Signals that asked this process to stop the run, see `interruption.SIGNALS`."""

    def __init__(self) -> None:
        self._received = Received()
        self.urgent = False
        """True after a second request: the ranks should end at once, without a checkpoint."""

    @contextmanager
    def listening(self) -> Iterator[StopRequests]:
        """Record the signals inside the `with` block. By default they would end the process.

        A second SIGTERM or SIGHUP, some seconds later, makes the request urgent. A second Ctrl-C ends this process,
        also while it stages or cleans up. A signal that is ignored stays ignored.

        The block must include staging and clean-up: otherwise a signal at that time would break a chain of jobs.
        """
        with handled(SIGNALS, self._record):
            yield self

    @property
    def first(self) -> str:
        """Name of the first signal, or an empty text before any signal."""
        return self._received.first

    def _record(self, number: int, _: Any) -> None:
        if self._received.again(number):
            self.urgent = True


def supervise(
    argv: Sequence[str],
    environment: Mapping[str, str],
    monitor: Monitor,
    requests: StopRequests,
    end_ranks: Callable[[], None],
) -> tuple[int, list[str]]:
    """Run the starter until it ends, or end it when a node has died. Return its exit status and the dead nodes.

    Args:
        argv: command of the starter.
        environment: environment variables of the starter.
        monitor: heartbeat monitor of the run.
        requests: stop requests. The first one is passed on to the ranks.
        end_ranks: function that ends the ranks which a killed starter leaves behind.
    """
    # Slurm may signal the process group of this process. In a separate session, the starter does not get this signal.
    together = [sys.executable, "-ISc", _DIE_TOGETHER, str(os.getpid()), *argv]
    child = subprocess.Popen(together, env=dict(environment), start_new_session=True)
    announced = False
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
            if requests.urgent:
                print("Second request: ending the ranks without a checkpoint", flush=True)
                end_ranks()
                _end(child)
                return INTERRUPTED, []
            if requests.first:
                # Ask repeatedly: ranks that are still starting do not receive the request.
                nodes = monitor.ask_to_stop()
                if not announced:
                    print(f"{requests.first}: asking ranks on {count(nodes, 'node')} to checkpoint and end", flush=True)
                announced = True
    except KeyboardInterrupt:
        _end(child)
        return 130, []


def wait_for_silent_nodes(monitor: Monitor) -> list[str]:
    """Return the nodes that have died. Call this after the starter has failed: srun may notice a dead node first.

    Wait until every node has either closed its connection or been silent for the limit of the heartbeat.
    """
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
