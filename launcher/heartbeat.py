"""Tells a node that has died from one that computes: every node's first rank says now and then that it is there.

`launcher run` listens (`Monitor`) and names the host that falls silent, long before MPI or Slurm notice; through the
same connections it asks the ranks to stop, whatever started them. On a node a forked process beats, since a rank that
loads TensorFlow from a slow file system answers nobody for minutes.
"""

from __future__ import annotations

import ctypes
import os
import random
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener, answer_challenge, deliver_challenge, wait
from pathlib import Path

from launcher.allocation import Allocation

__all__ = ["VARIABLE", "Monitor", "start_heartbeat"]

VARIABLE = "LAUNCHER_MONITOR"
"""host:port:key of the monitor, in the environment of the ranks."""

INTERVAL = 3.0
"""Seconds between beats."""

LIMIT = 20.0
"""Seconds of silence after which a node counts as dead."""

_PR_SET_PDEATHSIG = 1


class Monitor:
    """Listens for the nodes of one run. A context manager; all methods may be called from any thread."""

    def __init__(self, host: str = "", limit: float = LIMIT) -> None:
        """Args: host: name by which other nodes find this one; empty where all ranks are here."""
        self._limit = limit
        self._stood_still = max(2.0, limit / 4)
        self._host = host or "localhost"
        self._key = secrets.token_hex(16)
        # On all of a node's addresses: its name may stand for another network than the one that others come from.
        # A thousand nodes may come at once. The key is asked for in `_admit`, where a mute stranger holds up nobody.
        self._listener = Listener(("0.0.0.0" if host else "localhost", 0), backlog=4096)
        self._heard: dict[str, float] = {}
        self._connections: dict[Connection, str] = {}
        self._lock = threading.Lock()
        self._listened = time.monotonic()
        self._over = False

    @property
    def variable(self) -> str:
        """The value of VARIABLE for the ranks."""
        return f"{self._host}:{self._listener.address[1]}:{self._key}"

    def __enter__(self) -> Monitor:
        threading.Thread(target=self._accept, name="monitor-accept", daemon=True).start()
        threading.Thread(target=self._receive, name="monitor", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._listener.close()

    def silent(self) -> list[str]:
        """Nodes that said something once and nothing for longer than the limit, nor goodbye."""
        now = time.monotonic()
        with self._lock:
            # A monitor that stood still itself, as in a suspended job, has heard nobody.
            if now - self._listened > self._stood_still:
                return []
            return sorted(host for host, when in self._heard.items() if now - when > self._limit)

    def present(self) -> list[str]:
        """Nodes that said something and not goodbye, silent ones included."""
        with self._lock:
            return sorted(self._heard)

    def ask_to_stop(self) -> int:
        """Ask one rank on every node to stop the training in good order; returns how many were asked."""
        with self._lock:
            connections = list(self._connections)
        asked = 0
        for connection in connections:
            with suppress(OSError):
                connection.send("stop")
                asked += 1
        return asked

    def _accept(self) -> None:
        while not self._over:
            try:
                connection = self._listener.accept()
            except OSError:
                time.sleep(0.1)
                continue
            threading.Thread(target=self._admit, args=(connection,), daemon=True).start()

    def _admit(self, connection: Connection) -> None:
        """Let in who has the key, as `multiprocessing` does it."""
        try:
            deliver_challenge(connection, self._key.encode())
            answer_challenge(connection, self._key.encode())
        except (AuthenticationError, EOFError, OSError):
            connection.close()
            return
        with self._lock:
            self._connections[connection] = ""

    def _receive(self) -> None:
        while not self._over:
            now = time.monotonic()
            with self._lock:
                connections = list(self._connections)
                if now - self._listened > self._stood_still:
                    self._heard = dict.fromkeys(self._heard, now)
                self._listened = now
            if not connections:
                time.sleep(0.1)
                continue
            for connection in wait(connections, timeout=0.5):
                assert isinstance(connection, Connection)
                self._hear(connection)

    def _hear(self, connection: Connection) -> None:
        try:
            host = str(connection.recv())
        except (EOFError, OSError):
            # Whoever beats has ended, with its rank or by a signal: MPI's and Slurm's own business.
            with self._lock:
                self._heard.pop(self._connections.pop(connection), None)
            connection.close()
            return
        with self._lock:
            self._connections[connection] = host
            self._heard[host] = time.monotonic()


def start_heartbeat(allocation: Allocation, environ: Mapping[str, str]) -> None:
    """Beat from this node, where a monitor waits and this is the node's first rank.

    To be called before there are threads and before MPI: the beating process is forked from this one.
    """
    if VARIABLE not in environ or allocation.local_rank not in (0, None):
        return
    rank = os.getpid()
    if os.fork():
        return
    with suppress(BaseException):
        _die_with(rank)
        _let_go_of_files()
        while True:
            with suppress(AuthenticationError, EOFError, OSError):
                _beat(environ[VARIABLE], rank)
            # As long as the rank lives: the network may have hiccups, and a thousand nodes start at once.
            time.sleep(random.uniform(0.5, 2.0))
    os._exit(0)


def _beat(variable: str, rank: int) -> None:
    host, port, key = variable.rsplit(":", 2)
    with Client((host, int(port)), authkey=key.encode()) as connection:
        while True:
            connection.send(socket.gethostname())
            if connection.poll(INTERVAL) and connection.recv() == "stop" and _catches(rank, signal.SIGUSR1):
                os.kill(rank, signal.SIGUSR1)


def _catches(process: int, number: signal.Signals) -> bool:
    """Whether a process handles a signal; one that does not would be killed by it."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def _die_with(parent: int) -> None:
    """End this process when the one that forked it ends, also by SIGKILL."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    if os.getppid() != parent:
        sys.exit()


def _let_go_of_files() -> None:
    """Whoever started the rank waits for the end of its output, and PMI for that of its connection."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
