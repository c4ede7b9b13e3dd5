"""The state of processes, from /proc."""

from __future__ import annotations

from pathlib import Path

__all__ = ["alive", "state", "stopped"]


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
