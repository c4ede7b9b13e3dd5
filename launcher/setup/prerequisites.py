"""What a system must have before an environment can be made on it, and how to tell the user what it lacks.

Nothing is downloaded or changed here; making the environment is left to launcher.setup.environment. Standard
library only.
"""

import importlib.util
import os
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Host", "Request", "missing_message", "site_mpicxx"]

NEEDED_DISK_GB = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What environment is wanted."""

    project: Path
    """Folder of setup.cfg."""
    venv: Path
    """Absolute path of the environment."""
    mpi: str | None = None
    """'wheel' for Open MPI from a Python package, 'site' for the mpicxx on PATH, None for what is there."""
    horovod: bool | None = None
    """Whether to build Horovod; None for what is there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Host:
    """What the system has of what the set-up needs."""

    ensurepip: bool
    """Python can put pip into a virtual environment."""
    compiler: bool
    """A C++ compiler."""
    make: bool
    """The make that CMake calls."""
    headers: bool
    """Python's C headers."""
    mpicxx: str | None
    """Path of the MPI compiler wrapper on PATH."""
    apt: bool
    """The system installs packages with apt-get."""
    free_gb: float
    """Free disk space where the environment goes."""

    @classmethod
    def look(cls, venv: Path, environ: Mapping[str, str]) -> "Host":
        """Look at this machine."""
        existing = next(folder for folder in (venv, *venv.parents) if folder.exists())
        return cls(
            ensurepip=importlib.util.find_spec("ensurepip") is not None,
            compiler=shutil.which((environ.get("CXX") or "c++").split()[0]) is not None,
            make=shutil.which("make") is not None,
            headers=Path(sysconfig.get_path("include"), "Python.h").exists(),
            mpicxx=site_mpicxx(venv, environ),
            apt=shutil.which("apt-get") is not None,
            free_gb=shutil.disk_usage(existing).free / 1e9,
        )


def site_mpicxx(venv: Path, environ: Mapping[str, str]) -> str | None:
    """Find the site's MPI compiler wrapper: the mpicxx on PATH, but not one in the environment itself."""
    folders = environ.get("PATH", os.defpath).split(os.pathsep)
    inside = os.path.realpath(venv / "bin")
    return shutil.which("mpicxx", path=os.pathsep.join(f for f in folders if os.path.realpath(f) != inside))


def missing_message(request: Request, host: Host) -> str:
    """Name all that the system lacks for this request and the command that installs it; empty if nothing."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    builds = request.horovod or request.mpi == "site"
    lacking = {
        f"python{version}-venv": ("pip for virtual environments", not host.ensurepip),
        "g++": ("a C++ compiler", builds and not host.compiler),
        "make": ("make", builds and not host.make),
        f"python{version}-dev": ("Python's C headers", request.mpi == "site" and not host.headers),
    }
    packages = [package for package, (_, lacks) in lacking.items() if lacks]
    sentences = []
    if packages:
        names = ", ".join(what for what, lacks in lacking.values() if lacks)
        install = f"sudo apt-get install -y {' '.join(packages)}"
        how = f"To install:\n  {install}" if host.apt else f"On Debian and Ubuntu:\n  {install}"
        sentences.append(f"This system lacks {names}. {how}")
        if set(packages) <= {"g++", "make"} and request.mpi == "wheel":
            sentences.append("Or leave Horovod out, ranks then talk through mpi4py: HOROVOD=no")
    if request.mpi == "site" and not host.mpicxx:
        sentences.append("MPI=site needs the site's mpicxx on PATH: load the site's compiler and MPI modules first.")
    if host.free_gb < NEEDED_DISK_GB:
        sentences.append(
            f"The disk of {request.venv} has {host.free_gb:.1f} GB free, about {NEEDED_DISK_GB} GB are "
            "needed: free some or put the environment elsewhere (VENV=...)."
        )
    return "\n".join(sentences)
