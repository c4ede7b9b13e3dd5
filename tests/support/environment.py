"""Paths of the project and of test data, and the environment for real MPI processes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from launcher.probe import mpi_environment as needed_by_open_mpi

__all__ = ["DATA", "ROOT", "mpi_environment"]

ROOT = Path(__file__).resolve().parents[2]
"""The project's folder."""
DATA = ROOT / "tests" / "data"
"""Folder of test data: environment dumps, and logs of other programs."""


def mpi_environment(**extra: str) -> dict[str, str]:
    """Return this environment without MPI's own variables, but with Open MPI's settings for root and few cores."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("OMPI_COMM", "PMI", "SLURM"))
    }
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    return {**environment, **needed_by_open_mpi(os.getuid(), len(os.sched_getaffinity(0))), **extra}
