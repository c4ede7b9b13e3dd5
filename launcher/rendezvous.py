"""Exchange values between the ranks of one node without MPI, through files in the node's memory (/dev/shm).

`launcher exec` needs this: the program that replaces the rank starts MPI itself, and a process can start MPI only once.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from launcher.allocation import Allocation
from launcher.errors import LaunchError
from scaling.records.saving import save_text
from scaling.records.shared_places import make_private

__all__ = ["Rendezvous"]

PATIENCE = 60.0
"""Default number of seconds to wait for the other ranks of the node."""
SILENCE = 5.0
"""Seconds of waiting after which the user reads what this rank waits for."""
SHARED_MEMORY = Path("/dev/shm")
"""Folder that all ranks of a node see, even if each of them has a TMPDIR of its own."""


class Rendezvous:
    """Exchange of values between the ranks of this node. All ranks must call the same methods in the same order."""

    def __init__(self, allocation: Allocation, environ: Mapping[str, str], patience: float = PATIENCE) -> None:
        """Create this rank's end of the exchange.

        Args:
            allocation: the place of this rank.
            environ: environment of this rank. Some of its variables identify the launch.
            patience: seconds to wait for another rank.
        """
        self.local_rank = allocation.local_rank or 0
        self.local_size = allocation.local_size or 1
        self._patience = patience
        launch = _launch_id(allocation, environ)
        place = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK | os.X_OK) else Path(tempfile.gettempdir())
        self._folder = place / f"launcher-{os.getuid()}-{os.uname().nodename}-{launch}"
        self._round = 0
        self._told: Any = None

    def exchange(self, value: Any) -> list[Any]:
        """Send a value and return the values of all ranks of the node, by local rank.

        Args:
            value: anything that JSON can hold.

        Raises:
            LaunchError: another rank sends nothing before the time limit, or the folder is not ours.
        """
        self.tell(value)
        return self._values()

    def tell(self, value: Any) -> None:
        """Send a value to the first rank of the node, without waiting for other ranks.

        Raises:
            LaunchError: the folder belongs to another user, or lets other users in.
        """
        # A rank alone needs no file. So two ranks that one shell starts at the same time do not meet.
        if self.local_size == 1:
            self._told = value
            return
        try:
            make_private(self._folder)
        except OSError as error:
            raise LaunchError(f"{os.uname().nodename}: the ranks of this node cannot meet: {error}") from None
        save_text(self._path(self._round, self.local_rank), json.dumps(value))
        self._round += 1

    def hear(self) -> list[Any] | None:
        """Return the last value of every rank, by local rank, and remove the files.

        Only the first rank of the node gets the values; other ranks get None.

        Raises:
            LaunchError: another rank sends nothing before the time limit.
        """
        if self.local_rank:
            return None
        values = self._values()
        if self.local_size == 1:
            return values
        shutil.rmtree(self._folder, ignore_errors=True)
        return values

    def _path(self, number: int, local_rank: int) -> Path:
        """Return the file for the value that a rank sends in round `number`."""
        return self._folder / f"{number}-{local_rank}.json"

    def _values(self) -> list[Any]:
        if self.local_size == 1:
            return [self._told]
        return [self._read(local_rank) for local_rank in range(self.local_size)]

    def _read(self, local_rank: int) -> Any:
        # `tell` has already started the next round.
        path = self._path(self._round - 1, local_rank)
        began, told = time.monotonic(), False
        while not path.exists():
            waited = time.monotonic() - began
            if waited > self._patience:
                self._leave()
                raise LaunchError(
                    f"{os.uname().nodename}: local rank {local_rank} of {self.local_size} sent nothing to "
                    f"{self._folder} within {self._patience:.0f} s. Expected the same command on every rank, and one "
                    f"{self._folder.parent} and host name for all ranks of a node: start all ranks with the same "
                    "'python -m launcher exec', and outside of containers, or give the containers a common "
                    f"{self._folder.parent}"
                )
            # One rank of the node prints, or two if they do not see each other.
            if waited > SILENCE and not told and self.local_rank == (0 if local_rank else 1):
                told = True
                print(
                    f"{os.uname().nodename}: local rank {self.local_rank} waits for local rank {local_rank} of "
                    f"{self.local_size} in {self._folder}, up to {self._patience:.0f} s",
                    file=sys.stderr,
                    flush=True,
                )
            time.sleep(0.02)
        return json.loads(path.read_text())

    def _leave(self) -> None:
        """Remove the files of this rank, and the folder if it is empty then."""
        with suppress(OSError):
            for number in range(self._round):
                self._path(number, self.local_rank).unlink(missing_ok=True)
            self._folder.rmdir()


def _launch_id(allocation: Allocation, environ: Mapping[str, str]) -> str:
    """Return an id shared by the ranks of one launch and unique on this node."""
    for name in ("PMIX_NAMESPACE", "PMI_JOBID"):
        if environ.get(name):
            return "".join(letter if letter.isalnum() else "-" for letter in environ[name])
    if allocation.source == "Slurm":
        names = ("SLURM_JOB_ID", "SLURM_RESTART_COUNT", "SLURM_STEP_ID")
        return "-".join(["slurm", *(environ.get(name, "0") for name in names)])
    parent = os.getppid()
    # Field 22 is the start time of the process. A process id can be used again, but not with the same start time.
    start_time = Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[19]
    return f"{parent}-{start_time}"
