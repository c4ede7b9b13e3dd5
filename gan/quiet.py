"""Keeps TensorFlow's start-up remarks off the console: two lines of each rank, that no setting of TensorFlow silences.

Everything else that is written meanwhile is passed on, and all of it where the start fails.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["remarks_held_back"]

REMARKS = ("All log messages before absl::InitializeLog()", "oneDNN custom operations are on")


@contextmanager
def remarks_held_back() -> Iterator[None]:
    """Collect what this process writes to file descriptor 2, and pass on what is not one of the remarks."""
    sys.stderr.flush()
    console = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        failed = True
        try:
            yield
            failed = False
        finally:
            sys.stderr.flush()
            os.dup2(console, 2)
            os.close(console)
            held.seek(0)
            for line in held.read().decode(errors="replace").splitlines(keepends=True):
                if failed or not any(remark in line for remark in REMARKS):
                    sys.stderr.write(line)
            sys.stderr.flush()
