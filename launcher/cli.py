"""The command line: what ranks run (`train`, the default, and `exec`), what looks (`plan`, `topology`, `doctor`) and,
from `launcher.batch`, what deals with a batch system. Parses, and leaves the work to others.

Heavy modules are imported by the commands that need them: `plan` answers without TensorFlow, MPI or NumPy.
"""

from __future__ import annotations

import json
import os
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from click_default_group import DefaultGroup

from gan import settings as choices
from gan.errors import InputError
from gan.settings import TrainingSettings
from launcher import __version__
from launcher.batch.cli import script, submit
from launcher.batch.run_cli import run
from launcher.batch.study_cli import study
from scaling.records.saving import save_text

if TYPE_CHECKING:
    from launcher.start import BindSettings

__all__ = ["main"]

DEFAULTS = TrainingSettings()
DEFAULT_WORKERS_PER_NODE = 4


@click.group(cls=DefaultGroup, default="train", default_if_no_args=True, context_settings={"show_default": True})
@click.version_option(__version__, prog_name="launcher")
def cli() -> None:
    """Trains 3DGAN on CPU clusters: places and binds workers, proves it, and runs them over MPI.

    Without a command it trains: mpirun -np 8 python -m launcher --data 'showers/*.h5' --out run
    """


def _read_config(context: click.Context, parameter: click.Parameter, path: Path | None) -> None:
    """Make a TOML file's values the defaults of this command; the command line wins."""
    if path is None:
        return
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise click.BadParameter(f"{path} is not a TOML file ({error})") from error
    values = {name.replace("-", "_"): value for name, value in values.items()}
    known = {option.name for option in context.command.params} - {"config", "more_data"}
    unknown = sorted(set(values) - known)
    if unknown:
        raise click.BadParameter(
            f"{path}: unknown keys {', '.join(unknown)}; expected options such as {', '.join(sorted(known)[:4])}"
        )
    if isinstance(values.get("data"), str):
        values["data"] = [values["data"]]
    context.default_map = {**(context.default_map or {}), **values}


def _choice(name: str, options: tuple[str, ...], **extra: Any) -> Callable[..., Any]:
    field = name.lstrip("-").replace("-", "_")
    return click.option(name, type=click.Choice(options), default=getattr(DEFAULTS, field, None), **extra)


def _thread_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for kind in ("intra", "inter"):
        text = f"TensorFlow {kind}-op threads.  [default: from the cores]"
        command = click.option(f"--{kind}-op", type=click.IntRange(1), default=None, help=text)(command)
    return command


