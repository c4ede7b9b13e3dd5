"""Check whether this machine can start a bed: commands, libraries that Slurm opens, permissions."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.support.mpi_libraries import LIBRARIES
from tests.support.packages import install_hint

__all__ = ["find", "missing"]

COMMANDS = ("slurmctld", "slurmd", "munged", "srun", "sbatch", "ip", "unshare", "nsenter", "setpriv", "mount", "gcc")
ADMINISTRATORS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Folders of daemons. They may be missing in a user's PATH."""
PMIX_PLUGINS = ("lib*/slurm*/mpi_pmix.so", "lib*/*/slurm*/mpi_pmix.so")
"""Paths of Slurm's plugin for srun --mpi=pmix, below the prefix of slurmd."""
LIBPMIX = re.compile(rb"[\x21-\x7e]*libpmix\.so[.\d]*")
"""Pattern that finds, in the file of the plugin, the name of the library that it opens."""
OPEN = "import ctypes, sys; ctypes.CDLL(sys.argv[1], mode=ctypes.RTLD_GLOBAL)"
NAMESPACES = ("--net", "--uts", "--ipc", "--pid", "--mount", "--fork", "--propagation", "private")


def find(command: str) -> str | None:
    """Return the full path of a command or daemon; None if it is not installed."""
    return shutil.which(command, path=os.pathsep.join((os.environ.get("PATH", os.defpath), *ADMINISTRATORS)))


def missing() -> str:
    """Return what is missing on this machine for a bed, and what to do; empty if nothing is missing."""
    return "; ".join(_lacks())


def _lacks() -> Iterator[str]:
    absent = [command for command in COMMANDS if find(command) is None]
    if absent:
        yield f"no {', '.join(absent)} on PATH: {install_hint('cluster')}"
    else:
        failures = [failure for library in _libraries() if (failure := _cannot_open(library))]
        if failures:
            yield f"srun --mpi cannot load its libraries ({', '.join(failures)}): {install_hint('cluster')}"
    if os.getuid() != 0:
        yield "not root, which namespaces, bridges and slurmd need: run the tests as root"
    elif "unshare" not in absent:
        trial = subprocess.run(
            ["unshare", *NAMESPACES, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, text=True
        )
        if trial.returncode:
            yield f"no right to make namespaces ({trial.stderr.strip()}): give this machine or container CAP_SYS_ADMIN"


def _libraries() -> Iterator[str]:
    """Yield the names that Slurm's pmix plugin and Intel MPI open while ranks start."""
    prefix = Path(find("slurmd") or "").resolve().parents[1]
    plugin = next((path for pattern in PMIX_PLUGINS for path in prefix.glob(pattern)), None)
    name = LIBPMIX.search(plugin.read_bytes()) if plugin else None
    # Without the plugin, try this name. If it loads, srun --mpi=pmix later reports what is missing.
    yield os.fsdecode(name[0]) if name else "libpmix.so"
    yield LIBRARIES["impi"].srun_variables["I_MPI_PMI_LIBRARY"]


def _cannot_open(library: str) -> str:
    """Open a library as Slurm does, in a separate process. Return the loader's message, or '' if it loads."""
    done = subprocess.run([sys.executable, "-c", OPEN, library], capture_output=True, text=True)
    return done.stderr.strip().rpartition("OSError: ")[2] if done.returncode else ""
