"""Command-line options that several commands share.

`reading` adds the options for reading runs to a command, and makes `study.StudyOptions` from their values.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from scaling.runs import MODES

__all__ = [
    "Numbers",
    "at_workers_option",
    "folder_option",
    "model_option",
    "nodes_option",
    "reading",
    "runs_argument",
]

_LARGEST = 2**24
"""Largest number of nodes or workers in a list. It is above any machine, and the limit of `models.terms`."""


class Numbers(click.ParamType):
    """Type of an option with a list of numbers such as 256,512,1024. The value is sorted and without duplicates."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in str(value).split(",")]
        if not all(part.isascii() and part.isdecimal() and part.strip("0") for part in parts):
            self.fail(f"{value!r} is not a list of numbers; expected numbers above 0 such as 256,512,1024", param, ctx)
        # Check the number of digits first: Python refuses to convert thousands of digits.
        large = [part for part in parts if len(part.lstrip("0")) > len(str(_LARGEST)) or int(part) > _LARGEST]
        if large:
            self.fail(f"{large[0][:40]} is too large; expected numbers up to {_LARGEST}", param, ctx)
        return tuple(sorted({int(part) for part in parts}))


class _Column(click.ParamType):
    """Type of an option with a quantity and its column, such as `seconds=average_train_time`."""

    name = "column"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        quantity, equals, column = str(value).partition("=")
        if not (quantity and equals and column):
            self.fail(
                f"{value!r} has no name or no column; expected NAME=COLUMN such as seconds=average_train_time",
                param,
                ctx,
            )
        return quantity, column


runs_argument = click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
model_option = click.option(
    "--model",
    metavar="NAME",
    help="Model to fit: amdahl, gustafson, usl, training-ring or training-tree.  [default: the one with the smallest "
    "prediction error]",
)
at_workers_option = click.option(
    "--at-workers",
    type=Numbers(),
    default=(),
    metavar="N,N,...",
    help="Numbers of workers to forecast, such as 1024,2048.  [default: none]",
)


def nodes_option(option: str) -> Callable[..., Any]:
    """Return an option with the name `option` for the numbers of nodes to forecast."""
    return click.option(
        option,
        type=Numbers(),
        default=(),
        metavar="N,N,...",
        help="Numbers of full nodes to forecast, such as 256,512,1024.  [default: none]",
    )


def folder_option(default: Path | None, text: str) -> Callable[..., Any]:
    """Return the option --out for a folder to write to, with its help text."""
    return click.option(
        "--out",
        type=click.Path(file_okay=False, path_type=Path),
        default=default,
        show_default=default is not None,
        help=text,
    )


def reading(without: Sequence[str] = ()) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the options for reading runs to a command. The command gets them as one argument `options`.

    Args:
        without: fields of `StudyOptions` or `Hints` whose option the command does not offer. Some would have no effect
            in this command. Others have another meaning in it, such as --nodes of `forecast`.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        study, hints = (
            {name: option for name, option in group.items() if name not in without} for group in (_STUDY, _HINTS)
        )

        @functools.wraps(command)
        def called(**values: Any) -> None:
            # Imported here because pandas takes a second to load, and --help does not need it.
            from scaling.parsers import Hints
            from scaling.study import StudyOptions

            known = Hints(**{name: values.pop(name) for name in hints})
            options = StudyOptions(hints=known, **{name: values.pop(name) for name in study})
            command(**values, options=options)

        for option in reversed([*study.values(), *hints.values()]):
            called = option(called)
        return called

    return decorate


def _number(option: str, field: str, text: str, metavar: str = "N") -> Callable[..., Any]:
    return click.option(option, field, type=click.IntRange(min=1), metavar=metavar, help=text)


_STUDY = {
    "skip_epochs": click.option(
        "--skip-epochs",
        type=click.IntRange(min=0),
        metavar="N",
        default=1,
        show_default=True,
        help="Number of epochs to skip at the start of each run, or after its last resume, because they include "
        "start-up work.",
    ),
    "baseline": _number(
        "--baseline",
        "baseline",
        "Number of workers that speed-up and efficiency refer to.  [default: the smallest of each curve]",
        "WORKERS",
    ),
    "baseline_from": click.option(
        "--baseline-from",
        type=click.Path(path_type=Path),
        metavar="PATH",
        help="Log or folder with the runs of the baseline.  [default: the baseline is among RUN...]",
    ),
    "mode": click.option(
        "--mode",
        type=click.Choice(MODES),
        default=MODES[0],
        show_default=True,
        help="Kind of scaling, by the quantities that are equal in all runs: batch per worker and data set "
        "(fixed-local); global batch and data set (strong); batch and events per worker (weak).",
    ),
    "allow_different": click.option(
        "--allow-different",
        is_flag=True,
        help="Compare runs even if they differ in more than the number of workers.  [default: refuse them]",
    ),
    "series": click.option(
        "--series",
        multiple=True,
        metavar="SETTING",
        help="Draw a separate curve for each value of this setting, such as precision. Can be repeated.  "
        "[default: one curve]",
    ),
}
"""Options in the order of --help. The keys are the fields of `StudyOptions` that they set."""

_HINTS = {
    "columns": click.option(
        "--column",
        "columns",
        type=_Column(),
        multiple=True,
        metavar="NAME=COLUMN",
        callback=lambda _context, _option, pairs: dict(pairs),
        help="Column of a table or CSV log that holds a quantity, such as seconds=average_train_time, "
        "workers=num_replicas or setting.precision=type. Can be repeated.  [default: columns with usual names]",
    ),
    "workers": _number(
        "--workers",
        "workers",
        "Number of workers of each run. Ignored for run.jsonl, which records it.  [default: from the log or its path]",
    ),
    "batch_size": _number(
        "--batch",
        "batch_size",
        "Events per worker and step. Ignored for run.jsonl, which records them.  [default: from the log or its path]",
        "EVENTS",
    ),
    "train_events": _number(
        "--train-events",
        "train_events",
        "Number of events in the training data. Ignored for run.jsonl, which records it.  [default: from the log]",
        "EVENTS",
    ),
    "cores_per_node": _number(
        "--cores-per-node",
        "cores_per_node",
        "Number of physical cores of each node, to compute core-hours.  [default: from the log]",
    ),
    "name_pattern": click.option(
        "--name-pattern",
        metavar="REGEX",
        help=r"Regular expression for the path of a log. Its named groups are numbers (workers, nodes, ...) or "
        r"settings of the run, such as '(?P<nodes>\d+)nodes'.  [default: usual names such as 8nodes]",
    ),
    "nodes": _number(
        "--nodes",
        "nodes",
        "Number of nodes of each run. Ignored for run.jsonl, which records it.  [default: from the log or its path]",
    ),
}
"""Options in the order of --help. The keys are the fields of `Hints` that they set."""
