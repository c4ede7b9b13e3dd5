"""The command `study`. It parses options and prints results; other modules do the work."""

from __future__ import annotations

import sys
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
from launcher.batch.script import render
from launcher.batch.slurm import Slurm
from launcher.batch.study_jobs import StudyJobs, parse_nodes, plan_jobs, submit_study
from launcher.batch.study_progress import progress_table, show_progress, wait_for_jobs
from launcher.batch.study_runs import make_report, run_points
from launcher.batch.submit import parse_training
from launcher.errors import LaunchError
from scaling.records.wording import count

__all__ = ["study"]


@click.command(context_settings=PASS_ON)
@job_options
@click.option("--nodes", metavar="N,N,...", default="1,2,4,8", show_default=True, help="Numbers of nodes to compare.")
@click.option(
    "--repeats", type=click.IntRange(1), default=1, show_default=True,
    help="Number of runs per number of nodes. With one run, intervals in the report do not cover differences between "
    "runs.",
)  # fmt: skip
@data_option
@click.option("--out", type=click.Path(path_type=Path), metavar="FOLDER", help="Folder of the study.  [required]")
@click.option(
    "--single-job",
    is_flag=True,
    help="Run all points one after another in one job of the largest size.  [default: one job per point]",
)
@click.option(
    "--wait", "waiting", is_flag=True,
    help="Wait until the jobs have ended, then make the report on this machine.  [default: a last job makes it]",
)  # fmt: skip
@click.option(
    "--poll", type=click.FloatRange(0.1), default=30.0, show_default=True, metavar="SECONDS",
    help="Seconds between two queries of Slurm with --wait.",
)  # fmt: skip
@click.option(
    "--dry-run",
    is_flag=True,
    help="Print the first job script and the list of jobs, and submit nothing.  [default: off]",
)
@click.option(
    "--status", "shown", type=click.Path(path_type=Path), metavar="FOLDER",
    help="Print the progress of the study in FOLDER and exit. Other options are ignored.  [default: submit the study]",
)  # fmt: skip
@click.option("--run-points", "inside", type=click.Path(path_type=Path), hidden=True, help="Run points inside a job.")
@training_argument
def study(
    nodes: str, repeats: int, data: tuple[str, ...], out: Path | None, single_job: bool, waiting: bool, poll: float,
    dry_run: bool, shown: Path | None, inside: Path | None, training_options: tuple[str, ...], **options: Any,
) -> None:  # fmt: skip
    """Run the same training on different numbers of nodes, and report how it scales.

    Give the same command again to continue: points that are complete, or whose job is pending or running, get no new
    job. Options that are not listed here are options of the training, for example --epochs 5.
    """
    slurm = Slurm()
    if shown:
        show_progress(shown, slurm, click.echo)
        return
    if inside:
        sys.exit(run_points(inside, training_options, options["stage_env"], click.echo))
    if out is None:
        raise click.UsageError("Missing option '--out'; expected the folder of the study")
    training = parse_training(data, training_options)
    sizes = parse_nodes(nodes)
    template = make_request(options, sizes[0], training)
    planned = plan_jobs(out, sizes, repeats, template, training, single_job, slurm)
    warn_about_missing_data(training)
    if dry_run:
        _show_plan(planned)
        return
    submit_study(planned, slurm, click.echo, report=not waiting)
    if waiting:
        click.echo("Waiting for the jobs. Ctrl-C ends the waiting; the jobs continue.")
        points = wait_for_jobs(out, slurm, click.echo, poll)
        click.echo(progress_table(points))
    elif planned.jobs:
        return
    else:
        points = show_progress(out, slurm, click.echo)
        if any(one.active for one in points):
            return
    make_report(out)
    if incomplete := [one.point.name for one in points if not one.complete]:
        raise LaunchError(f"not complete: {', '.join(incomplete)}; see their logs, then give the same command again")


def _show_plan(planned: StudyJobs) -> None:
    """Print the jobs of a study to standard error, and the script of the first job to standard output."""
    for line in (*planned.notes, *(f"{', '.join(names)}: {count(job.nodes, 'node')}" for job, names in planned.jobs)):
        click.echo(line, err=True)
    for job, _ in planned.jobs[:1]:
        click.echo(render(job), nl=False)
