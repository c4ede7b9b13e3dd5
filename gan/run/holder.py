"""Prove that the process that held a folder's lock has ended, without waiting for it.

The number of a process proves nothing: every container counts its processes from 1, and nodes may share a name. But the
kernel releases an `flock` when its process ends. This is a proof within one kernel only, because some file systems do
not share these locks between nodes. So the holder also writes the id of its kernel.
"""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import IO

from scaling.records.saving import PART

__all__ = ["Holder"]


class Holder:
    """The file that the holder of a lock keeps locked in the kernel as long as it lives."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / ".lock-holder"
        self._file: IO[str] | None = None

    def sign(self, claim: str) -> None:
        """Write the file for a lock that this process has just taken. Do nothing where files have no such locks.

        Args:
            claim: content of the lock. It differs for every process that takes the lock.
        """
        part = self._path.with_name(f"{self._path.name}.{os.getpid()}{PART}")
        with suppress(OSError):
            # A new file for every holder: a suspended process may still have the file of the holder before.
            part.unlink(missing_ok=True)
            file = part.open("x")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                file.write(json.dumps(_identity(claim)))
                file.flush()
                part.replace(self._path)
            except OSError:
                with suppress(OSError):
                    file.close()
                    part.unlink()
                raise
            self._file = file

    def leave(self) -> None:
        """Remove the file, if this process wrote it.

        Raises:
            OSError: the folder cannot be written any more.
        """
        if self._file is None:
            return
        with self._file as file, suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), self._path.stat()):
                self._path.unlink()

    def remove_if_ended(self, lock: Path, claim: str) -> bool:
        """Remove a lock if its holder was a process of this kernel that has ended.

        Args:
            lock: file of the lock.
            claim: its content.

        Returns:
            True if the lock is removed.
        """
        try:
            with self._path.open("r+") as file:
                if json.load(file) != _identity(claim):
                    return False
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # If two runs wait, the other one may have removed this lock before, and hold a new one.
                if lock.read_text() != claim:
                    return False
                lock.unlink()
                return True
        except (OSError, ValueError, RecursionError):
            return False


def _identity(claim: str) -> dict[str, str]:
    """Return the content of the file for a holder on this kernel."""
    return {"kernel": Path("/proc/sys/kernel/random/boot_id").read_text().strip(), "claim": claim}
