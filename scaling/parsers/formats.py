"""The interface of a reader, and the bounds that all of them keep so that no file can exhaust the memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling.parsers.hints import Facts, Hints
from scaling.records import RecordError
from scaling.records.wording import count
from scaling.runs import EpochTimes, RunLog

__all__ = ["MOST_EPOCHS", "Format", "bounded", "epochs_in_order", "not_understood", "run_log"]

MOST_EPOCHS = 100_000
"""A file of more epochs or rows than this is refused: it is no log of a training, and would not fit a plot."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """A kind of file that can be read."""

    name: str
    """As it stands in `RunLog.format`."""
    about: str
    """What a user knows it as, for messages."""
    begins: Callable[[bytes, Hints], bool] | None = None
    """Whether a file with this head (its first bytes, without a byte order mark) is of the format."""
    occurs: Callable[[bytes], bool] | None = None
    """Whether this block of whole lines holds something of the format: for lines amid other output."""
    meant: Callable[[Path, Hints], None] | None = None
    """Raises RecordError where a file with such a head, which nobody has named, need not be a log at all: settings and
    other people's tables lie about in folders."""
    read: Callable[[Path, Hints], list[RunLog]]
    """The runs in a file; RecordError where it holds none."""


def bounded(path: Path, number: int) -> None:
    """Raise RecordError where a file has told of more than `MOST_EPOCHS` epochs or rows."""
    if number > MOST_EPOCHS:
        raise RecordError(
            f"{path}: more than {MOST_EPOCHS:,} epochs or rows; expected the log of a training. "
            "Leave the file out, or give a table of its epochs"
        )


def not_understood(number: int, what: str) -> list[str]:
    """The note on lines that look like a record of the format and are none."""
    looks = "looks" if number == 1 else "look"
    return [f"{count(number, 'line')} {looks} like {what} but cannot be read; left out."] if number else []


def run_log(source: str, known: Format, facts: Facts, **rest: Any) -> RunLog:
    """A run of `facts`, whose workers are known; `rest` are further fields of a RunLog."""
    if facts.workers is None:
        raise ValueError("the workers of a run must be known")
    return RunLog(
        source=source,
        format=known.name,
        workers=facts.workers,
        nodes=facts.nodes,
        cores_per_node=facts.cores_per_node,
        batch_size=facts.batch_size,
        global_batch_size=facts.global_batch_size,
        train_events=facts.train_events,
        settings=facts.settings,
        **rest,
    )


def epochs_in_order(epochs: dict[int, EpochTimes]) -> Sequence[EpochTimes]:
    return tuple(epochs[number] for number in sorted(epochs))
