"""Says whether this machine can bring up a bed, and what it lacks."""

from __future__ import annotations

import ctypes.util
import os
import shutil
import subprocess
from collections.abc import Iterator

__all__ = ["INSTALL", "find", "missing"]

INSTALL = "apt-get install slurm-wlm munge libpmix2 libpmi2-0 iproute2 util-linux gcc libc6-dev"
COMMANDS = ("slurmctld", "slurmd", "munged", "srun", "sbatch", "ip", "unshare", "nsenter", "setpriv", "mount", "gcc")
LIBRARIES = ("pmix", "pmi2")
ADMINISTRATORS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Where daemons are; a user's PATH need not have these."""
NAMESPACES = ("--net", "--uts", "--ipc", "--pid", "--mount", "--fork", "--propagation", "private")


def find(command: str) -> str | None:
    """Full path of a command or daemon; None where it is not installed."""
    return shutil.which(command, path=os.pathsep.join((os.environ.get("PATH", os.defpath), *ADMINISTRATORS)))


def missing() -> str:
    """What is lacking, as the reason of a skipped test; empty where all is there."""
    return "; ".join(_lacks())


def _lacks() -> Iterator[str]:
    absent = [command for command in COMMANDS if find(command) is None]
    if absent:
        yield f"no {', '.join(absent)}: {INSTALL}"
    plugins = [library for library in LIBRARIES if ctypes.util.find_library(library) is None]
    if plugins and not absent:
        yield f"no library {', '.join(plugins)} for srun --mpi: {INSTALL}"
    if os.getuid() != 0:
        yield "not root: namespaces, bridges and slurmd need it"
    elif "unshare" not in absent:
        trial = subprocess.run(
            ["unshare", *NAMESPACES, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, text=True
        )
        if trial.returncode:
            yield f"no right to make namespaces (CAP_SYS_ADMIN): {trial.stderr.strip()}"
