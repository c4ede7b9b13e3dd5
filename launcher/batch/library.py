"""Find out which MPI library the ranks load. The options of mpirun and srun depend on it.

A new process loads MPI through mpi4py: MPI can be initialized only once per process, and a missing library must not end
the caller.
"""

from __future__ import annotations

import os
import subprocess
import sys

from launcher.errors import LaunchError
from launcher.mpi_library import identify

__all__ = ["family_of", "mpi_family"]

ASK = """
import mpi4py
mpi4py.rc.initialize = False  # not needed for the version, and it may fail outside a job
from mpi4py import MPI
print(MPI.Get_library_version())
"""


def family_of(library: str) -> str | None:
    """Return open_mpi, intel_mpi or mpich for the text of MPI_Get_library_version; None for any other library."""
    known = identify(library)
    return known.starter if known else None


def mpi_family() -> str:
    """Return the family of the MPI that mpi4py loads: open_mpi, intel_mpi or mpich.

    Raises:
        LaunchError: MPI cannot be loaded, or its family is unknown.
    """
    # With the variables of a starter, MPI would try to contact other ranks.
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PMI", "OMPI_COMM", "SLURM_"))}
    try:
        done = subprocess.run([sys.executable, "-c", ASK], env=clean, capture_output=True, text=True, timeout=300)
        library, errors = done.stdout.strip("\0\n "), done.stderr.strip()
    except subprocess.TimeoutExpired:
        library, errors = "", "no answer within 300 s"
    family = family_of(library)
    if family is None:
        seen = (library.splitlines() or errors.splitlines()[-1:] or ["no output"])[0]
        raise LaunchError(
            f"the MPI library of this Python is unknown ({seen}); expected Open MPI, Intel MPI or MPICH: "
            "load the module that was loaded for 'make env MPI=site'"
        )
    return family
