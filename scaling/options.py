"""The options that every command shares which reads runs, and how they become `study.Options`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from scaling.study import Options as StudyOptions

__all__ = ["Numbers", "Options", "reading"]

_MODES = ("fixed-local", "strong", "weak")
_MOST = 2**24
"""Of nodes or workers in a list: no machine has more, and no model here reaches farther."""


class Numbers(click.ParamType):
    """Numbers such as 256,512,1024: in rising order, each once."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in str(value).split(",")]
        if not all(part.isascii() and part.isdecimal() and part.strip("0") for part in parts):
            self.fail(f"{value!r} is no list of numbers; expected one such as 256,512,1024", param, ctx)
        # Compared by their digits first: Python refuses to convert thousands of them.
        large = [part for part in parts if len(part.lstrip("0")) > len(str(_MOST)) or int(part) > _MOST]
        if large:
            self.fail(f"{large[0][:40]} is too large; expected numbers up to {_MOST}", param, ctx)
        return tuple(sorted({int(part) for part in parts}))


class _Column(click.ParamType):
    """`seconds=average_train_time`: what is meant, and its column."""

    name = "column"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        meant, equals, column = str(value).partition("=")
        if not (meant and equals and column):
            self.fail(f"{value!r}; expected NAME=COLUMN such as seconds=average_train_time", param, ctx)
        return meant, column


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """The shared options as they were given."""

    skip_epochs: int
    baseline: int | None
    baseline_from: Path | None
    mode: str
    allow_different: bool
    series: tuple[str, ...]
    column: tuple[tuple[str, str], ...]
    workers: int | None
    nodes: int | None
    cores_per_node: int | None
    batch: int | None
    train_events: int | None
    name_pattern: str | None

    def study(self) -> StudyOptions:
        """What `scaling.study` takes. Raises RecordError where a hint is none."""
        from scaling.parsers import Hints
        from scaling.study import Options as StudyOptions

        hints = Hints(
            workers=self.workers,
            nodes=self.nodes,
            cores_per_node=self.cores_per_node,
            batch_size=self.batch,
            train_events=self.train_events,
            columns=dict(self.column),
            name_pattern=self.name_pattern,
        )
        return StudyOptions(
            skip_epochs=self.skip_epochs,
            baseline=self.baseline,
            baseline_from=self.baseline_from,
            mode=self.mode,
            allow_different=self.allow_different,
            series=self.series,
            hints=hints,
        )


def reading(without: Sequence[str] = ()) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Adds the options of reading runs to a command, which gets them as `options`.

    Args:
        without: fields of `Options` that the command does not offer, since they would change nothing or, as --nodes
            where it asks for a forecast, mean something else; they are None.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def called(**values: Any) -> None:
            shared: dict[str, Any] = {name: None if name in without else values.pop(name) for name in _READING}
            command(**values, options=Options(**shared))

        for name, option in reversed(_READING.items()):
            if name not in without:
                called = option(called)
        return called

    return decorate


def _count(name: str, meaning: str, metavar: str = "N") -> Callable[..., Any]:
    return click.option(name, type=click.IntRange(min=1), metavar=metavar, help=meaning)


_READING = {
    "skip_epochs": click.option(
        "--skip-epochs",
        type=click.IntRange(min=0),
        default=1,
        show_default=True,
        help="Epochs to leave out at the start of each run, or after its last resume: they hold start-up work.",
    ),
    "baseline": _count("--baseline", "Number of workers to compare with.  [default: the fewest]", "WORKERS"),
    "baseline_from": click.option(
        "--baseline-from",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Run, log or folder that the baseline is taken from.  [default: the runs themselves]",
    ),
    "mode": click.option(
        "--mode",
        type=click.Choice(_MODES),
        default=_MODES[0],
        show_default=True,
        help="What is kept as workers are added: batch per worker and data, all of both, or both per worker.",
    ),
    "allow_different": click.option(
        "--allow-different", is_flag=True, help="Compare runs even if they differ in more than size."
    ),
    "series": click.option(
        "--series", multiple=True, metavar="SETTING", help="Setting whose values are curves of their own, as precision."
    ),
    "column": click.option(
        "--column",
        type=_Column(),
        multiple=True,
        metavar="NAME=COLUMN",
        help="Column of a table, as seconds=average_train_time, workers=num_replicas or setting.precision=type.",
    ),
    "workers": _count("--workers", "Workers of each run, where its log does not tell."),
    "batch": _count("--batch", "Events per worker and step, where the log does not tell.", "EVENTS"),
    "train_events": _count("--train-events", "Events of an epoch, where the log does not tell.", "EVENTS"),
    "cores_per_node": _count("--cores-per-node", "Physical cores, for core-hours.", "N"),
    "name_pattern": click.option(
        "--name-pattern",
        metavar="REGEX",
        help=r"Finds what the log does not tell in its path, as '(?P<nodes>\d+)nodes'.",
    ),
    "nodes": _count("--nodes", "Nodes of each run, where its log does not tell."),
}
"""By the field of `Options` that each fills, in the order of --help."""
