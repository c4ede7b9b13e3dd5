"""Where a rank's output goes: rank 0 speaks on the console, every other rank into a file of its own.

Files are set at the level of file descriptors, so that what C libraries and crashing processes say is kept too.
"""

from __future__ import annotations

import atexit
import os
import sys
from pathlib import Path
from typing import TextIO

__all__ = ["console", "write_to"]

_consoles: list[TextIO] = []


def console() -> TextIO:
    """The stream that people see: for the error that ends a job, whichever rank it comes from."""
    return _consoles[-1] if _consoles else sys.stderr


def write_to(path: Path) -> None:
    """Send standard output and error of this process to a file; it is removed at the end if nothing was written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    _consoles.append(os.fdopen(os.dup(2), "w"))
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    atexit.register(_remove_if_empty, path)


def _remove_if_empty(path: Path) -> None:
    sys.stdout.flush()
    if path.exists() and path.stat().st_size == 0:
        path.unlink(missing_ok=True)