def _binding_options(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option(
        "--bind",
        type=click.Choice(("auto", "none")),
        default="auto",
        help="none: leave cores and memory as they are.",
    )(_thread_options(command))
    return click.option(
        "--workers-per-node",
        type=click.IntRange(1),
        default=DEFAULT_WORKERS_PER_NODE,
        help="If given, checked against what mpirun, srun or ibrun started.",
    )(command)


@cli.command()
@click.option(
    "--config", type=click.Path(path_type=Path), is_eager=True, expose_value=False, callback=_read_config,
    help="TOML file with any of these options, dashes or underscores; the command line wins.",
)  # fmt: skip
@click.option(
    "--data",
    multiple=True,
    metavar="GLOB...",
    help="HDF5 shower files; quote patterns or let the shell expand them.",
)
@click.argument("more_data", nargs=-1)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("run"),
    help="Folder for record, log and checkpoints.",
)
@_choice("--model", choices.MODELS, help="Architecture.")
@_choice("--filters", choices.FILTERS, help="Filters of the middle layers: 16 (for oneDNN) or as published.")
@click.option("--epochs", default=DEFAULTS.epochs, help="Epochs in all, those before a resume included.")
@click.option(
    "--warmup-epochs",
    default=DEFAULTS.warmup_epochs,
    help="Epochs in which the learning rate rises to its scaled value.",
)
@click.option("--batch-size", default=DEFAULTS.batch_size, help="Events per worker and step.")
@click.option("--learning-rate", default=DEFAULTS.learning_rate, help="Of one worker.")
@_choice("--lr-scaling", choices.LR_SCALINGS, help="How the learning rate grows with the number of workers.")
@_choice("--lr-schedule", choices.LR_SCHEDULES, help="Learning rate after the warm-up.")
@click.option("--lr-decay", default=DEFAULTS.lr_decay, help="Factor per epoch (exponential) or plateau.")
@_choice("--optimizer", choices.OPTIMIZERS, help="Optimizer of both networks.")
@_choice(
    "--precision",
    choices.PRECISIONS,
    help="bf16: convolutions and matrix products in BF16, the rest in FP32.",
)
@click.option("--seed", default=DEFAULTS.seed, help="Of weights, order of events, noise and held-out events.")
@click.option("--events", type=int, default=None, help="Use only so many events, chosen at random.  [default: all]")
@click.option(
    "--validation-fraction", default=DEFAULTS.validation_fraction, help="Part of the events that is held out."
)
@click.option("--sync-batchnorm/--no-sync-batchnorm", default=False, help="Batch statistics over all workers.")
@click.option("--deterministic/--no-deterministic", default=False, help="The same bits every time, slower.")
@_binding_options
@click.option(
    "--communicator", type=click.Choice(("auto", "horovod", "mpi", "none")), default="auto",
    help="What carries gradients; auto: Horovod, or mpi4py where it is absent.",
)  # fmt: skip
@click.option("--resume/--no-resume", default=True, help="Go on from the last checkpoint, or set an earlier run aside.")
@click.option("--tensorboard", is_flag=True, help="Write TensorBoard summaries to OUT/tensorboard.")
@click.option("--rank-logs/--no-rank-logs", default=True, help="Ranks other than 0 write to a file each in OUT/logs.")
@click.option(
    "--stop-before", type=click.FloatRange(0), default=120.0, metavar="SECONDS",
    help="Checkpoint and end so long before the job's end (SLURM_JOB_END_TIME), and two steps.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Place, bind, report and check the data; train nothing, write nothing.")
@click.pass_context
def train(context: click.Context, data: tuple[str, ...], more_data: tuple[str, ...], **options: Any) -> None:
    """Train 3DGAN on HDF5 showers with all ranks that MPI or Slurm started."""
    from launcher.allocation import Allocation
    from launcher.guard import guarded
    from launcher.train import LaunchSettings
    from launcher.train import train as train_rank

    allocation = Allocation.from_environment(os.environ)

    def work() -> None:
        binding = _bind_settings(context, options)
        launch_options = {name: options.pop(name) for name in LaunchSettings.__slots__ if name in options}
        launch = LaunchSettings(binding=binding, data=(*data, *more_data), **launch_options)
        train_rank(_same_everywhere(lambda: TrainingSettings(**options)), launch, allocation)

    status = guarded(allocation, work)
    if status:
        sys.exit(status)


def _bind_settings(context: click.Context, options: dict[str, Any]) -> BindSettings:
    """Take the options that concern cores out of a command's options."""
    from launcher.start import BindSettings

    chosen = {name: options.pop(name) for name in BindSettings.__slots__}
    if context.get_parameter_source("workers_per_node") in (ParameterSource.DEFAULT, None):
        chosen["workers_per_node"] = None
    return BindSettings(**chosen)


