"""The command `run`: parses, and finds out from the ranks' own arguments which training they will make complete."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from launcher.batch.outcome import Target

__all__ = ["run", "target_of"]


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--machine", help="A known machine, or a TOML file that describes one.")
@click.option("--nodes", type=click.IntRange(1), default=None, help="Use so many nodes.  [default: all of the job]")
@click.option(
    "--workers-per-node",
    type=click.IntRange(1),
    default=None,
    help="Ranks on each node.  [default: the machine's, or the tuned, or 4]",
)
@click.option(
    "--starter",
    type=click.Choice(("auto", "srun", "ibrun", "mpirun")),
    default="auto",
    help="What starts the ranks; auto: the machine's, or the first that is there.",
)
@click.option("--stage-env", is_flag=True, help="Copy the Python environment to the nodes' own disks first.")
@click.option("--restarts", type=click.IntRange(0), default=0, help="How often the job may requeue itself.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(arguments: tuple[str, ...], **options: object) -> None:
    """Start the ranks from inside a job, with the machine's starter and the plan's binding, and see them to their end.

    ARGUMENTS are those of 'python -m launcher' on every rank: train options, or another command such as exec.
    Ends with status 0 when the training is complete, 75 when it was interrupted and can go on, 76 when a node died.
    """
    from launcher.batch.run import RunSettings
    from launcher.batch.run import run as run_job

    settings = RunSettings(arguments=arguments, target=target_of(arguments), **options)  # type: ignore[arg-type]
    sys.exit(run_job(settings, os.environ))


def target_of(arguments: Sequence[str]) -> Target:
    """The training that these arguments of `python -m launcher` make; empty for other commands and dry runs.

    Raises click.UsageError for arguments that the ranks would refuse.
    """
    from launcher.batch.outcome import Target
    from launcher.cli import cli, train

    name, rest = (arguments[0], arguments[1:]) if arguments and arguments[0] in cli.commands else ("train", arguments)
    if name != "train":
        return Target()
    options = train.make_context("launcher train", list(rest)).params
    if options["dry_run"]:
        return Target()
    return Target(out=options["out"], epochs=options["epochs"], resume=options["resume"])
