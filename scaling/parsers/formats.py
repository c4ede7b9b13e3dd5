"""The interface of a reader, and limits so that no file can use too much memory."""

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
"""Largest number of epochs or rows in a file. A file with more is not the log of a training."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """A file format, and the functions that recognise and read it."""

    name: str
    """Name in `RunLog.format`."""
    about: str
    """Name in messages to the user, such as `a Horovod timeline`."""
    begins: Callable[[bytes, Hints], bool] | None = None
    """Test for formats with a fixed start: True if a file with these first bytes has this format. The bytes do not
    include a byte order mark."""
    occurs: Callable[[bytes], bool] | None = None
    """Test for formats with lines between other output: True if a block of whole lines contains such a line."""
    meant: Callable[[Path, Hints], None] | None = None
    """Check of files in folders, which may also contain settings and other tables: raise RecordError if a file of this
    format is not a log. A file that the user names is not checked."""
    read: Callable[[Path, Hints], list[RunLog]]
    """Reader: return the runs in a file, or raise RecordError if there are none."""


def bounded(path: Path, number: int) -> None:
    """Raise RecordError if a file has more than `MOST_EPOCHS` epochs or rows. `number` is the current number."""
    if number > MOST_EPOCHS:
        raise RecordError(
            f"{path}: more than {MOST_EPOCHS:,} epochs or rows; expected the log of a training. Leave the file out"
        )


def not_understood(number: int, what: str) -> list[str]:
    """Return a list with a note about lines that look like a record but cannot be read. It is empty if there are none.

    Args:
        number: number of such lines.
        what: name of the record, such as `an MLLOG record`.
    """
    looks = "looks" if number == 1 else "look"
    return [f"{count(number, 'line')} {looks} like {what} but cannot be read; left out."] if number else []


def run_log(source: str, file_format: Format, facts: Facts, **rest: Any) -> RunLog:
    """Return a run with these facts. `rest` contains the other fields of a RunLog.

    Raises:
        ValueError: the number of workers is not among the facts.
    """
    if facts.workers is None:
        raise ValueError("the workers of a run must be known")
    return RunLog(
        source=source,
        format=file_format.name,
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
    """Return epochs sorted by their numbers, which are the keys."""
    return tuple(epochs[number] for number in sorted(epochs))
