"""Read and write time limits of jobs."""

from __future__ import annotations

import re

from launcher.errors import LaunchError

__all__ = ["SHORTEST", "format_time", "parse_time"]

SHORTEST = 60
"""Shortest time limit in seconds. Slurm counts time limits in minutes."""


def parse_time(text: str) -> int:
    """Return the seconds of a time limit: HH:MM:SS, D-HH:MM:SS as Slurm writes it, or a number of hours.

    Slurm reads a bare number as minutes, and 10:30 as minutes and seconds. Here a bare number is hours, and two numbers
    with one colon are refused.

    Raises:
        LaunchError: the text is not a time limit, or the limit is shorter than a minute.
    """
    if match := re.fullmatch(r"(?:(\d{1,3})-)?(\d{1,4}):([0-5]\d):([0-5]\d)", text, re.ASCII):
        days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
        total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    elif re.fullmatch(r"(\d{1,4}(\.\d{0,6})?|\.\d{1,6})h?", text, re.ASCII):
        total = round(float(text.rstrip("h")) * 3600)
    else:
        raise LaunchError(f"time limit {text!r}; expected HH:MM:SS, D-HH:MM:SS or a number of hours such as 1.5")
    if total < SHORTEST:
        raise LaunchError(f"time limit {text!r} is shorter than a minute; give a minute or more")
    return total


def format_time(seconds: int) -> str:
    """Return a time limit as HH:MM:SS. The hours may exceed 24."""
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
