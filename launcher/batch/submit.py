"""Submits trainings: checks all that can be checked before a job waits in a queue for hours, then hands it to Slurm.

The options of the training are read by the command that will train, so that a typo is found here, and written out again
in full: files of options are read now, and relative paths are those of the folder the user is in.
"""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from gan.settings import TrainingSettings
from launcher.batch.script import JobRequest, render
from launcher.batch.slurm import Slurm
from launcher.errors import LaunchError
from launcher.machines import Machine
from launcher.train_cli import train

__all__ = ["Training", "chained", "default_out", "make_folder", "needs_slurm", "own_places", "read_training", "submit"]

ELSEWHERE = ("data", "more_data", "out", "workers_per_node", "config")
"""Options of the training that have a place of their own in a job."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """Options of a training, read and checked."""

    data: tuple[str, ...]
    """Absolute files or patterns."""
    arguments: tuple[str, ...]
    """The options that the user gave, here or in a file of options, in one fixed order."""
    values: Mapping[str, Any]
    """All options with their defaults, as JSON knows them."""
    out: str = ""
    """Absolute; empty where the user did not say."""
    workers_per_node: int = 0
    """0 where the user did not say."""
    begins_anew: bool = False
    """Whether it sets an earlier run aside instead of going on."""


def read_training(data: Sequence[str], arguments: Sequence[str]) -> Training:
    """Read the options of a training as `launcher train` will.

    Raises click.UsageError for what that command does not take, InputError for values out of their range, and
    LaunchError where there are no data.
    """
    words = [word for pattern in data for word in ("--data", pattern)]
    context = train.make_context("launcher train", [*words, *arguments])
    parameters = context.params
    TrainingSettings(**{f.name: parameters[f.name] for f in fields(TrainingSettings) if f.name in parameters})
    given = {
        name
        for name in parameters
        if context.get_parameter_source(name) not in (None, ParameterSource.DEFAULT)
    }  # fmt: skip
    again: list[str] = []
    for option in train.params:
        if isinstance(option, click.Option) and option.name in given and option.name not in ELSEWHERE:
            again += _words(option, parameters[option.name])
    patterns = tuple(os.path.abspath(pattern) for pattern in (*parameters["data"], *parameters["more_data"]))
    if not patterns:
        raise LaunchError("no data; give the files of showers with --data, a pattern in quotes")
    return Training(
        data=patterns,
        arguments=tuple(again),
        values={name: _plain(value) for name, value in sorted(parameters.items()) if name not in ELSEWHERE},
        out=os.path.abspath(parameters["out"]) if "out" in given else "",
        workers_per_node=parameters["workers_per_node"] if "workers_per_node" in given else 0,
        begins_anew=not parameters.get("resume", True),
    )


def _words(option: Any, value: Any) -> list[str]:
    """The words of a command line that give `value` to a click option."""
    name = max(option.opts, key=len)
    if option.is_flag:
        return [name if value else max(option.secondary_opts, key=len)] if value or option.secondary_opts else []
    if option.multiple:
        return [word for item in value for word in (name, _text(item))]
    return [] if value is None else [name, _text(value)]


def _text(value: Any) -> str:
    return os.path.abspath(value) if isinstance(value, os.PathLike) else str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else _text(value)


def missing_data(training: Training) -> list[str]:
    """The patterns that match no file here; on the nodes that may be different."""
    return [pattern for pattern in training.data if not glob.glob(pattern)]


def default_out(name: str, environ: Mapping[str, str], now: datetime) -> str:
    """A new folder for a run: on $SCRATCH where there is one, since jobs should not write to a home."""
    root = environ.get("SCRATCH") or os.getcwd()
    return os.path.abspath(os.path.join(root, "3dgan", f"{name}-{now:%Y%m%d-%H%M%S}"))


def own_places() -> tuple[str, str]:
    """The folders of the project and of the Python environment that this process runs from; the second may be empty."""
    import launcher

    project = str(Path(launcher.__file__).resolve().parent.parent)
    # Some Pythons are called python3 only; then the script looks for the project's environment.
    venv = sys.prefix if os.access(os.path.join(sys.prefix, "bin", "python"), os.X_OK) else ""
    return project, venv


def needs_slurm(machine: Machine) -> None:
    """Raises LaunchError for a machine that takes no jobs."""
    if machine.batch == "none":
        raise LaunchError(
            f"machine {machine.name} has no batch system to submit to; run its script: python -m launcher script "
            f"--machine {machine.reference} > job.sh, then bash job.sh"
        )


def chained(request: JobRequest, chain: int) -> tuple[JobRequest, int]:
    """A job that may go on `chain` times in all, as the machine allows it, and how many such jobs to submit."""
    if request.machine.requeue:
        return replace(request, restarts=chain - 1), 1
    return request, chain


def submit(request: JobRequest, chain: int, slurm: Slurm) -> list[int]:
    """Submit a training that may take up to `chain` jobs, one after the other in the same folder; their numbers.

    Raises LaunchError where Slurm refuses, naming the jobs of the chain that are in the queue by then.
    """
    needs_slurm(request.machine)
    request, count = chained(request, chain)
    make_folder(request.log_folder)
    script = render(request)
    jobs: list[int] = []
    for _ in range(count):
        after = [f"--dependency=afterany:{jobs[-1]}"] if jobs else []
        try:
            jobs.append(slurm.submit(script, *after))
        except LaunchError as error:
            if not jobs:
                raise
            queued = " ".join(map(str, jobs))
            raise LaunchError(
                f"{error}. The first {len(jobs)} of {count} jobs are in the queue; 'scancel {queued}' takes them out"
            ) from error
    return jobs


def make_folder(folder: str) -> None:
    """Make a folder that Slurm will write to: it does not make it and loses the log instead."""
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise LaunchError(f"{folder} cannot be made ({error.strerror}); give a folder that can with --out") from None
