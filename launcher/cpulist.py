"""CPU lists as Linux writes them: "0-11,48-59", or "0-22:2" with a stride. A CPU is one hardware thread."""

from __future__ import annotations

import re
from collections.abc import Iterable

from launcher.errors import LaunchError

__all__ = ["format_cpu_list", "parse_cpu_list"]

MAX_CPUS = 1 << 16
"""More than Linux supports: a larger number in a list is a damaged one."""


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """The CPUs of a list such as "0-11,48-59" or "0-22:2", ascending, each once; none for an empty text.

    Raises LaunchError for anything else.
    """
    cpus: set[int] = set()
    for part in text.strip().split(",") if text.strip() else ():
        match = re.fullmatch(r"([0-9]{1,6})(?:-([0-9]{1,6})(?::([0-9]{1,6}))?)?", part.strip())
        first, last, step = (int(match[1]), int(match[2] or match[1]), int(match[3] or 1)) if match else (1, 0, 1)
        if step < 1 or not first <= last < MAX_CPUS:
            raise LaunchError(f"{text!r} is not a list of CPU numbers such as 0-11,48-59 or 0-22:2")
        cpus.update(range(first, last + 1, step))
    return tuple(sorted(cpus))


def format_cpu_list(cpus: Iterable[int]) -> str:
    """A short list of these CPUs, with strides as in "0-22:2" for three or more numbers equally far apart."""
    left, parts = sorted(set(cpus)), []
    while left:
        step = left[1] - left[0] if len(left) > 1 else 1
        length = next((i for i in range(1, len(left)) if left[i] - left[i - 1] != step), len(left))
        # Two numbers apart are no pattern yet: 0,2-9 reads better than 0-2:2,3-9.
        length = 1 if step > 1 and length < 3 else length
        run, left = left[:length], left[length:]
        stride = f":{step}" if step > 1 else ""
        parts.append(f"{run[0]}-{run[-1]}{stride}" if length > 1 else str(run[0]))
    return ",".join(parts)
