"""Options that the commands `script`, `submit` and `study` share, and the job request that follows from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from launcher.batch.job_request import DEFAULT_SECONDS, JobRequest
from launcher.batch.submit import TrainingCommand, missing_data, own_folders
from launcher.batch.timelimit import parse_time
from launcher.errors import LaunchError
from launcher.machines import load_machine

__all__ = ["PASS_ON", "data_option", "job_options", "make_request", "training_argument", "warn_about_missing_data"]

PASS_ON = {"ignore_unknown_options": True}
"""Settings of click that pass unknown options to the training's parser, which checks them before the submission."""


class TimeLimit(click.ParamType):
    """Type of the option `--time`. It converts the time limit of a job to seconds."""

    name = "HH:MM:SS"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return parse_time(value)
        except LaunchError as error:
            self.fail(str(error), parameter, context)


def job_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that all jobs share."""
    options = (
        click.option(
            "--machine", help="Name of a known machine, or path of a TOML file that describes one.  [required]"
        ),
        click.option(
            "--time",
            "seconds",
            type=TimeLimit(),
            help="Time limit of the job: HH:MM:SS, D-HH:MM:SS or hours such as 1.5.  [default: 02:00:00]",
        ),
        click.option(
            "--workers-per-node",
            type=click.IntRange(1),
            help="Number of workers (ranks) on each node.  [default: from the machine]",
        ),
        click.option(
            "--partition",
            metavar="NAME",
            help="Slurm partition.  [default: the first one of the machine that allows the job, else Slurm's default]",
        ),
        click.option(
            "--account", metavar="NAME", help="Slurm account to charge.  [default: your default account in Slurm]"
        ),
        click.option("--name", metavar="NAME", default="3dgan", show_default=True, help="Name of the job."),
        click.option(
            "--stage-env",
            is_flag=True,
            help="Copy the Python environment to the local disk of each node before the start.  [default: off]",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def data_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option `--data`."""
    text = "HDF5 shower files: a pattern in quotes, or paths of files.  [required]"
    return click.option("--data", multiple=True, metavar="GLOB...", help=text)(command)


def training_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the argument that collects the options of the training."""
    text = "[TRAINING OPTIONS]..."
    return click.argument("training_options", metavar=text, nargs=-1, type=click.UNPROCESSED)(command)


def make_request(options: dict[str, Any], nodes: int, training: TrainingCommand | None = None) -> JobRequest:
    """Return the request for a job from the options of `job_options`.

    Raises:
        click.UsageError: `--machine` is missing.
        LaunchError: the machine is unknown or does not allow such a job.
    """
    if not options["machine"]:
        raise click.UsageError(
            "Missing option '--machine'; expected the name of a known machine, or a path of a TOML file"
        )
    # A script that the user keeps finds these folders through its environment.
    project, venv = own_folders() if training else ("", "")
    return JobRequest(
        machine=load_machine(options["machine"]),
        nodes=nodes,
        seconds=options["seconds"] or DEFAULT_SECONDS,
        workers_per_node=options["workers_per_node"] or (training.workers_per_node if training else 0),
        partition=options["partition"] or "",
        account=options["account"] or "",
        name=options["name"],
        stage_env=options["stage_env"],
        project=project,
        venv=venv,
    )


def warn_about_missing_data(training: TrainingCommand) -> None:
    """Print a warning for every data pattern that matches no file on this machine."""
    for pattern in missing_data(training):
        click.echo(f"Warning: no file on this machine matches {pattern}; check that the nodes have it", err=True)
