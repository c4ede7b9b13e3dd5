"""Identify the MPI library from its version text. Nothing is run."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["MpiLibrary", "identify"]

# Hydra's text may hold the name of another library in a path, so Hydra comes first. Intel MPI and MVAPICH descend from
# MPICH and may name it, so MPICH comes last.
PATTERNS = (
    ("MPICH", "mpich", r"HYDRA build details:\s*Version:\s*(\d[\w.]*)"),
    ("Open MPI", "open_mpi", r"Open MPI(?:\)? v?(\d[\w.]*))?"),
    ("Intel MPI", "intel_mpi", r"Intel\(R\) MPI(?: Library\D*?(\d{4}[\w.]*))?"),
    ("MVAPICH", "mpich", r"MVAPICH(?:\w*\s+Version\s*:?\s*(\d[\w.]*))?"),
    ("MPICH", "mpich", r"MPICH(?: Version:?\s*(\d[\w.]*))?"),
)
"""Name, starter, and a regular expression whose group is the version."""


@dataclass(frozen=True, slots=True)
class MpiLibrary:
    """An MPI library, or the library that an mpirun belongs to."""

    name: str
    """Open MPI, Intel MPI, MVAPICH or MPICH."""
    starter: str
    """Builder in `commands.STARTERS` for its mpirun: open_mpi, intel_mpi or mpich."""
    version: str
    """Version, such as `5.0.11`; empty if the text contains none."""

    def __str__(self) -> str:
        return f"{self.name} {self.version}".rstrip()


def identify(text: str) -> MpiLibrary | None:
    """Return the library that wrote a version text, or None if it is unknown.

    Args:
        text: what `MPI_Get_library_version` returns or `mpirun --version` prints. For Hydra, the mpirun of MPICH and
            its descendants, the answer is MPICH.
    """
    for name, starter, pattern in PATTERNS:
        if match := re.search(pattern, text, re.IGNORECASE):
            return MpiLibrary(name, starter, match[1] or "")
    return None
