"""The command `train`: read its options, then run one rank of the training.

Other commands read the options of a training too. So this module imports only what the parsing needs. The command
itself imports the modules that run a rank.
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from gan import settings as choices
from gan.errors import InputError
from gan.settings import TrainingSettings
from launcher.options import DEFAULTS, bind_settings, binding_options, choice
from launcher.recipe_options import recipe_options
from scaling.records.documents import read_toml

__all__ = ["train"]


def _read_config(context: click.Context, parameter: click.Parameter, path: Path | None) -> None:
    """Use the values of a TOML file as defaults of this command. Options on the command line have priority."""
    if path is None:
        return
    try:
        values = read_toml(path)
    except OSError as error:
        raise click.BadParameter(
            f"{path} cannot be read ({error.strerror}); expected the path of a TOML file with options"
        ) from error
    except ValueError as error:
        raise click.BadParameter(
            f"{path} is not a TOML file ({error}); expected lines such as 'epochs = 25': correct the file"
        ) from error
    values = {name.replace("-", "_"): value for name, value in values.items()}
    known = {option.name for option in context.command.params} - {"config", "more_data"}
    unknown = sorted(set(values) - known)
    if unknown:
        raise click.BadParameter(
            f"{path}: unknown keys {', '.join(unknown)}; expected options such as {', '.join(sorted(known)[:4])}. "
            "See 'python -m launcher train --help'"
        )
    if isinstance(values.get("data"), str):
        values["data"] = [values["data"]]
    for option in context.command.params:
        if option.name in values and (expected := _mismatch(option, values[option.name])):
            seen = f"{path}: {option.name} is {values[option.name]!r}"
            raise click.BadParameter(f"{seen}; expected {expected}: correct the file")
    context.default_map = {**(context.default_map or {}), **values}


def _mismatch(option: click.Parameter, value: object) -> str:
    """Return what an option expects instead of a TOML value; empty if the value has a fitting type.

    click would cut 1.5 to 1, and fails on lists and infinite numbers. It checks texts itself.
    """
    if getattr(option, "multiple", False):
        fits, expected = isinstance(value, list) and all(map(_is_text, value)), "a text or a list of texts"
    elif isinstance(option, click.Option) and option.is_flag:
        fits, expected = isinstance(value, bool), "true or false"
    elif isinstance(option.type, click.types.IntParamType):
        fits, expected = type(value) is int or _is_text(value), "a whole number"
    elif isinstance(option.type, click.types.FloatParamType):
        finite = type(value) in (int, float) and abs(value) < math.inf  # type: ignore[arg-type]
        fits, expected = finite or _is_text(value), "a number"
    else:
        # --filters has names such as 16.
        fits, expected = type(value) is int or _is_text(value), "a text"
    return "" if fits else expected


def _is_text(value: object) -> bool:
    return isinstance(value, str) and "\0" not in value


def _no_commands(context: click.Context, parameter: click.Parameter, files: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse a mistyped command: the command line would take it for a data file of a training."""
    commands = context.parent.command if context.parent else None
    for name in files:
        if isinstance(commands, click.Group) and re.fullmatch("[a-z]+", name) and not Path(name).exists():
            known = ", ".join(commands.list_commands(context))
            raise click.BadParameter(
                f"{name!r} is neither a command nor a file; expected one of {known}, or shower files"
            )
    return files


