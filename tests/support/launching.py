"""Start the launcher on some ranks under the environment's own MPI."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence

from tests.support.environment import ROOT, mpi_environment

__all__ = ["Launch", "make_launch"]

Launch = Callable[..., subprocess.CompletedProcess[str]]
"""Type of the fixture `launch`."""


def make_launch(mpirun: str) -> Launch:
    """Return a function that runs `python -m launcher ARGUMENTS` on some ranks and waits for its end."""

    def launch(
        ranks: int,
        *arguments: object,
        mpi_options: Sequence[str] = (),
        timeout: float = 800,
        **environment: str,
    ) -> subprocess.CompletedProcess[str]:
        """Run on `ranks` ranks, or without mpirun if `ranks` is 0. `timeout` is in seconds."""
        command = [sys.executable, "-m", "launcher", *map(str, arguments)]
        if ranks:
            command = [mpirun, "-np", str(ranks), "--oversubscribe", *mpi_options, *command]
        return subprocess.run(
            command,
            cwd=ROOT,
            env=mpi_environment(**environment),
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return launch
