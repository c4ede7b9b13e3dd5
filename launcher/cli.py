"""The command line: the list of commands. Each command reads its options and calls the module that does the work.

Each command imports the modules that only it needs, so that `plan` loads neither TensorFlow nor MPI nor NumPy.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import click
from click_default_group import DefaultGroup

from gan import settings as choices
from launcher import __version__
from launcher.batch.cli import script, submit
from launcher.batch.run_cli import run
from launcher.batch.study_cli import study
from launcher.options import (
    batch_size_option,
    bind_settings,
    binding_options,
    choice,
    machine_option,
    thread_options,
    workers_option,
)
from launcher.train_cli import train
from launcher.workers import DEFAULT_WORKERS_PER_NODE
from scaling.records.commands import UserErrorGroup
from scaling.records.saving import save_text

__all__ = ["main"]


class _Commands(UserErrorGroup, DefaultGroup):
    pass


@click.group(cls=_Commands, default="train", default_if_no_args=True, context_settings={"show_default": True})
@click.version_option(__version__, prog_name="launcher")
def cli() -> None:
    """Train 3DGAN on CPU clusters: place the workers, bind them, check the binding and train over MPI.

    Without a command it trains:

    \b
      mpirun -np 8 python -m launcher --data 'showers/*.h5' --out run
    """


@cli.command("exec", context_settings={"ignore_unknown_options": True})
@binding_options
@click.option(
    "--log-folder",
    type=click.Path(path_type=Path),
    help="Folder in which every rank except rank 0 writes its output to a separate file.  [default: the console]",
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(command: tuple[str, ...], log_folder: Path | None, **options: Any) -> None:
    """Bind this rank, then replace the launcher with any other program.

    Set threads and environment as for a training, print the placement, and run COMMAND in this process:

    \b
      mpirun -np 8 python -m launcher exec -- python mine.py
    """
    from launcher.allocation import Allocation
    from launcher.become import become
    from launcher.guard import guarded

    allocation = Allocation.from_environment(os.environ)
    sys.exit(guarded(allocation, lambda: become(command, bind_settings(options), allocation, log_folder)))


@cli.command()
@machine_option
@click.option(
    "--topology",
    "topology_file",
    type=click.Path(),
    help="Topology of a node: a snapshot from 'launcher topology', or a folder with a copy of /sys and /proc.  "
    "[default: from the machine, else this node]",
)
@click.option("--nodes", type=click.IntRange(1), default=1, help="Number of nodes.")
@workers_option
@batch_size_option
@thread_options
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON instead of text.  [default: off]")
def plan(machine: str | None, topology_file: str | None, as_json: bool, **options: Any) -> None:
    """Show the placement of workers on a machine and the command lines that start them.

    Print the cores, threads and variables of each worker, and the command line for each MPI and batch system. Run
    nothing.
    """
    from launcher.plan import make_plan, to_json
    from launcher.plan_text import render

    planned = make_plan(machine=machine, topology_file=topology_file, environ=os.environ, **options)
    click.echo(json.dumps(to_json(planned), indent=2) if as_json else render(planned))


@cli.command()
@click.option("--out", type=click.Path(path_type=Path), help="File to write.  [default: standard output]")
def topology(out: Path | None) -> None:
    """Save the topology of this node for 'plan --topology'."""
    from launcher.topology import read_topology, to_json

    text = json.dumps(to_json(read_topology()), indent=1)
    if out is None:
        click.echo(text)
        return
    save_text(out, text + "\n")


@cli.command()
@click.option(
    "--seconds", type=click.FloatRange(1), default=60.0, help="Approximate time of all measurements in seconds."
)
@choice("--model", choices.MODELS, help="Architecture of the networks to measure, as for train.")
@click.option(
    "--filters",
    type=click.Choice(choices.FILTERS),
    help="Number of filters in the networks to measure, as for train.  [default: as for train]",
)
@batch_size_option
@choice("--precision", choices.PRECISIONS, help="Number format of the training step to measure, as for train.")
@click.option(
    "--forget",
    is_flag=True,
    help="Remove the stored settings of this type of node and measure nothing.  [default: off]",
)
def tune(*, seconds: float, forget: bool, **options: Any) -> None:
    """Measure and store the fastest settings for this type of node.

    The settings are the numbers of workers and threads. Later plans and runs on such nodes use them as defaults;
    options and environment variables have priority. Run this command on a compute node, in a separate job.
    """
    from launcher import tune as tuning
    from launcher import tuned as stored
    from launcher.topology import read_topology
    from launcher.tune_worker import Task

    task = Task(**options)
    task.settings()  # raises an error in the options before the first measurement
    here = read_topology(affinity=os.sched_getaffinity(0))
    kind = stored.node_type(here)
    if forget:
        removed = stored.forget(kind, os.environ)
        click.echo(f"Removed {removed}." if removed else f"Nothing is stored for {kind}.")
        return
    click.echo(f"{kind}\n{tuning.HEAD}")
    results = tuning.tune(here, os.environ, task, seconds, DEFAULT_WORKERS_PER_NODE, click.echo)
    best = tuning.winner(results, task)
    click.echo(f"\n{tuning.render(results, best)}\nStored in {stored.keep(best, kind, os.environ)}")


@cli.command()
def doctor() -> None:
    """Check this environment and this node, and print what to fix.

    Check Python, TensorFlow, MPI, Horovod, a sum over two ranks, HDF5, the processor and the limits of this node. Exit
    with status 1 if a training cannot work here.
    """
    from launcher.doctor import can_train, diagnose, render

    checks = diagnose()
    click.echo(render(checks))
    sys.exit(0 if can_train(checks) else 1)


for command in (train, run, script, study, submit):
    cli.add_command(command)


def main() -> None:
    """Run the command line. Errors that the user can correct end with exit status 2 and without a traceback.

    All ranks of a job have the same command line, so rank 0 alone prints an error in it.
    """
    from launcher.guard import wait_unless_first

    try:
        status = cli(prog_name="launcher", standalone_mode=False)
    except click.Abort:
        click.echo("Interrupted", err=True)
        status = 130
    except click.ClickException as error:
        if wait_unless_first(os.environ):
            error.show()
        status = error.exit_code
    sys.exit(status if isinstance(status, int) else 0)
