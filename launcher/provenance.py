"""What a run was made of, for its record: versions of the libraries and the commit of the source."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import sys
from pathlib import Path

__all__ = ["git_commit", "library_versions", "mpi_version"]

LIBRARIES = ("3dgan-scaling", "tensorflow-cpu", "tensorflow", "keras", "numpy", "h5py", "mpi4py", "horovod")


def library_versions() -> dict[str, str]:
    """Versions of what computes, read from the packages' own files: nothing is imported."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def mpi_version() -> dict[str, str]:
    """The MPI library of this process; empty where it has none."""
    mpi = sys.modules.get("mpi4py.MPI")
    return {} if mpi is None else {"mpi": mpi.Get_library_version().split("\n")[0].strip("\0 ")}


def git_commit() -> str:
    """The commit of the source tree this runs from, with `+` where files differ from it; empty outside one."""
    here = Path(__file__).resolve().parent.parent
    if not (here / ".git").exists():
        return ""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(here), *arguments], capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return ""
