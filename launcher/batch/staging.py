"""Puts the Python environment on the nodes' own disks, so that thousands of ranks' imports don't meet on a shared one.

Builds the archive and the commands that carry it to the nodes (Slurm's sbcast goes through a tree of nodes); who runs
them is `run`. What goes along: the virtual environment, this project's packages, and the interpreter it was made from
unless that is the system's own, which every node has.
"""

from __future__ import annotations

import io
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import LaunchError

__all__ = ["Staging", "plan_staging", "write_archive"]

SYSTEM = Path("/usr")
PACKAGES = ("launcher", "gan", "scaling")
NOT_NEEDED = ("include", "share", "test", "idlelib", "ensurepip", "site-packages")
"""Folders of the base interpreter that no rank opens."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Staging:
    """Where the environment goes, and how."""

    archive: Path
    """Made on the first node, on its own disk; the same name on all nodes."""
    folder: Path
    """On every node."""
    commands: Sequence[Sequence[str]]
    """Carry the archive to the nodes and unpack it there."""
    cleaning: Sequence[str]
    """Takes it away again when the ranks have ended."""
    python: Path
    """The interpreter that ranks then run. With -I, which keeps the working folder's packages out of the way."""


def plan_staging(job: str, nodes: int, temporary: Path) -> Staging:
    """The staging of a job on its nodes.

    Args:
        temporary: a folder of every node's own disk.
    """
    archive, folder = temporary / f"launcher-env-{job}.tar", temporary / f"launcher-env-{job}"
    sent = folder.with_suffix(".sent.tar")
    unpack = f"mkdir -p '{folder}' && tar -xf '{sent}' -C '{folder}' && rm '{sent}'"
    each_node = (
        "srun",
        f"--nodes={nodes}",
        f"--ntasks={nodes}",
        "--ntasks-per-node=1",
        "--mpi=none",
        "--cpu-bind=none",
    )
    return Staging(
        archive=archive,
        folder=folder,
        commands=(
            ("sbcast", "--force", str(archive), str(sent)),
            ("rm", str(archive)),
            (*each_node, "sh", "-c", unpack),
        ),
        cleaning=(*each_node, "rm", "-rf", str(folder), str(sent)),
        python=folder / "env" / "bin" / Path(sys.executable).name,
    )


def write_archive(archive: Path, folder: Path, project: Path) -> None:
    """Write the archive of this process's environment as it will lie in `folder` on the nodes.

    Raises LaunchError where this Python is in no virtual environment, or the disk refuses.
    """
    environment, base = Path(sys.prefix), Path(sys.base_prefix)
    if environment == base:
        raise LaunchError(
            f"--stage-env needs a virtual environment, but {sys.executable} belongs to none; run 'make env' and use "
            "its Python, or leave the option out"
        )
    carried = not base.is_relative_to(SYSTEM)
    libraries = f"lib/python{sys.version_info.major}.{sys.version_info.minor}"

    def moved(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if member.name == "env/pyvenv.cfg":
            return None
        if carried and member.issym() and Path(member.linkname).is_relative_to(base):
            member.linkname = str(folder / "base" / Path(member.linkname).relative_to(base))
        return member

    def needed(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if Path(member.name).name in NOT_NEEDED else member

    try:
        with tarfile.open(archive, "w") as tar:
            tar.add(environment, "env", filter=moved)
            for name in PACKAGES:
                tar.add(project / name, f"env/{libraries}/site-packages/{name}")
            if carried:
                tar.add(base / "bin", "base/bin")
                tar.add(base / "lib", "base/lib", filter=needed)
            home = folder / "base" if carried else base
            _add_text(tar, "env/pyvenv.cfg", f"home = {home / 'bin'}\ninclude-system-site-packages = false\n")
    except OSError as error:
        archive.unlink(missing_ok=True)
        raise LaunchError(f"--stage-env: cannot write {archive} ({error}); make room or leave the option out") from None


def _add_text(tar: tarfile.TarFile, name: str, text: str) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(text), 0o644
    tar.addfile(member, io.BytesIO(text.encode()))
