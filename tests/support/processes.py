"""The state of processes, from /proc."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

__all__ = ["alive", "assert_gone", "state", "stopped", "wait_until"]


def state(process: int) -> str:
    """Return the letter of the kernel for the state of a process, such as S, T or Z; empty if it does not exist."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def alive(process: int) -> bool:
    """Return whether a process has not ended. A zombie has ended."""
    return state(process) not in ("", "Z")


def stopped(process: int) -> bool:
    """Return whether a process is suspended."""
    return state(process) == "T"


def wait_until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until a condition is true. Fail after some seconds."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, f"it did not happen within {seconds:g} s"
        time.sleep(0.02)


def assert_gone(processes: Iterable[int]) -> None:
    """Wait until all processes have ended. Fail after a minute."""
    ids = list(processes)
    wait_until(lambda: not any(map(alive, ids)))
