"""Where the tests find the project and its data, and the environment that real MPI processes start in."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from launcher.probe import mpi_environment as needed_by_open_mpi

__all__ = ["DATA", "ROOT", "mpi_environment"]

ROOT = Path(__file__).resolve().parents[2]
"""The project's folder."""
DATA = ROOT / "tests" / "data"
"""Files of others: environment dumps, logs."""


def mpi_environment(**extra: str) -> dict[str, str]:
    """Return a user's environment plus what Open MPI requires of root and of a machine with few cores."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("OMPI_COMM", "PMI", "SLURM"))
    }
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    return {**environment, **needed_by_open_mpi(os.getuid(), len(os.sched_getaffinity(0))), **extra}
