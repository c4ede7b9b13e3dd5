"""Versions of the libraries and commit of the source, for the record of a run."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import sys
from pathlib import Path

__all__ = ["git_commit", "library_versions", "mpi_version"]

LIBRARIES = ("3dgan-scaling", "tensorflow-cpu", "tensorflow", "keras", "numpy", "h5py", "mpi4py", "horovod")


def library_versions() -> dict[str, str]:
    """Return the versions of Python and the installed libraries by name. They are read from files, without imports."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def mpi_version() -> dict[str, str]:
    """Return the version of the MPI library under the key `mpi`; an empty dictionary if MPI is not loaded."""
    mpi = sys.modules.get("mpi4py.MPI")
    return {} if mpi is None else {"mpi": mpi.Get_library_version().split("\n")[0].strip("\0 ")}


def git_commit() -> str:
    """Return the commit of this source, with `+` if files have changed since then; empty outside a repository."""
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
