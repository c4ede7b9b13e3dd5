"""Submit a training to Slurm. Before that, check everything that can be checked, because a job may wait for hours.

The command `train` parses the options of the training here, so that a typing error is found before the submission. The
job script gets all options in full: option files are read now, and relative paths become absolute.
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
from launcher.batch.job_request import JobRequest
from launcher.batch.script import render
from launcher.batch.slurm import Slurm
from launcher.errors import LaunchError
from launcher.machines import Machine
from launcher.train_cli import train

__all__ = [
    "TrainingCommand",
    "check_batch_system",
    "default_out",
    "make_log_folder",
    "missing_data",
    "own_folders",
    "parse_training",
    "split_chain",
    "submit_chain",
]

ELSEWHERE = ("data", "more_data", "out", "workers_per_node", "config")
"""Options of the training that are not in `TrainingCommand.arguments`: a job script passes them in another way."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingCommand:
    """A parsed and checked command line of `launcher train`."""

    data: tuple[str, ...]
    """Data files or patterns, as absolute paths."""
    arguments: tuple[str, ...]
    """Options that the user gave, on the command line or in an option file, in a fixed order."""
    values: Mapping[str, Any]
    """Values of all options, including defaults, as JSON values."""
    out: str = ""
    """Absolute path of the run folder; empty if the user gave none."""
    workers_per_node: int = 0
    """Ranks per node; 0 if the user gave no number."""
    starts_over: bool = False
    """True if the training moves an earlier run to a subfolder instead of continuing it."""


def parse_training(data: Sequence[str], arguments: Sequence[str]) -> TrainingCommand:
    """Parse and check the options of a training with the command `launcher train`, without running it.

    Args:
        data: data files or patterns.
        arguments: further words of the command line: options, data files.

    Raises:
        click.UsageError: the command does not accept the options.
        InputError: a value is out of its range.
        LaunchError: no data were given.
    """
    words = [word for pattern in data for word in ("--data", pattern)]
    context = train.make_context("launcher train", [*words, *arguments])
    values = context.params
    settings = TrainingSettings.of(**{f.name: values[f.name] for f in fields(TrainingSettings) if f.name in values})
    # With the values of the model's recipe: an explicit default equals an omitted option.
    resolved = {**values, **settings.as_dict()}
    by_default = (None, ParameterSource.DEFAULT)
    given = {name for name in values if context.get_parameter_source(name) not in by_default}
    options: list[str] = []
    for option in train.params:
        if isinstance(option, click.Option) and option.name in given and option.name not in ELSEWHERE:
            options += _option_words(option, values[option.name])
    patterns = tuple(os.path.abspath(pattern) for pattern in (*values["data"], *values["more_data"]))
    if not patterns:
        raise LaunchError("no data; expected HDF5 shower files: give a pattern in quotes with --data")
    return TrainingCommand(
        data=patterns,
        arguments=tuple(options),
        values={name: _json_value(value) for name, value in sorted(resolved.items()) if name not in ELSEWHERE},
        out=os.path.abspath(values["out"]) if "out" in given else "",
        workers_per_node=values["workers_per_node"] if "workers_per_node" in given else 0,
        starts_over=not values.get("resume", True),
    )


def _option_words(option: click.Option, value: Any) -> list[str]:
    """Return the words of a command line that set `option` to `value`."""
    name = max(option.opts, key=len)
    if option.is_flag:
        return [name if value else max(option.secondary_opts, key=len)] if value or option.secondary_opts else []
    if option.multiple:
        return [word for item in value for word in (name, _text(item))]
    return [] if value is None else [name, _text(value)]


def _text(value: Any) -> str:
    return os.path.abspath(value) if isinstance(value, os.PathLike) else str(value)


def _json_value(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_json_value(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else _text(value)


def missing_data(training: TrainingCommand) -> list[str]:
    """Return the data patterns that match no file on this machine. The nodes may see other files."""
    return [pattern for pattern in training.data if not glob.glob(pattern)]


def default_out(name: str, environ: Mapping[str, str], now: datetime) -> str:
    """Return a new run folder: below $SCRATCH if it is set, because jobs should not write to a home folder.

    Args:
        name: name of the job.
        environ: environment variables of this process.
        now: time that makes the name of the folder unique.
    """
    root = environ.get("SCRATCH") or os.getcwd()
    return os.path.abspath(os.path.join(root, "3dgan", f"{name}-{now:%Y%m%d-%H%M%S}"))


def own_folders() -> tuple[str, str]:
    """Return the folders of this project and of this process's Python environment. The second one may be empty."""
    import launcher

    project = str(Path(launcher.__file__).resolve().parent.parent)
    # Some interpreters are named python3 only. Then the job script falls back to the environment of the project.
    venv = sys.prefix if os.access(os.path.join(sys.prefix, "bin", "python"), os.X_OK) else ""
    return project, venv


def check_batch_system(machine: Machine) -> None:
    """Raise LaunchError if the machine has no batch system."""
    if machine.batch == "none":
        raise LaunchError(
            f"machine {machine.name} has no batch system; expected one with Slurm: for this machine, generate a script "
            f"with 'python -m launcher script --machine {machine.reference} > job.sh' and run it with 'bash job.sh'"
        )


def split_chain(request: JobRequest, chain: int) -> tuple[JobRequest, int]:
    """Return the job to submit and the number of times to submit it, for a training that may take `chain` jobs.

    If the machine allows it, one job requeues itself. Otherwise `chain` equal jobs follow each other.
    """
    if request.machine.requeue:
        return replace(request, restarts=chain - 1), 1
    return request, chain


def submit_chain(request: JobRequest, chain: int, slurm: Slurm) -> list[int]:
    """Submit a training that may take up to `chain` jobs, one after another in the same run folder.

    Return the numbers of the jobs.

    Raises:
        LaunchError: Slurm refuses a job. The message names the jobs of the chain that are already in the queue.
    """
    check_batch_system(request.machine)
    request, number = split_chain(request, chain)
    make_log_folder(request)
    script = render(request)
    jobs: list[int] = []
    for _ in range(number):
        after = [f"--dependency=afterany:{jobs[-1]}"] if jobs else []
        try:
            jobs.append(slurm.submit(script, *after))
        except LaunchError as error:
            if not jobs:
                raise
            queued = " ".join(map(str, jobs))
            raise LaunchError(
                f"{error}. The first {len(jobs)} of {number} jobs are in the queue; 'scancel {queued}' removes them"
            ) from error
    return jobs


def make_log_folder(request: JobRequest) -> None:
    """Make the folder for the log of a job. Slurm does not make it, and without the folder the log is lost.

    Raises:
        LaunchError: the folder cannot be made.
    """
    folder = request.log_folder
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise LaunchError(
            f"{folder} cannot be made ({error.strerror}); expected a folder that can be written: give one with --out"
        ) from None
