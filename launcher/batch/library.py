"""Which MPI library this environment's ranks load: it decides how mpirun and srun are called.

Asked of mpi4py in a process of its own, since MPI can be joined only once and a library that is not there must not end
the caller. What follows from the answer is `run`'s business.
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
mpi4py.rc.initialize = False  # the version needs no start, and a start alone may want a fabric or a daemon
from mpi4py import MPI
print(MPI.Get_library_version())
"""


def family_of(library: str) -> str | None:
    """open_mpi, intel_mpi or mpich from what MPI_Get_library_version says; None for another."""
    known = identify(library)
    return known.starter if known else None


def mpi_family() -> str:
    """The family of the MPI that this Python's mpi4py loads.

    Raises LaunchError where MPI cannot be loaded or is of an unknown family.
    """
    # Alone and under no starter's eyes: what an MPI inherits here would make it look for companions.
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PMI", "OMPI_COMM", "SLURM_"))}
    try:
        done = subprocess.run([sys.executable, "-c", ASK], env=clean, capture_output=True, text=True, timeout=300)
        library, said = done.stdout.strip("\0\n "), done.stderr.strip()
    except subprocess.TimeoutExpired:
        library, said = "", "no answer for 300 s"
    family = family_of(library)
    if family is None:
        seen = (library.splitlines() or said.splitlines()[-1:] or ["nothing was said"])[0]
        raise LaunchError(
            f"the MPI that Python loads here is unknown ({seen}); expected Open MPI, Intel MPI or MPICH: "
            "load the module that 'make env MPI=site' was run with"
        )
    return family
