"""Lets the ranks of one node tell each other something without MPI, through files in the node's own temporary folder.

For `exec`: the program that a rank becomes joins MPI itself, and MPI can be joined only once.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher.allocation import Allocation
from launcher.errors import LaunchError
from scaling.records.saving import save_text

__all__ = ["Rendezvous"]

PATIENCE = 120.0
"""Seconds to wait for the other ranks of the node."""


class Rendezvous:
    """The ranks of this node under one starter. Every method is called by all of them in the same order."""

    def __init__(self, allocation: Allocation, environ: Mapping[str, str], patience: float = PATIENCE) -> None:
        self.local_rank = allocation.local_rank or 0
        self.local_size = allocation.local_size or 1
        self._patience = patience
        self._folder = (
            Path(tempfile.gettempdir()) / f"launcher-{os.getuid()}-{os.uname().nodename}-{_name(allocation, environ)}"
        )
        self._round = 0

    def exchange(self, value: Any) -> list[Any]:
        """The values (that JSON can hold) of all ranks of the node, by local rank.

        Raises LaunchError where one of them does not come.
        """
        self.tell(value)
        return [self._read(local_rank) for local_rank in range(self.local_size)]

    def tell(self, value: Any) -> None:
        """Leave a value for the first rank of the node, without waiting for the others."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        path = self._path(self.local_rank)
        save_text(path, json.dumps(value))
        self._round += 1

    def hear(self) -> list[Any] | None:
        """On the first rank of the node all that was told last, and the files are removed; None elsewhere."""
        if self.local_rank:
            return None
        values = [self._read(local_rank) for local_rank in range(self.local_size)]
        shutil.rmtree(self._folder, ignore_errors=True)
        return values

    def _path(self, local_rank: int, before: int = 0) -> Path:
        return self._folder / f"{self._round - before}-{local_rank}.json"

    def _read(self, local_rank: int) -> Any:
        path = self._path(local_rank, before=1)
        until = time.monotonic() + self._patience
        while not path.exists():
            if time.monotonic() > until:
                raise LaunchError(
                    f"{os.uname().nodename}: local rank {local_rank} of {self.local_size} did not come within "
                    f"{self._patience:.0f} s. Start all ranks with the same 'python -m launcher exec'"
                )
            time.sleep(0.02)
        return json.loads(path.read_text())


def _name(allocation: Allocation, environ: Mapping[str, str]) -> str:
    """What the ranks of one start have in common and those of another on this node have not."""
    for name in ("PMIX_NAMESPACE", "PMI_JOBID"):
        if environ.get(name):
            return "".join(letter if letter.isalnum() else "-" for letter in environ[name])
    if allocation.source == "Slurm":
        names = ("SLURM_JOB_ID", "SLURM_RESTART_COUNT", "SLURM_STEP_ID")
        return "-".join(["slurm", *(environ.get(name, "0") for name in names)])
    parent = os.getppid()
    started = Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[19]
    return f"{parent}-{started}"