@click.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    is_eager=True,
    expose_value=False,
    callback=_read_config,
    help="TOML file with any of these options, written with dashes or underscores. Options on the command line have "
    "priority.  [default: no file]",
)
@click.option(
    "--data",
    multiple=True,
    metavar="GLOB...",
    help="HDF5 shower files, as paths or patterns. The shell may expand an unquoted pattern.  [required unless "
    "--dry-run]",
)
@click.argument("more_data", metavar="[FILE]...", nargs=-1, callback=_no_commands)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("run"),
    help="Folder for the record, the log and the checkpoints.",
)
@choice("--model", choices.MODELS, help="Architecture of the two networks.")
@recipe_options
@choice(
    "--precision",
    choices.PRECISIONS,
    help="Number format. bf16: convolutions and matrix products in BF16, the rest in FP32; bf16-full: also round the "
    "weights to BF16 after every update.",
)
@click.option(
    "--seed",
    default=DEFAULTS.seed,
    help="Seed of the initial weights, the order of events, the noise and the choice of validation events.",
)
@click.option(
    "--events", type=int, help="Number of events to train and validate with, chosen at random.  [default: all]"
)
@click.option(
    "--validation-fraction",
    default=DEFAULTS.validation_fraction,
    help="Fraction of the events, 0 or more and below 1, that only the validation uses.",
)
@click.option(
    "--virtual-workers",
    default=DEFAULTS.virtual_workers,
    help="Number of workers for which each rank computes batches, one after another. To study the training of many "
    "workers on few cores.",
)
@click.option(
    "--sync-batchnorm/--no-sync-batchnorm",
    default=DEFAULTS.sync_batchnorm,
    help="Batch normalization with statistics of the global batch, not of each worker's part.",
)
@click.option(
    "--deterministic/--no-deterministic",
    default=DEFAULTS.deterministic,
    help="Compute the same bits in every run with the same seed. This is slower.",
)
@click.option(
    "--stop-when-dead/--no-stop-when-dead",
    default=DEFAULTS.stop_when_dead,
    help="stop-when-dead: end the training with status 2 if the generator gives no output during a whole epoch; "
    "no-stop-when-dead: only warn.",
)
@binding_options
@click.option(
    "--communicator",
    type=click.Choice(("auto", "horovod", "mpi", "none")),
    default="auto",
    help="Library that averages gradients over the workers. mpi: mpi4py; none: for one worker; auto: Horovod, or "
    "mpi4py if Horovod cannot be used.",
)
@click.option(
    "--resume/--no-resume",
    default=True,
    help="resume: continue from the last checkpoint in OUT; no-resume: move an earlier run to a subfolder of OUT and "
    "start from the beginning.",
)
@click.option("--tensorboard", is_flag=True, help="Write TensorBoard summaries to OUT/tensorboard.  [default: off]")
@click.option(
    "--rank-logs/--no-rank-logs",
    default=True,
    help="Write the output of every rank except rank 0 to a separate file in OUT/logs, not to the console.",
)
@click.option(
    "--checkpoint-every",
    type=click.FloatRange(0),
    default=10.0,
    metavar="MINUTES",
    help="Minutes after which a checkpoint is written within an epoch; 0 for checkpoints after epochs only.",
)
@click.option(
    "--hang-timeout",
    type=click.FloatRange(0),
    default=10.0,
    metavar="MINUTES",
    help="Minutes without progress on any rank after which the run ends; 0 for never. The rank that the others wait "
    "for is named much earlier.",
)
@click.option(
    "--stop-before",
    type=click.FloatRange(0),
    default=120.0,
    metavar="SECONDS",
    help="Seconds before the end of the job (SLURM_JOB_END_TIME) at which the training writes a checkpoint and stops. "
    "The time of two steps is added.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Place, bind and report the workers and check the data, but train nothing and write nothing.  [default: off]",
)
def train(data: tuple[str, ...], more_data: tuple[str, ...], **options: Any) -> None:
    """Train 3DGAN on all ranks that MPI or Slurm started.

    Each FILE is one more shower file, so that the shell may expand the pattern after --data.
    """
    from launcher.allocation import Allocation
    from launcher.guard import guarded
    from launcher.train import LaunchSettings
    from launcher.train import train as train_rank

    allocation = Allocation.from_environment(os.environ)

    def work() -> None:
        binding = bind_settings(options)
        launch_options = {name: options.pop(name) for name in LaunchSettings.__slots__ if name in options}
        launch = LaunchSettings(binding=binding, data=(*data, *more_data), **launch_options)
        train_rank(_same_on_all_ranks(lambda: TrainingSettings.of(**options)), launch, allocation)

    status = guarded(allocation, work)
    if status:
        sys.exit(status)


def _same_on_all_ranks(make: Callable[[], TrainingSettings]) -> TrainingSettings:
    """Make the settings. Mark an error in them as agreed, because all ranks have the same command line."""
    try:
        return make()
    except InputError as error:
        raise type(error)(str(error), agreed=True) from error
