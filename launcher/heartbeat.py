"""Detect nodes that have died: one process on each node sends beats, and a monitor detects when they stop.

`launcher run` holds the `Monitor`. It detects a silent host long before MPI or Slurm do. It also uses the connections
to ask the ranks to stop, which works with every starter. A separate process sends the beats, because a rank that loads
TensorFlow from a slow file system may not respond for minutes. The first rank of a node forks this process.
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

from gan.training.interruption import SIGNALS
from launcher.allocation import Allocation

__all__ = ["VARIABLE", "Monitor", "start_heartbeat"]

VARIABLE = "LAUNCHER_MONITOR"
"""Name of the variable that gives the ranks the monitor's address and key, as HOST:PORT:KEY."""

INTERVAL = 3.0
"""Seconds between two beats of a node."""

LIMIT = 20.0
"""Seconds of silence after which a node counts as dead."""

HANDSHAKE = 5.0
"""Seconds in which a new connection must prove that it has the key. It takes some milliseconds."""

STRANGERS = 256
"""Largest number of connections that have not yet proved it. One more ends the oldest. A node connects again."""

# Option of prctl: the signal that a process gets when its parent ends.
_PR_SET_PDEATHSIG = 1


class Monitor:
    """Receiver of the beats of all nodes of one run, a context manager. Any thread may call its methods."""

    def __init__(self, host: str = "", limit: float = LIMIT) -> None:
        """Open a port on this node.

        Args:
            host: name of this node for other nodes; empty if all ranks run on this node.
            limit: seconds of silence after which a node counts as dead.
        """
        self._limit = limit
        self._longest_pause = max(2.0, limit / 4)
        self._host = host or "localhost"
        self._key = secrets.token_hex(16)
        # With other nodes, listen on all addresses: the nodes may use another network than the one of this node's name.
        # The backlog allows a thousand nodes to connect at the same time. The key is not given here: the listener would
        # then check it in `accept`, where one client that sends nothing blocks all others. `_admit` checks it in a
        # separate thread.
        self._listener = Listener(("0.0.0.0" if host else "localhost", 0), backlog=4096)
        # Times are values of time.monotonic().
        self._last_beats: dict[str, float] = {}
        # The host of each connection; empty before its first beat.
        self._connections: dict[Connection, str] = {}
        # New connections without a proof of the key, oldest first, with the time at which they end. A connection is
        # shut down only while it is here, and closed only after it has left: its descriptor may get another meaning.
        self._strangers: dict[Connection, float] = {}
        self._lock = threading.Lock()
        self._last_round = time.monotonic()
        self._closed = False

    @property
    def variable(self) -> str:
        """Value that the ranks must have in the environment variable VARIABLE."""
        return f"{self._host}:{self._listener.address[1]}:{self._key}"

    def __enter__(self) -> Monitor:
        threading.Thread(target=self._accept, name="monitor-accept", daemon=True).start()
        threading.Thread(target=self._receive, name="monitor", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self._listener.close()

    def silent(self) -> list[str]:
        """Return the hosts whose last beat is older than the limit. Hosts without a connection are left out."""
        now = time.monotonic()
        with self._lock:
            # If the monitor was suspended together with its job, it did not receive beats that were sent.
            if now - self._last_round > self._longest_pause:
                return []
            return sorted(host for host, last_beat in self._last_beats.items() if now - last_beat > self._limit)

    def present(self) -> list[str]:
        """Return the hosts that have sent a beat and are still connected, silent ones included."""
        with self._lock:
            return sorted(self._last_beats)

    def ask_to_stop(self) -> int:
        """Ask one rank on every node to checkpoint and end. Return the number of nodes that got the request."""
        with self._lock:
            connections = list(self._connections)
        requests = 0
        for connection in connections:
            with suppress(OSError):
                connection.send("stop")
                requests += 1
        return requests

    def _accept(self) -> None:
        while not self._closed:
            try:
                connection = self._listener.accept()
            except OSError:
                time.sleep(0.1)
                continue
            with self._lock:
                if len(self._strangers) >= STRANGERS:
                    self._turn_away(next(iter(self._strangers)))
                self._strangers[connection] = time.monotonic() + HANDSHAKE
            threading.Thread(target=self._admit, args=(connection,), daemon=True).start()

    def _admit(self, connection: Connection) -> None:
        """Keep a connection if its other end has the key, else close it. The protocol is the one of multiprocessing."""
        try:
            deliver_challenge(connection, self._key.encode())
            answer_challenge(connection, self._key.encode())
            known = True
        except (AuthenticationError, EOFError, OSError):
            known = False
        with self._lock:
            self._strangers.pop(connection, None)
            if known:
                self._connections[connection] = ""
            else:
                connection.close()

    def _turn_away(self, stranger: Connection) -> None:
        """End the handshake of a stranger: its thread sees the end of the connection. The caller holds the lock."""
        del self._strangers[stranger]
        with suppress(OSError), socket.socket(fileno=os.dup(stranger.fileno())) as end:
            end.shutdown(socket.SHUT_RDWR)

    def _receive(self) -> None:
        while not self._closed:
            now = time.monotonic()
            with self._lock:
                connections = list(self._connections)
                for stranger in [each for each, until in self._strangers.items() if now > until]:
                    self._turn_away(stranger)
                if now - self._last_round > self._longest_pause:
                    self._last_beats = dict.fromkeys(self._last_beats, now)
                self._last_round = now
            if not connections:
                time.sleep(0.1)
                continue
            for connection in wait(connections, timeout=0.5):
                assert isinstance(connection, Connection)
                self._receive_beat(connection)

    def _receive_beat(self, connection: Connection) -> None:
        try:
            host = str(connection.recv())
        except (EOFError, OSError):
            # The sending process has ended, with its rank or by a signal. MPI or Slurm detect this themselves.
            with self._lock:
                self._last_beats.pop(self._connections.pop(connection), None)
            connection.close()
            return
        with self._lock:
            self._connections[connection] = host
            self._last_beats[host] = time.monotonic()


def start_heartbeat(allocation: Allocation, environ: Mapping[str, str]) -> None:
    """Fork a process that sends this node's beats, if this is the node's first rank and the run has a monitor.

    Call this before MPI starts and before any thread exists: neither survives a fork.
    """
    if VARIABLE not in environ or allocation.local_rank not in (0, None):
        return
    rank = os.getpid()
    if os.fork():
        return
    with suppress(BaseException):
        _die_with(rank)
        _close_files()
        while True:
            with suppress(AuthenticationError, EOFError, OSError):
                _beat(environ[VARIABLE], rank)
            # Connect again until the rank ends: the network may fail for a moment. The random pause spreads the
            # connections of a thousand nodes that start at the same time.
            time.sleep(random.uniform(0.5, 2.0))
    os._exit(0)


def _beat(variable: str, rank: int) -> None:
    """Send beats until the connection ends. Pass each request to stop on to the rank as SIGUSR1.

    Args:
        variable: value of VARIABLE.
        rank: process id of the rank.

    Raises:
        AuthenticationError: the monitor does not accept the key.
        EOFError: the monitor has closed the connection.
        OSError: the connection fails.
    """
    host, port, key = variable.rsplit(":", 2)
    with Client((host, int(port)), authkey=key.encode()) as connection:
        while True:
            connection.send(socket.gethostname())
            if connection.poll(INTERVAL) and connection.recv() == "stop" and _catches(rank, signal.SIGUSR1):
                os.kill(rank, signal.SIGUSR1)


def _catches(process: int, number: signal.Signals) -> bool:
    """Return whether a process handles a signal. Without a handler, SIGUSR1 would kill it."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def _die_with(parent: int) -> None:
    """End this process when its parent ends, even if the parent is killed. Ignore signals for the parent."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if os.getppid() != parent:
        sys.exit()


def _close_files() -> None:
    """Close all files that this process shares with the rank.

    A starter waits until no process has the rank's output open, and PMI waits for the end of its connection.
    """
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
