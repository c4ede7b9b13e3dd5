"""Hide two start-up messages of TensorFlow that every rank prints. No setting of TensorFlow turns them off."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["prepare_tensorflow", "startup_messages_hidden"]

MESSAGES = ("All log messages before absl::InitializeLog()", "oneDNN custom operations are on")


@contextmanager
def startup_messages_hidden() -> Iterator[None]:
    """Delay the output to file descriptor 2 until the end of the block, and print it without the messages.

    After an exception the complete output is printed. Without a temporary folder nothing is hidden.
    """
    file = None
    with suppress(OSError):
        file = tempfile.TemporaryFile()  # noqa: SIM115
    if file is None:
        yield
        return
    sys.stderr.flush()
    console = os.dup(2)
    with file as held:
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


def prepare_tensorflow(streams: int, threads: int) -> None:
    """Set the environment variables that TensorFlow reads when it is loaded: threads, log level, oneDNN.

    Args:
        streams: operations that run at the same time.
        threads: threads of each operation.
    """
    os.environ.update(TF_NUM_INTEROP_THREADS=str(streams), TF_NUM_INTRAOP_THREADS=str(threads))
    for name, value in (("TF_CPP_MIN_LOG_LEVEL", "2"), ("TF_ENABLE_ONEDNN_OPTS", "1"), ("KERAS_BACKEND", "tensorflow")):
        os.environ.setdefault(name, value)
