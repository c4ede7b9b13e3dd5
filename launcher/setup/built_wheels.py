"""Build the wheels that depend on the MPI of the machine, Horovod and mpi4py, and keep them in a cache.

Horovod is compiled against one TensorFlow and one MPI and works with no other. The key of its wheel in the cache
contains everything that the wheel depends on. Standard library only.
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

from launcher.setup.errors import SetupError
from launcher.setup.steps import Steps

__all__ = ["BuildTarget", "cached_wheel", "horovod_builder", "mpi4py_builder", "site_mpi_identity", "wheel_cache"]

RECIPE = 1
"""Version of the build. Increase it when the build changes, so that older wheels are not used."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildTarget:
    """The Python, machine, MPI and TensorFlow that a wheel is built for."""

    python_tag: str
    """Cache tag of the Python, such as cpython-311."""
    machine: str
    """Machine architecture, such as x86_64."""
    mpi: str
    """Family and version of the MPI, such as openmpi-5.0.11, or the digest of a site's MPI."""
    tensorflow: str = ""
    """Distribution and exact version, such as tensorflow-cpu-2.21.0; empty if the wheel does not depend on it."""

    @property
    def key(self) -> str:
        """Name of the wheel's folder in the cache."""
        parts = (self.python_tag, self.tensorflow, self.mpi, self.machine, f"r{RECIPE}")
        return "-".join(part for part in parts if part)


def wheel_cache(environ: Mapping[str, str]) -> Path:
    """Return the folder for the user's built wheels."""
    # The XDG specification says to ignore a relative path.
    base = environ.get("XDG_CACHE_HOME", "")
    root = Path(base) if os.path.isabs(base) else Path(environ.get("HOME") or os.path.expanduser("~")) / ".cache"
    return root / "3dgan-scaling" / "wheels"


