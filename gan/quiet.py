"""Hide two start-up messages of TensorFlow that every rank prints. No setting of TensorFlow turns them off."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["startup_messages_hidden"]

MESSAGES = ("All log messages before absl::InitializeLog()", "oneDNN custom operations are on")


@contextmanager
def startup_messages_hidden() -> Iterator[None]:
    """Delay the output to file descriptor 2 until the end of the block, and print it without the messages.

    After an exception the complete output is printed.
    """
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
                if failed or not any(message in line for message in MESSAGES):
                    sys.stderr.write(line)
            sys.stderr.flush()
