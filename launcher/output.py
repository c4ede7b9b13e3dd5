"""Send the output of all ranks but the first to files, and keep the console for errors that end the job.

The files replace the standard output and error of the process itself, so they also receive the output of C libraries
and of crashes.
"""

from __future__ import annotations

import atexit
import os
import sys
from pathlib import Path
from typing import TextIO

from scaling.records.shared_places import append_only

__all__ = ["console", "write_to"]

# The console of this process, if its output goes to a file.
_consoles: list[TextIO] = []


def console() -> TextIO:
    """Return the stream that the user sees. Any rank may write to it the error that ends the job."""
    return _consoles[-1] if _consoles else sys.stderr


def write_to(path: Path) -> None:
    """Append standard output and error of this process to a file. At exit, remove the file if it is empty.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    _consoles.append(os.fdopen(os.dup(2), "w"))
    file = append_only(path)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    atexit.register(_remove_if_empty, path)


def _remove_if_empty(path: Path) -> None:
    sys.stdout.flush()
    if path.exists() and path.stat().st_size == 0:
        path.unlink(missing_ok=True)
