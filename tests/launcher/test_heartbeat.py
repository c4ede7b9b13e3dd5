"""Nodes send beats, become silent and are asked to stop, with real processes and connections and short intervals."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launcher import heartbeat
from launcher.allocation import Allocation
from launcher.heartbeat import VARIABLE, Monitor, start_heartbeat
from tests.support.processes import alive, state, wait_until


@pytest.fixture
def monitor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Monitor]:
    monkeypatch.setattr(heartbeat, "INTERVAL", 0.1)
    with Monitor(limit=1.5) as listening:
        yield listening


@pytest.fixture
def rank(monitor: Monitor) -> Iterator[Callable[..., int]]:
    """Return a function that forks a rank that sends beats.

    With `listens` the rank handles SIGUSR1, and then exits with status 5.
    """
    processes: list[int] = []

    def fork(*, listens: bool = True, local_rank: int = 0) -> int:
        process = os.fork()
        if process == 0:
            if listens:
                signal.signal(signal.SIGUSR1, lambda *_: os._exit(5))
            start_heartbeat(Allocation(local_rank=local_rank, local_size=2), {VARIABLE: monitor.variable})
            time.sleep(60)
            os._exit(0)
        processes.append(process)
        return process

    yield fork
    for process in processes:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def beating_process(rank: int) -> int:
    """Return the id of the process that sends the beats of a rank."""
    return int(Path(f"/proc/{rank}/task/{rank}/children").read_text().split()[0])


def test_a_node_is_present_until_its_rank_ends(monitor: Monitor, rank: Callable[..., int]) -> None:
    process = rank()
    wait_until(monitor.present)
    assert monitor.present() == [os.uname().nodename]
    beats = beating_process(process)
    os.kill(process, signal.SIGKILL)
    wait_until(lambda: not monitor.present())
    assert monitor.silent() == []
    wait_until(lambda: not alive(beats))


def test_a_node_without_beats_is_named(monitor: Monitor, rank: Callable[..., int]) -> None:
    process = rank()
    wait_until(monitor.present)
    os.kill(beating_process(process), signal.SIGSTOP)
    wait_until(monitor.silent)
    assert monitor.silent() == [os.uname().nodename]


def test_strangers_keep_no_node_out_and_take_no_threads(
    monitor: Monitor, rank: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections that say nothing are limited in number, and end after a time."""
    monkeypatch.setattr(heartbeat, "STRANGERS", 8)
    monkeypatch.setattr(heartbeat, "HANDSHAKE", 1.0)
    port = int(monitor.variable.split(":")[1])
    before = threading.active_count()
    mute = [socket.create_connection(("localhost", port)) for _ in range(40)]
    wait_until(lambda: len(monitor._strangers) == 8)
    wait_until(lambda: threading.active_count() <= before + 8)
    rank()
    wait_until(monitor.present)
    wait_until(lambda: not monitor._strangers)
    wait_until(lambda: threading.active_count() <= before)
    for each in mute:
        each.settimeout(5)
        # The monitor's challenge may come first, then the end of the connection.
        while each.recv(1000):
            pass
        each.close()
    assert monitor.present() == [os.uname().nodename]


def test_a_stranger_that_sends_slowly_is_turned_away(monitor: Monitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "HANDSHAKE", 0.5)
    with socket.create_connection(("localhost", int(monitor.variable.split(":")[1]))) as slow:
        slow.sendall(b"\0\0\0")
        wait_until(lambda: monitor._strangers)
        slow.sendall(b"\0")
        wait_until(lambda: not monitor._strangers)
    assert not monitor._connections


def test_ranks_are_asked_to_stop(monitor: Monitor, rank: Callable[..., int]) -> None:
    process = rank()
    wait_until(monitor.present)
    assert monitor.ask_to_stop() == 1
    wait_until(lambda: os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT))
    result = os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
    assert result is not None
    assert result.si_status == 5


def test_a_program_without_a_signal_handler_is_not_killed(monitor: Monitor, rank: Callable[..., int]) -> None:
    process = rank(listens=False)
    wait_until(monitor.present)
    monitor.ask_to_stop()
    time.sleep(0.5)
    assert os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    assert monitor.present()


def test_only_the_first_rank_of_a_node_sends_beats(monitor: Monitor, rank: Callable[..., int]) -> None:
    process = rank(local_rank=1)
    wait_until(lambda: state(process) == "S")
    time.sleep(0.5)
    assert not Path(f"/proc/{process}/task/{process}/children").read_text()
    assert monitor.present() == []


def test_connections_without_the_key_are_ignored(monitor: Monitor, rank: Callable[..., int]) -> None:
    host, port, _ = monitor.variable.split(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(b"\x00\x00\x00\x05hello")
    rank()
    wait_until(monitor.present)
    assert monitor.present() == [os.uname().nodename]