@cli.command("exec", context_settings={"ignore_unknown_options": True})
@_binding_options
@click.option("--log-folder", type=click.Path(path_type=Path), help="Ranks other than 0 write to a file each in it.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def exec_(context: click.Context, command: tuple[str, ...], log_folder: Path | None, **options: Any) -> None:
    """Bind this rank, set threads and environment, report, and become COMMAND: mpirun ... exec -- python mine.py"""
    from launcher.allocation import Allocation
    from launcher.become import become
    from launcher.guard import guarded

    allocation = Allocation.from_environment(os.environ)
    sys.exit(guarded(allocation, lambda: become(command, _bind_settings(context, options), allocation, log_folder)))


def _same_everywhere(make: Callable[[], TrainingSettings]) -> TrainingSettings:
    """Every rank has the same command line: what is wrong with it is the same error on all."""
    try:
        return make()
    except InputError as error:
        raise type(error)(str(error), agreed=True) from error


@cli.command()
@click.option("--machine", help="A known machine, or a TOML file that describes one.")
@click.option(
    "--topology",
    "topology_file",
    type=click.Path(),
    help="A snapshot made by 'launcher topology', or a saved /sys tree.",
)
@click.option("--nodes", type=click.IntRange(1), default=1, help="Number of nodes.")
@click.option(
    "--workers-per-node",
    type=click.IntRange(1),
    default=None,
    help="Workers on each node.  [default: the machine's, or the tuned, or 4]",
)
@click.option("--batch-size", type=click.IntRange(1), default=DEFAULTS.batch_size, help="Events per worker and step.")
@_thread_options
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def plan(machine: str | None, topology_file: str | None, as_json: bool, **options: Any) -> None:
    """Show who gets what on a machine, and the exact command lines that start it. Runs nothing."""
    from launcher.plan import make_plan, render, to_json

    made = make_plan(machine=machine, topology_file=topology_file, environ=os.environ, **options)
    click.echo(json.dumps(to_json(made), indent=2) if as_json else render(made))


@cli.command()
@click.option("--out", type=click.Path(path_type=Path), help="Write to a file.  [default: standard output]")
def topology(out: Path | None) -> None:
    """Save the topology of this node, for 'plan --topology' on another machine."""
    from launcher.topology import read_topology, to_json

    text = json.dumps(to_json(read_topology()), indent=1)
    if out is None:
        click.echo(text)
        return
    save_text(out, text + "\n")


@cli.command()
@click.option("--seconds", type=click.FloatRange(1), default=60.0, help="Time to spend, about.")
@_choice("--filters", choices.FILTERS, help="Filters of the networks that are measured.")
@click.option("--batch-size", type=click.IntRange(1), default=DEFAULTS.batch_size, help="Events per worker and step.")
@_choice("--precision", choices.PRECISIONS, help="Number format of the step that is measured.")
@click.option("--forget", is_flag=True, help="Remove what was measured on this type of node; measure nothing.")
def tune(*, seconds: float, forget: bool, **options: Any) -> None:
    """Measure which workers per node and threads are fastest on this node, and keep that for the next runs on its like.

    Run it on a compute node, in a job of its own. Options and the environment win over what is kept.
    """
    from launcher import tune as tuning
    from launcher import tuned as kept
    from launcher.topology import read_topology

    here = read_topology(affinity=os.sched_getaffinity(0))
    kind = kept.node_type(here)
    if forget:
        removed = kept.forget(kind, os.environ)
        click.echo(f"Removed {removed}." if removed else f"Nothing was measured on {kind}.")
        return
    click.echo(f"{kind}\n{tuning.HEAD}")
    task = tuning.Task(**options)
    results = tuning.tune(here, os.environ, task, seconds, DEFAULT_WORKERS_PER_NODE, click.echo)
    best = tuning.winner(results, task)
    click.echo(f"\n{tuning.render(results, best)}\nKept in {kept.keep(best, kind, os.environ)}")


@cli.command()
def doctor() -> None:
    """Check MPI, Horovod, TensorFlow, processor and limits, and say what to fix."""
    from launcher.doctor import can_train, diagnose, render

    checks = diagnose()
    click.echo(render(checks))
    sys.exit(0 if can_train(checks) else 1)


for command in (run, script, study, submit):
    cli.add_command(command)


def main() -> None:
    """Run the command line. Errors that the user can correct end with status 2 and without a traceback."""
    cli(prog_name="launcher")
