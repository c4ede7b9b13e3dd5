"""The commands `script`, `submit` and `study`: options in, text out. All else is left to the modules of their names."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from launcher.errors import LaunchError
from scaling.records.saving import save_text
from scaling.records.wording import count

if TYPE_CHECKING:
    from launcher.batch.script import JobRequest
    from launcher.batch.submit import Training

__all__ = ["script", "study", "submit"]

PASSED_ON = {"ignore_unknown_options": True}
"""What a command does not know belongs to the training, which checks it before anything is submitted."""


class TimeLimit(click.ParamType):
    name = "HH:MM:SS"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> int:
        from launcher.batch.timelimit import parse_time

        if isinstance(value, int):
            return value
        try:
            return parse_time(value)
        except LaunchError as error:
            self.fail(str(error), parameter, context)


def _job_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What every job has."""
    options = (
        click.option("--machine", help="A known machine, or a TOML file that describes one."),
        click.option("--time", "seconds", type=TimeLimit(), help="HH:MM:SS or hours.  [default: 02:00:00]"),
        click.option(
            "--workers-per-node", type=click.IntRange(1), help="Ranks on each node.  [default: the machine's]"
        ),
        click.option("--partition", help="Queue of Slurm.  [default: the machine's first that takes the job]"),
        click.option("--account", help="Whom Slurm charges.  [default: yours]"),
        click.option("--name", default="3dgan", show_default=True, help="Of the job."),
        click.option("--stage-env", is_flag=True, help="Copy the Python environment to the nodes' own disks first."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _data_option(command: Callable[..., Any]) -> Callable[..., Any]:
    text = "HDF5 shower files; quote patterns or let the shell expand them."
    return click.option("--data", multiple=True, metavar="GLOB...", help=text)(command)


def _request(options: dict[str, Any], nodes: int, training: Training | None = None) -> JobRequest:
    from launcher.batch.script import DEFAULT_SECONDS, JobRequest
    from launcher.batch.submit import own_places
    from launcher.machines import load_machine

    if not options["machine"]:
        raise click.UsageError("Missing option '--machine': a known machine, or a TOML file that describes one.")
    # A script for a user to keep finds them from its environment.
    project, venv = own_places() if training else ("", "")
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


def _warn_of_missing_data(training: Training) -> None:
    from launcher.batch.submit import missing_data

    for pattern in missing_data(training):
        click.echo(f"Warning: no file here matches {pattern}; the nodes must have it", err=True)


@click.command()
@_job_options
@click.option("--nodes", type=click.IntRange(1), help="Number of nodes.  [default: 4; 1 without a batch system]")
@click.option(
    "--all", "folder", type=click.Path(file_okay=False, path_type=Path), metavar="FOLDER",
    help="Write the usual scripts of all known machines into a folder instead.",
)  # fmt: skip
def script(folder: Path | None, nodes: int | None, **options: Any) -> None:
    """Print the job script of a machine; data and output folder come from its environment."""
    from launcher.batch.script import render, script_name, usual_request
    from launcher.machines import load_machine, machine_names

    if folder is None:
        machine = options["machine"]
        click.echo(
            render(_request(options, nodes or (usual_request(load_machine(machine)).nodes if machine else 1))), nl=False
        )
        return
    for name in machine_names():
        machine = load_machine(name)
        path = folder / script_name(machine)
        try:
            save_text(path, render(usual_request(machine)), mode=0o755)
        except OSError as error:
            raise LaunchError(f"{path} cannot be written ({error.strerror})") from None
        click.echo(f"Wrote {path}")


@click.command(context_settings=PASSED_ON)
@_job_options
@click.option("--nodes", type=click.IntRange(1), default=1, show_default=True, help="Number of nodes.")
@_data_option
@click.option("--out", help="Folder of the run.  [default: 3dgan/NAME-TIME on $SCRATCH, or here]")
@click.option(
    "--chain", type=click.IntRange(1), default=1, show_default=True,
    help="Jobs that the training may take, one after the other.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Show the script and submit nothing.")
@click.argument("training_options", metavar="[TRAINING OPTIONS]...", nargs=-1, type=click.UNPROCESSED)
def submit(
    nodes: int, data: tuple[str, ...], out: str | None, chain: int, dry_run: bool, training_options: tuple[str, ...],
    **options: Any,
) -> None:  # fmt: skip
    """Submit a training to Slurm. Options that are not listed here are those of the training, such as --epochs 25."""
    from dataclasses import replace

    from launcher.batch import submit as work
    from launcher.batch.script import render
    from launcher.batch.slurm import Slurm
    from launcher.batch.timelimit import format_time

    training = work.read_training(data, training_options)
    if chain > 1 and training.begins_anew:
        raise LaunchError("with --no-resume every job of a chain would begin anew; leave one of them out")
    place = (
        os.path.abspath(out) if out else training.out or work.default_out(options["name"], os.environ, datetime.now())
    )
    request = replace(
        _request(options, nodes, training),
        data=training.data,
        out=place,
        log_folder=place,
        arguments=training.arguments,
    )
    work.needs_slurm(request.machine)
    _warn_of_missing_data(training)
    if dry_run:
        request, number = work.chained(request, chain)
        click.echo(render(request), nl=False)
        if number > 1:
            click.echo(f"This script would be submitted {number} times, each job after the one before.", err=True)
        return
    jobs = work.submit(request, chain, Slurm())
    limits = request.limits()
    where = f", partition {limits.name}" if limits else ""
    numbers = f"jobs {', '.join(map(str, jobs))}, one after the other" if len(jobs) > 1 else f"job {jobs[0]}"
    size = f"{count(nodes, 'node')}, {count(nodes * request.workers, 'worker')}"
    click.echo(f"Submitted {numbers}: {size}{where}, at most {format_time(request.seconds)}")
    for job in jobs:
        click.echo(f"  log          {place}/slurm-{job}.log")
    click.echo(f"  record       {place}/run.jsonl")
    click.echo(f"  checkpoints  {place}/checkpoints")


@click.command(context_settings=PASSED_ON)
@_job_options
@click.option("--nodes", metavar="N,N,...", default="1,2,4,8", show_default=True, help="Numbers of nodes to compare.")
@click.option(
    "--repeats", type=click.IntRange(1), default=1, show_default=True, help="Runs of each; 3 give an interval."
)
@_data_option
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the study.  [required]")
@click.option("--single-job", is_flag=True, help="Run all points in turn in one job of the largest number of nodes.")
@click.option("--wait", "waiting", is_flag=True, help="Stay until the jobs have ended and make the report here.")
@click.option("--poll", type=click.FloatRange(0.1), default=30.0, show_default=True, help="Seconds between questions.")
@click.option("--dry-run", is_flag=True, help="Show what would be submitted, and submit nothing.")
@click.option("--status", "shown", type=click.Path(path_type=Path), metavar="FOLDER", help="Show how far a study is.")
@click.option(
    "--run-points", "inside", type=click.Path(path_type=Path), hidden=True, help="In a job: run these points."
)
@click.argument("training_options", metavar="[TRAINING OPTIONS]...", nargs=-1, type=click.UNPROCESSED)
def study(
    nodes: str, repeats: int, data: tuple[str, ...], out: Path | None, single_job: bool, waiting: bool, poll: float,
    dry_run: bool, shown: Path | None, inside: Path | None, training_options: tuple[str, ...], **options: Any,
) -> None:  # fmt: skip
    """Run the same training on different numbers of nodes, and report how it scales.

    Given again it goes on: points that are complete, wait or run are left alone. Options that are not listed here are
    those of the training.
    """
    from launcher.batch import study as work
    from launcher.batch.points import parse_nodes, table
    from launcher.batch.script import render
    from launcher.batch.slurm import Slurm
    from launcher.batch.submit import read_training

    slurm = Slurm()
    if shown:
        work.status(shown, slurm, click.echo)
        return
    if inside:
        sys.exit(work.run_points(inside, training_options, options["stage_env"], click.echo))
    if out is None:
        raise click.UsageError("Missing option '--out': the folder of the study.")
    training = read_training(data, training_options)
    sizes = parse_nodes(nodes)
    asked = work.order(out, sizes, repeats, _request(options, sizes[0], training), training, single_job, slurm)
    _warn_of_missing_data(training)
    if dry_run:
        for line in (*asked.notes, *(f"{', '.join(names)}: {count(job.nodes, 'node')}" for job, names in asked.jobs)):
            click.echo(line, err=True)
        for job, _ in asked.jobs[:1]:
            click.echo(render(job), nl=False)
        return
    work.continue_study(asked, slurm, click.echo, report=not waiting)
    if waiting:
        click.echo("Waiting for the jobs; Ctrl-C ends only the waiting")
        found = work.wait(out, slurm, click.echo, poll)
        click.echo(table(found))
    elif asked.jobs:
        return
    else:
        found = work.status(out, slurm, click.echo)
        if any(one.active for one in found):
            return
    work.make_report(out)
    if short := [one.point.name for one in found if not one.complete]:
        raise LaunchError(f"not complete: {', '.join(short)}. See their logs; the same command runs them again")
