"""Builds the wheels that depend on the machine's MPI, Horovod and mpi4py, and keeps them in a cache.

Horovod is compiled against one TensorFlow and one MPI and works with no other, so its wheel is kept under a
key of all it depends on. Making the environment and installing the wheels is left to launcher.setup.environment.
Standard library only.
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import LaunchError
from launcher.setup.steps import Steps

__all__ = ["Target", "cached_wheel", "horovod_builder", "mpi4py_builder", "site_mpi_identity", "wheel_cache"]

# Goes up when the way of building changes, so that older wheels are left alone.
RECIPE = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """What a wheel is built for."""

    python_tag: str
    """Python's tag in wheel names, such as cp311."""
    machine: str
    """Machine architecture, such as x86_64."""
    mpi: str
    """MPI family and version, such as openmpi-5.0.11, or the digest of a site's MPI."""
    tensorflow: str = ""
    """Distribution and exact version, such as tensorflow-cpu-2.21.0; empty where it doesn't matter."""

    @property
    def key(self) -> str:
        """Name of the cache folder."""
        parts = (self.python_tag, self.tensorflow, self.mpi, self.machine, f"r{RECIPE}")
        return "-".join(part for part in parts if part)


def wheel_cache(environ: Mapping[str, str]) -> Path:
    """Return the user's folder of built wheels."""
    # The XDG specification says that a relative path is to be ignored.
    base = environ.get("XDG_CACHE_HOME", "")
    root = Path(base) if os.path.isabs(base) else Path(environ.get("HOME") or os.path.expanduser("~")) / ".cache"
    return root / "3dgan-scaling" / "wheels"


def cached_wheel(cache: Path, key: str, build: Callable[[Path], None]) -> tuple[Path, bool]:
    """Return the wheel kept under a key and whether it was there; if it wasn't, build it.

    `build` gets an empty folder on the same file system and must leave exactly one wheel there. That folder
    is renamed when it is complete, so an interrupted or a simultaneous build never leaves half a wheel.
    """
    place = cache / key
    kept = _whole_wheel(place)
    if kept:
        return kept, True
    shutil.rmtree(place, ignore_errors=True)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".building-", dir=cache) as scratch:
        output = Path(scratch) / "wheel"
        output.mkdir()
        build(output)
        built = _whole_wheel(output)
        if built is None:
            raise LaunchError(f"The build for {key} left no readable wheel.")
        with contextlib.suppress(OSError):  # Somebody else was faster; theirs is as good.
            output.rename(place)
    return place / built.name, False


def _whole_wheel(folder: Path) -> Path | None:
    wheels = sorted(folder.glob("*.whl"))
    if len(wheels) != 1:
        return None
    try:
        with zipfile.ZipFile(wheels[0]) as archive:
            return None if archive.testzip() else wheels[0]
    except (OSError, zipfile.BadZipFile):
        return None


def site_mpi_identity(mpicxx: str) -> str:
    """Describe the MPI behind a compiler wrapper by a digest of its flags, its compiler and its version.

    Raises LaunchError if the wrapper doesn't answer.
    """
    answers = []
    # MPICH, Intel MPI and Open MPI all understand -show. The flags of a system-wide MPI hold no version:
    # mpirun tells it.
    for argv in (
        [mpicxx, "-show"],
        [mpicxx, "--version"],
        [str(Path(mpicxx).with_name("mpirun")), "--version"],
    ):
        try:
            ended = subprocess.run(
                argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False
            )
            answers.append(ended.stdout if ended.returncode == 0 else "")
        except (OSError, subprocess.TimeoutExpired):
            answers.append("")
    if not answers[0].strip():
        raise LaunchError(
            f"'{mpicxx} -show' gave no compiler line, so this is no working MPI compiler wrapper: "
            "load the site's compiler and MPI modules, then run the same command again."
        )
    return "site-" + hashlib.sha256("\0".join([mpicxx, *answers]).encode()).hexdigest()[:12]


