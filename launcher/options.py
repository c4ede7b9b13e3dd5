"""Options that several commands of the launcher share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from gan.settings import TrainingSettings

if TYPE_CHECKING:
    from launcher.start import BindSettings

__all__ = [
    "DEFAULTS",
    "batch_size_option",
    "bind_settings",
    "binding_options",
    "choice",
    "machine_option",
    "thread_options",
    "workers_option",
]

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

DEFAULTS = TrainingSettings.of()
"""Source of all defaults of training options."""

machine_option: Decorator = click.option(
    "--machine", help="Name of a known machine, or path of a TOML file that describes one.  [default: none]"
)

workers_option: Decorator = click.option(
    "--workers-per-node",
    type=click.IntRange(1),
    help="Number of workers (ranks) on each node.  [default: from the machine, else from 'launcher tune', else 4]",
)

batch_size_option: Decorator = click.option(
    "--batch-size", type=click.IntRange(1), default=DEFAULTS.batch_size, help="Events per worker and step."
)


def choice(name: str, options: tuple[str, ...], **extra: Any) -> Decorator:
    """Return an option with fixed choices. If a training setting has this name, the option has the same default."""
    field = name.lstrip("-").replace("-", "_")
    return click.option(name, type=click.Choice(options), default=getattr(DEFAULTS, field, None), **extra)


def thread_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for the numbers of TensorFlow threads in each worker."""
    origin = "[default: from the environment, else from 'launcher tune', else from the worker's cores]"
    options = (
        click.option(
            "--inter-op",
            type=click.IntRange(1),
            help=f"Number of TensorFlow operations that run at the same time in a worker.  {origin}",
        ),
        click.option(
            "--intra-op",
            type=click.IntRange(1),
            help=f"Number of threads that share one TensorFlow operation.  {origin}",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def binding_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for workers, their cores and their threads. `bind_settings` reads them."""
    options = (
        click.option(
            "--workers-per-node",
            type=click.IntRange(1),
            help="Number of workers that mpirun, srun or ibrun should have started on each node. More workers are an "
            "error, fewer workers give a warning.  [default: no check]",
        ),
        click.option(
            "--bind",
            type=click.Choice(("auto", "none")),
            default="auto",
            help="Binding of the workers. auto: bind each worker to its share of cores and memory; none: change no "
            "binding.",
        ),
        thread_options,
    )
    for option in reversed(options):
        command = option(command)
    return command


def bind_settings(options: dict[str, Any]) -> BindSettings:
    """Remove the options that `binding_options` added from a command's options, and return them."""
    from launcher.start import BindSettings

    return BindSettings(**{name: options.pop(name) for name in BindSettings.__slots__})
