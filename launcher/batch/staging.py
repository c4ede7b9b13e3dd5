"""Copy the Python environment to the local disk of each node of a job, with Slurm's sbcast.

Thousands of ranks that import packages from a shared file system slow each other down; a local copy avoids this. The
copy holds the virtual environment, the packages of this project, and the Python interpreter, unless the interpreter
belongs to the system and is on every node.
"""

from __future__ import annotations

import io
import shlex
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import LaunchError
from scaling.records.wording import count

__all__ = ["Staging", "plan_staging", "staged_environment", "write_archive"]

STAGES_WITHIN = 1800.0
"""Time limit of each staging command in seconds. Gigabytes on many nodes take minutes."""
CLEANS_WITHIN = 300.0
"""Time limit in seconds for removing the copy."""

SYSTEM = Path("/usr")
"""Folder of the system's own Python, which every node has."""
PACKAGES = ("launcher", "gan", "scaling")
NOT_NEEDED = ("include", "share", "test", "idlelib", "ensurepip", "site-packages")
"""Folders of the base interpreter that no rank needs, so they are not copied."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Staging:
    """Paths and commands of one copy."""

    folder: Path
    """Folder of the copy, with the same path on every node."""
    commands: Sequence[Sequence[str]]
    """Commands that send the archive to the nodes and unpack it there, in order."""
    cleaning: Sequence[str]
    """Command that removes the copy from all nodes."""
    python: Path
    """Interpreter of the copy. Ranks run it with -I, so that packages in the working folder are not imported."""


@contextmanager
def staged_environment(job: int | None, nodes: int) -> Iterator[tuple[str, ...]]:
    """Copy the Python environment to the nodes. Yield the command of its Python, and remove the copy at the end.

    Args:
        job: number of the Slurm job of this process; None outside Slurm.
        nodes: number of nodes of the job that get a copy.

    Raises:
        LaunchError: this process is outside Slurm or not in a virtual environment, or the copy fails.
    """
    if job is None:
        raise LaunchError(
            "--stage-env is given outside a Slurm job; expected a job, since Slurm's sbcast copies the files: "
            "leave the option out"
        )
    began = time.monotonic()
    with ExitStack() as cleaning:
        with tempfile.TemporaryDirectory(prefix=f"launcher-env-{job}-") as own:
            archive = Path(own, "env.tar")
            # The folder on the nodes has a random part too, so that nobody can make it before.
            staging = plan_staging(archive, nodes, Path(f"{own}-nodes"))
            write_archive(archive, staging.folder, Path(__file__).resolve().parents[2])
            size = archive.stat().st_size
            cleaning.callback(_remove, staging)
            _send(staging)
        where, seconds = f"{staging.folder} on {count(nodes, 'node')}", time.monotonic() - began
        print(f"Staged {size / 1e6:.0f} MB to {where} in {seconds:.0f} s", flush=True)
        yield str(staging.python), "-I"


def _send(staging: Staging) -> None:
    for command in staging.commands:
        done = subprocess.run(command, capture_output=True, text=True, timeout=STAGES_WITHIN)
        if done.returncode:
            failure = f"'{' '.join(command)}' failed: {done.stderr.strip()}"
            raise LaunchError(f"--stage-env: {failure}; leave the option out")


def _remove(staging: Staging) -> None:
    """Remove the copy from every node. If this fails, print a warning that it may remain."""
    try:
        done = subprocess.run(staging.cleaning, capture_output=True, text=True, timeout=CLEANS_WITHIN)
        failure = done.stderr.strip() or f"exit status {done.returncode}" if done.returncode else ""
    except subprocess.TimeoutExpired:  # A dead node does not answer.
        failure = f"no end within {CLEANS_WITHIN:.0f} s"
    if failure:
        print(f"Warning: {staging.folder} may remain on some nodes ({failure}); remove it there", flush=True)


def plan_staging(archive: Path, nodes: int, folder: Path) -> Staging:
    """Return the paths and commands for a job.

    Args:
        archive: archive of the environment on this node.
        nodes: number of nodes of the job.
        folder: folder for the copy, on the local disk of each node. It must not exist: only this user may have a
            folder from which ranks run programs.
    """
    sent = folder / "env.tar"
    quoted, quoted_sent = shlex.quote(str(folder)), shlex.quote(str(sent))
    each_node = (
        "srun",
        f"--nodes={nodes}",
        f"--ntasks={nodes}",
        "--ntasks-per-node=1",
        "--mpi=none",
        "--cpu-bind=none",
    )
    return Staging(
        folder=folder,
        commands=(
            # Without -p, mkdir fails if anything of this name exists.
            (*each_node, "mkdir", "-m", "700", str(folder)),
            ("sbcast", str(archive), str(sent)),
            (*each_node, "sh", "-c", f"tar -xf {quoted_sent} -C {quoted} && rm {quoted_sent}"),
        ),
        cleaning=(*each_node, "rm", "-rf", str(folder)),
        python=folder / "env" / "bin" / Path(sys.executable).name,
    )


def write_archive(archive: Path, folder: Path, project: Path) -> None:
    """Write the Python environment of this process to an archive.

    Args:
        archive: file to write.
        folder: folder on the nodes where the archive will be unpacked; links in the archive point into it.
        project: folder that holds the packages of this project.

    Raises:
        LaunchError: this Python is not in a virtual environment, or the archive cannot be written.
    """
    environment, base = Path(sys.prefix), Path(sys.base_prefix)
    if environment == base:
        raise LaunchError(
            f"--stage-env copies a virtual environment, but {sys.executable} is not in one; use the Python that "
            "'make env' installs, or leave the option out"
        )
    include_base = not base.is_relative_to(SYSTEM)
    libraries = f"lib/python{sys.version_info.major}.{sys.version_info.minor}"

    def relocated(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if member.name == "env/pyvenv.cfg":
            return None
        if include_base and member.issym() and Path(member.linkname).is_relative_to(base):
            member.linkname = str(folder / "base" / Path(member.linkname).relative_to(base))
        return member

    def needed(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if Path(member.name).name in NOT_NEEDED else member

    try:
        with tarfile.open(archive, "w") as tar:
            tar.add(environment, "env", filter=relocated)
            for name in PACKAGES:
                tar.add(project / name, f"env/{libraries}/site-packages/{name}")
            if include_base:
                tar.add(base / "bin", "base/bin")
                tar.add(base / "lib", "base/lib", filter=needed)
            home = folder / "base" if include_base else base
            _add_text(tar, "env/pyvenv.cfg", f"home = {home / 'bin'}\ninclude-system-site-packages = false\n")
    except OSError as error:
        archive.unlink(missing_ok=True)
        raise LaunchError(
            f"--stage-env cannot write {archive} ({error}); free disk space, or leave the option out"
        ) from None


def _add_text(tar: tarfile.TarFile, name: str, text: str) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(text), 0o644
    tar.addfile(member, io.BytesIO(text.encode()))
