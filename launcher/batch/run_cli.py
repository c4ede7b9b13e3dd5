"""The command `run`: read its options, and find out from the arguments of the ranks which training they run."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Sequence

import click

from launcher.batch.outcome import Target
from launcher.options import machine_option, workers_option
from launcher.train_cli import train

__all__ = ["run", "target_of"]


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@machine_option
@click.option("--nodes", type=click.IntRange(1), default=None, help="Use so many nodes.  [default: all of the job]")
@workers_option
@click.option(
    "--starter",
    type=click.Choice(("auto", "srun", "ibrun", "mpirun")),
    default="auto",
    help="What starts the ranks; auto: the machine's, or the first that is there.",
)
@click.option("--stage-env", is_flag=True, help="Copy the Python environment to the nodes' own disks first.")
@click.option("--restarts", type=click.IntRange(0), default=0, help="How often the job may requeue itself.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def run(context: click.Context, arguments: tuple[str, ...], **options: object) -> None:
    """Start the ranks from inside a job, with the machine's starter and the plan's binding, and see them to their end.

    ARGUMENTS are those of 'python -m launcher' on every rank: train options, or another command such as exec.
    Ends with status 0 when the training is complete, 75 when it was interrupted and can go on, 76 when a node died.
    """
    from launcher.batch.run import RunSettings
    from launcher.batch.run import run as run_job

    group = context.find_root().command
    target = target_of(arguments, group.commands if isinstance(group, click.Group) else ())
    settings = RunSettings(arguments=arguments, target=target, **options)  # type: ignore[arg-type]
    sys.exit(run_job(settings, os.environ))


def target_of(arguments: Sequence[str], commands: Collection[str]) -> Target:
    """Return the training that `python -m launcher ARGUMENTS` runs; an empty target for other commands and dry runs.

    Args:
        arguments: the arguments of every rank.
        commands: names of all commands of the launcher. Other arguments are those of `train`.

    Raises:
        click.UsageError: the ranks would refuse these arguments.
    """
    name, rest = (arguments[0], arguments[1:]) if arguments and arguments[0] in commands else ("train", arguments)
    if name != "train":
        return Target()
    options = train.make_context("launcher train", list(rest)).params
    if options["dry_run"]:
        return Target()
    return Target(out=options["out"], epochs=options["epochs"], resume=options["resume"])
