"""Parse and format CPU lists as Linux writes them: "0-11,48-59", or "0-22:2" with a stride.

A CPU is one hardware thread.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from launcher.errors import LaunchError

__all__ = ["MAX_CPUS", "format_cpu_list", "parse_cpu_list"]

MAX_CPUS = 1 << 16
"""CPU numbers must be below this limit. Linux supports fewer CPUs, so a list with a larger number is damaged."""


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """Return the CPUs of a list such as "0-11,48-59" or "0-22:2", each once and ascending; none for an empty text.

    Raises:
        LaunchError: the text is not a CPU list.
    """
    cpus: set[int] = set()
    for part in text.strip().split(",") if text.strip() else ():
        match = re.fullmatch(r"([0-9]{1,6})(?:-([0-9]{1,6})(?::([0-9]{1,6}))?)?", part.strip())
        first, last, step = (int(match[1]), int(match[2] or match[1]), int(match[3] or 1)) if match else (1, 0, 1)
        if step < 1 or not first <= last < MAX_CPUS:
            raise LaunchError(f"{text!r} is not a list of CPU numbers; expected one such as 0-11,48-59 or 0-22:2")
        cpus.update(range(first, last + 1, step))
    return tuple(sorted(cpus))


def format_cpu_list(cpus: Iterable[int]) -> str:
    """Return a short list of the CPUs. Three or more numbers at equal distances get a stride, as in "0-22:2"."""
    remaining, parts = sorted(set(cpus)), []
    while remaining:
        step = remaining[1] - remaining[0] if len(remaining) > 1 else 1
        changes = (i for i in range(1, len(remaining)) if remaining[i] - remaining[i - 1] != step)
        length = next(changes, len(remaining))
        # No stride for two numbers only: 0,2-9 is easier to read than 0-2:2,3-9.
        length = 1 if step > 1 and length < 3 else length
        run, remaining = remaining[:length], remaining[length:]
        stride = f":{step}" if step > 1 else ""
        parts.append(f"{run[0]}-{run[-1]}{stride}" if length > 1 else str(run[0]))
    return ",".join(parts)
