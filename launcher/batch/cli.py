"""The commands `script` and `submit`. They parse options and print results; other modules do the work."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from launcher.batch.job_options import (
    PASS_ON,
    data_option,
    job_options,
    make_request,
    training_argument,
    warn_about_missing_data,
)
from launcher.batch.job_request import default_request
from launcher.batch.script import render, script_name
from launcher.batch.slurm import Slurm
from launcher.batch.submit import check_batch_system, default_out, parse_training, split_chain, submit_chain
from launcher.batch.timelimit import format_time
from launcher.errors import LaunchError
from launcher.machines import load_machine, machine_names
from scaling.records.saving import save_text
from scaling.records.wording import count

__all__ = ["script", "submit"]


@click.command()
@job_options
@click.option(
    "--nodes", type=click.IntRange(1), help="Number of nodes.  [default: 4, or 1 on a machine without a batch system]"
)
@click.option(
    "--all", "folder", type=click.Path(file_okay=False, path_type=Path), metavar="FOLDER",
    help="Write the scripts of all known machines to FOLDER and ignore other options.  [default: print one script]",
)  # fmt: skip
def script(folder: Path | None, nodes: int | None, **options: Any) -> None:
    """Print the job script of a machine. The script reads data and output folder from its environment."""
    if folder is None:
        if nodes is None:
            nodes = default_request(load_machine(options["machine"])).nodes if options["machine"] else 1
        click.echo(render(make_request(options, nodes)), nl=False)
        return
    for name in machine_names():
        machine = load_machine(name)
        path = folder / script_name(machine)
        try:
            save_text(path, render(default_request(machine)), mode=0o755)
        except OSError as error:
            raise LaunchError(
                f"{path} cannot be written ({error.strerror}); expected a folder that can be written: "
                "choose another one with --all"
            ) from None
        click.echo(f"Wrote {path}")


@click.command(context_settings=PASS_ON)
@job_options
@click.option("--nodes", type=click.IntRange(1), default=1, show_default=True, help="Number of nodes.")
@data_option
@click.option(
    "--out",
    metavar="FOLDER",
    help="Run folder.  [default: 3dgan/NAME-TIME in $SCRATCH, or in the current folder without $SCRATCH]",
)
@click.option(
    "--chain", type=click.IntRange(1), default=1, show_default=True,
    help="Largest number of jobs that run the training one after another, each from the last checkpoint.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Print the job script and submit nothing.  [default: off]")
@training_argument
def submit(
    nodes: int, data: tuple[str, ...], out: str | None, chain: int, dry_run: bool, training_options: tuple[str, ...],
    **options: Any,
) -> None:  # fmt: skip
    """Submit a training to Slurm.

    Options that are not listed here are options of the training, for example --epochs 25.
    """
    training = parse_training(data, training_options)
    if chain > 1 and training.starts_over:
        raise LaunchError(
            f"--chain is {chain} and --no-resume is given: every job of the chain would start over; "
            "leave one of the two options out"
        )
    place = os.path.abspath(out) if out else training.out or default_out(options["name"], os.environ, datetime.now())
    request = replace(
        make_request(options, nodes, training),
        data=training.data,
        out=place,
        log_folder=place,
        arguments=training.arguments,
    )
    check_batch_system(request.machine)
    warn_about_missing_data(training)
    if dry_run:
        request, number = split_chain(request, chain)
        click.echo(render(request), nl=False)
        if number > 1:
            click.echo(f"This script would be submitted {number} times, each job after the one before.", err=True)
        return
    jobs = submit_chain(request, chain, Slurm())
    limits = request.limits()
    partition = f", partition {limits.name}" if limits else ""
    numbers = f"jobs {', '.join(map(str, jobs))}, one after another" if len(jobs) > 1 else f"job {jobs[0]}"
    size = f"{count(nodes, 'node')}, {count(nodes * request.workers, 'worker')}"
    click.echo(f"Submitted {numbers}: {size}{partition}, at most {format_time(request.seconds)}")
    for job in jobs:
        click.echo(f"  log          {place}/slurm-{job}.log")
    click.echo(f"  record       {place}/run.jsonl")
    click.echo(f"  checkpoints  {place}/checkpoints")
