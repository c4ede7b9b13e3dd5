"""The command `run`. It parses its options, and the arguments of the ranks to learn which run they should complete."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from launcher.batch.outcome import TargetRun

__all__ = ["run", "target_of"]


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option(
    "--machine",
    help="Name of a known machine, or path of a TOML file that describes one.  [default: none]",
)
@click.option("--nodes", type=click.IntRange(1), default=None, help="Number of nodes.  [default: all of the job]")
@click.option(
    "--workers-per-node",
    type=click.IntRange(1),
    default=None,
    help="Number of workers (ranks) on each node.  [default: from the machine, else from 'launcher tune', else 4]",
)
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
    help="Copy the Python environment to the local disk of each node first.  [default: off]",
)
@click.option(
    "--restarts",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="How often the job may requeue itself after an interruption or the death of a node.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(arguments: tuple[str, ...], **options: object) -> None:
    """Start the ranks from inside a job, and stay until they end.

    The ranks are started by the starter of the machine and bound as 'launcher plan' shows. ARGUMENTS are the arguments
    of 'python -m launcher' on every rank: options of train, or another command such as exec.

    Exit status: 0 if the training is complete, 75 if it was interrupted and can continue, 76 if a node died. Otherwise
    the exit status of the starter, or 1.
    """
    # Loads multiprocessing, which other commands do not need.
    from launcher.batch.run import RunSettings
    from launcher.batch.run import run as run_job

    settings = RunSettings(arguments=arguments, target=target_of(arguments), **options)  # type: ignore[arg-type]
    sys.exit(run_job(settings, os.environ))


def target_of(arguments: Sequence[str]) -> TargetRun:
    """Return the run that arguments of `python -m launcher` create. It is empty for other commands and for dry runs.

    Raises:
        click.UsageError: the ranks would refuse the arguments.
    """
    # The command line imports this module.
    from launcher.cli import cli, train

    name, rest = (arguments[0], arguments[1:]) if arguments and arguments[0] in cli.commands else ("train", arguments)
    if name != "train":
        return TargetRun()
    options = train.make_context("launcher train", list(rest)).params
    if options["dry_run"]:
        return TargetRun()
    return TargetRun(out=options["out"], epochs=options["epochs"], resume=options["resume"])
