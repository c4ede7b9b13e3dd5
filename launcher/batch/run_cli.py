"""The command `run`. It parses its own options, and the arguments of the ranks to find their run folder and epochs."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Sequence

import click

from launcher.batch.outcome import TargetRun
from launcher.options import machine_option, workers_option
from launcher.train_cli import train

__all__ = ["run", "target_of"]


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@machine_option
@click.option("--nodes", type=click.IntRange(1), default=None, help="Number of nodes.  [default: all nodes of the job]")
@workers_option
@click.option(
    "--starter",
    type=click.Choice(("auto", "srun", "ibrun", "mpirun")),
    default="auto",
    show_default=True,
    help="Program that starts the ranks. auto: the starter of the machine, else the first one on PATH.",
)
@click.option(
    "--stage-env",
    is_flag=True,
    help="Copy the Python environment to the local disk of each node before the start.  [default: off]",
)
@click.option(
    "--restarts",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Largest number of times that the job requeues itself after an interruption or the failure of a node.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def run(context: click.Context, arguments: tuple[str, ...], **options: object) -> None:
    """Start the ranks from inside a job, and wait until they end.

    The starter of the machine starts the ranks, bound as 'launcher plan' shows. ARGUMENTS are the arguments of 'python
    -m launcher' on every rank: options of train, or another command such as exec.

    Exit status: 0 if the training is complete, 75 if it was interrupted and can continue, 76 if a node died. Otherwise
    the exit status of the starter, or 1.
    """
    # This import loads multiprocessing, which other commands do not need.
    from launcher.batch.run import RunSettings
    from launcher.batch.run import run as run_job

    group = context.find_root().command
    target = target_of(arguments, group.commands if isinstance(group, click.Group) else ())
    settings = RunSettings(arguments=arguments, target=target, **options)  # type: ignore[arg-type]
    sys.exit(run_job(settings, os.environ))


def target_of(arguments: Sequence[str], commands: Collection[str]) -> TargetRun:
    """Return the run that `python -m launcher ARGUMENTS` completes; an empty target for other commands and dry runs.

    Args:
        arguments: the arguments of every rank.
        commands: names of all commands of the launcher. Other arguments are those of `train`.

    Raises:
        click.UsageError: the ranks would refuse these arguments.
    """
    name, rest = (arguments[0], arguments[1:]) if arguments and arguments[0] in commands else ("train", arguments)
    if name != "train":
        return TargetRun()
    options = train.make_context("launcher train", list(rest)).params
    if options["dry_run"]:
        return TargetRun()
    return TargetRun(out=options["out"], epochs=options["epochs"], resume=options["resume"])