def cached_wheel(cache: Path, key: str, build: Callable[[Path], None]) -> tuple[Path, bool]:
    """Return the wheel with this key, and True if it was in the cache. Otherwise build it.

    The wheel is built in a new folder, which is renamed when it is complete. An interrupted build or two builds at the
    same time never leave an incomplete wheel.

    Args:
        cache: folder of the cache.
        key: name of the wheel's folder in the cache.
        build: function that gets an empty folder and leaves exactly one wheel in it.

    Raises:
        SetupError: the build left no wheel.
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
            raise SetupError(f"The build for {key} left no readable wheel; expected one: run the same command again.")
        with contextlib.suppress(OSError):  # Another build finished first; its wheel is equal.
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
    """Return a digest that identifies the MPI of a compiler wrapper. It covers flags, compiler and version.

    Raises:
        SetupError: the wrapper does not work.
    """
    answers = []
    # MPICH, Intel MPI and Open MPI all support -show. For an MPI in a system folder, the flags contain no version, but
    # mpirun prints it.
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
        raise SetupError(
            f"'{mpicxx} -show' printed no compiler command; expected a working MPI compiler wrapper: "
            "load the site's compiler and MPI modules, then run the same command again."
        )
    return "site-" + hashlib.sha256("\0".join([mpicxx, *answers]).encode()).hexdigest()[:12]


def mpi4py_builder(steps: Steps, python: Path, requirement: str, environ: Mapping[str, str]) -> Callable[[Path], None]:
    """Return a function that builds mpi4py from source, against the mpicc on PATH."""

    def build(output: Path) -> None:
        # pip's own cache ignores which MPI a wheel was built for, hence --no-cache-dir.
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
        # mpi4py is one large generated source that only passes arguments on. Optimization takes minutes and has no
        # effect on speed.
        quick = {"CFLAGS": f"-O1 -g0 {environ.get('CFLAGS', '')}".strip()}
        steps.run([*argv, "--wheel-dir", str(output), requirement], env={**environ, **quick})

    return build


def horovod_builder(
    steps: Steps, python: Path, requirement: str, environ: Mapping[str, str], *, mpi_in_venv: bool
) -> Callable[[Path], None]:
    """Return a function that builds Horovod against the TensorFlow of `python` and the mpicxx on PATH."""

    def build(output: Path) -> None:
        environment = horovod_build_environment(environ, len(os.sched_getaffinity(0)), mpi_in_venv=mpi_in_venv)
        pip = [str(python), "-m", "pip"]
        # No build isolation, because the build imports TensorFlow. No cache, for the same reason as for mpi4py.
        options = ["--no-cache-dir", "--no-build-isolation", "--no-deps"]
        with tempfile.TemporaryDirectory(prefix="horovod-") as scratch:
            download = ["download", *options, "--no-binary", "horovod", "--dest", scratch, requirement]
            steps.run([*pip, *download], env=environment)
            source = unpack_without_xla(Path(scratch))
            steps.run([*pip, "wheel", "-v", *options, "--wheel-dir", str(output), str(source)], env=environment)

    return build


def unpack_without_xla(folder: Path) -> Path:
    """Unpack the source archive of Horovod in a folder, without its XLA source. Return the source folder.

    The XLA source includes headers that TensorFlow's packages lack since 2.19. All its code is for GPUs.

    Raises:
        SetupError: the folder holds no source archive.
    """
    archive = next(folder.glob("horovod-*.tar.gz"), None)
    if archive is None:
        raise SetupError(
            "The package index gave no source archive of Horovod; expected one: check the index (PIP_INDEX_URL)."
        )
    shutil.unpack_archive(archive, folder)
    source = folder / archive.name.removesuffix(".tar.gz")
    listing = source / "horovod" / "tensorflow" / "CMakeLists.txt"
    lines = listing.read_text().splitlines(keepends=True)
    listing.write_text("".join(line for line in lines if "xla_mpi_ops.cc" not in line))
    # GCC 14 refuses a template of the bundled flatbuffers that assigns to a constant. Nothing uses the assignment.
    header = source / "third_party" / "flatbuffers" / "include" / "flatbuffers" / "stl_emulation.h"
    if header.exists():
        header.write_text(header.read_text().replace("const size_type count_;", "size_type count_;"))
    return source


def horovod_build_environment(environ: Mapping[str, str], cores: int, *, mpi_in_venv: bool) -> dict[str, str]:
    """Return environment variables for Horovod's build script, so that it builds for TensorFlow and MPI only.

    Args:
        environ: environment variables of this process.
        cores: number of cores that the build may use.
        mpi_in_venv: True if the MPI is a Python package in the same environment.
    """
    kept = {name: value for name, value in environ.items() if not name.startswith("HOROVOD_")}
    # The script passes LDFLAGS through a shell, so \$ORIGIN keeps its backslash. Four folders above
    # lib/python3.x/site-packages/horovod/tensorflow is the lib folder with the libraries of the MPI package.
    linking = r"-s -Wl,-rpath,\$ORIGIN/../../../.." if mpi_in_venv else f"-s {environ.get('LDFLAGS', '')}".strip()
    return kept | {
        "HOROVOD_WITH_TENSORFLOW": "1",
        "HOROVOD_WITHOUT_PYTORCH": "1",
        "HOROVOD_WITHOUT_MXNET": "1",
        "HOROVOD_WITH_MPI": "1",
        # Gloo is for systems without MPI. Building it doubles the build time.
        "HOROVOD_WITHOUT_GLOO": "1",
        "HOROVOD_CPU_OPERATIONS": "MPI",
        # A compiler needs up to 1 GB of memory, so do not start one per core on a large node.
        "MAKEFLAGS": f"-j{min(cores, 8)}",
        "LDFLAGS": linking,
        # Horovod 0.28.1 uses std::logic_error without its header. Since GCC 14, no other header includes it.
        "CXXFLAGS": f"-include stdexcept -include cstdint {environ.get('CXXFLAGS', '')}".strip(),
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
