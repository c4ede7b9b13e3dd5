"""Check what a system has and needs before an environment can be made. Standard library only.

Nothing is downloaded or changed here.
"""

import importlib.util
import os
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["EnvironmentRequest", "Host", "missing_message", "site_mpicxx"]

NEEDED_DISK_GB = 4
"""Free disk space that an environment needs, in GB."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvironmentRequest:
    """The environment to make."""

    project: Path
    """Folder of setup.cfg."""
    venv: Path
    """Absolute path of the environment."""
    mpi: str | None = None
    """'wheel' for Open MPI as a Python package, 'site' for the mpicxx on PATH, None for the choice of the last time."""
    horovod: bool | None = None
    """True to build Horovod, False to leave it out, None for the choice of the last time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Host:
    """The parts of a system that the set-up needs."""

    ensurepip: bool
    """True if Python can install pip into a virtual environment."""
    compiler: bool
    """True if there is a C++ compiler."""
    make: bool
    """True if there is a make, which CMake calls."""
    headers: bool
    """True if the C headers of Python are installed."""
    mpicxx: str | None
    """Path of the MPI compiler wrapper on PATH; None without one."""
    apt: bool
    """True if the system has apt-get."""
    free_gb: float
    """Free space in GB on the disk of the environment."""

    @classmethod
    def look(cls, venv: Path, environ: Mapping[str, str]) -> "Host":
        """Return which of the parts this machine has."""
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
    """Return the path of the mpicxx on PATH, ignoring the one inside the environment. Return None without one."""
    folders = environ.get("PATH", os.defpath).split(os.pathsep)
    inside = os.path.realpath(venv / "bin")
    return shutil.which("mpicxx", path=os.pathsep.join(f for f in folders if os.path.realpath(f) != inside))


def missing_message(request: EnvironmentRequest, host: Host) -> str:
    """Return a message with everything that the system lacks and how to install it; empty if nothing is missing."""
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
        how = f"Install with:\n  {install}" if host.apt else f"On Debian and Ubuntu, install with:\n  {install}"
        sentences.append(f"This system lacks {names}. {how}")
        if set(packages) <= {"g++", "make"} and request.mpi == "wheel":
            sentences.append("Or leave Horovod out with HOROVOD=no: ranks then communicate through mpi4py.")
    if request.mpi == "site" and not host.mpicxx:
        sentences.append(
            "MPI=site needs the site's mpicxx on PATH: load the compiler and MPI modules of the site first."
        )
    if host.free_gb < NEEDED_DISK_GB:
        sentences.append(
            f"The disk of {request.venv} has {host.free_gb:.1f} GB free, but about {NEEDED_DISK_GB} GB are needed: "
            "free some space, or choose another folder (VENV=...)."
        )
    return "\n".join(sentences)