def mpi4py_builder(steps: Steps, python: Path, requirement: str, environ: Mapping[str, str]) -> Callable[[Path], None]:
    """Return a builder of mpi4py from source, against the mpicc on PATH."""

    def build(output: Path) -> None:
        # pip's own cache of built wheels knows nothing of the MPI, hence --no-cache-dir.
        argv = [
            str(python),
            "-m",
            "pip",
            "wheel",
            "-v",
            "--no-cache-dir",
            "--no-deps",
            "--no-binary",
            "mpi4py",
        ]
        # It is one huge generated source that only hands arguments on: optimizing it costs minutes and gains nothing.
        quick = {"CFLAGS": f"-O1 -g0 {environ.get('CFLAGS', '')}".strip()}
        steps.run([*argv, "--wheel-dir", str(output), requirement], env={**environ, **quick})

    return build


def horovod_builder(
    steps: Steps, python: Path, requirement: str, environ: Mapping[str, str], *, mpi_in_venv: bool
) -> Callable[[Path], None]:
    """Return a builder of Horovod against the TensorFlow of `python` and the mpicxx on PATH."""

    def build(output: Path) -> None:
        environment = horovod_build_environment(environ, len(os.sched_getaffinity(0)), mpi_in_venv=mpi_in_venv)
        pip = [str(python), "-m", "pip"]
        # Without build isolation: the build has to import TensorFlow. Without cache: see mpi4py.
        options = ["--no-cache-dir", "--no-build-isolation", "--no-deps"]
        with tempfile.TemporaryDirectory(prefix="horovod-") as scratch:
            download = ["download", *options, "--no-binary", "horovod", "--dest", scratch, requirement]
            steps.run([*pip, *download], env=environment)
            source = unpack_without_xla(Path(scratch))
            steps.run([*pip, "wheel", "-v", *options, "--wheel-dir", str(output), str(source)], env=environment)

    return build


def unpack_without_xla(folder: Path) -> Path:
    """Unpack the source archive in a folder, leave out Horovod's XLA source, and return the source folder.

    TensorFlow's packages since 2.19 lack headers which that one source includes. All its code is for GPUs.
    """
    archive = next(folder.glob("horovod-*.tar.gz"), None)
    if archive is None:
        raise LaunchError("The package index gave no source archive of Horovod.")
    shutil.unpack_archive(archive, folder)
    source = folder / archive.name.removesuffix(".tar.gz")
    listing = source / "horovod" / "tensorflow" / "CMakeLists.txt"
    lines = listing.read_text().splitlines(keepends=True)
    listing.write_text("".join(line for line in lines if "xla_mpi_ops.cc" not in line))
    return source


def horovod_build_environment(environ: Mapping[str, str], cores: int, *, mpi_in_venv: bool) -> dict[str, str]:
    """Return the variables that make Horovod's build script do TensorFlow and MPI and nothing else."""
    kept = {name: value for name, value in environ.items() if not name.startswith("HOROVOD_")}
    # The script passes LDFLAGS through a shell: \$ORIGIN must arrive there with its backslash. From
    # lib/python3.x/site-packages/horovod/tensorflow it leads to the lib folder with the MPI package's
    # libraries.
    linking = r"-s -Wl,-rpath,\$ORIGIN/../../../.." if mpi_in_venv else f"-s {environ.get('LDFLAGS', '')}".strip()
    return kept | {
        "HOROVOD_WITH_TENSORFLOW": "1",
        "HOROVOD_WITHOUT_PYTORCH": "1",
        "HOROVOD_WITHOUT_MXNET": "1",
        "HOROVOD_WITH_MPI": "1",
        # Gloo serves where there is no MPI; building it takes as long as all the rest.
        "HOROVOD_WITHOUT_GLOO": "1",
        "HOROVOD_CPU_OPERATIONS": "MPI",
        # A compiler needs up to 1 GB: not one for each of a large node's cores.
        "MAKEFLAGS": f"-j{min(cores, 8)}",
        "LDFLAGS": linking,
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
