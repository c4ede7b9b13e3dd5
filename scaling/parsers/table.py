"""Read tables of results in CSV, JSON or JSON Lines. Each row is a run, or an epoch of a run.

In a table with a column `epoch` or `run`, or without a column of workers, rows are epochs. Rows with the same `run`,
workers, nodes, batch sizes and settings belong to one run. Without a column `run`, an epoch number that occurs again
starts another run of the same size. In all other tables each row is a run, with the time of one of its epochs. Rows
with the same number of workers are then repeats.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from scaling.parsers.blocks import read_head
from scaling.parsers.columns import MEANINGS, columns_of, csv_columns, csv_rows, json_rows, number, whole
from scaling.parsers.formats import Format, run_log
from scaling.parsers.hints import Facts, Hints, complete
from scaling.records import RecordError
from scaling.records.wording import count
from scaling.runs import EpochTimes, RunLog

__all__ = ["FORMAT", "epoch_times"]

_JSON = re.compile(rb'\s*(?:\[\s*)?\{\s*"')
_MOST_OPEN = 64
"""Largest number of repeats of one size whose rows may alternate. More would take long in a table of 100,000 rows."""
_FACTS = ("workers", "nodes", "cores_per_node", "batch_size", "global_batch_size", "train_events")


@dataclass(slots=True)
class _Rows:
    """Rows of one run."""

    first: int
    """Number of the first row."""
    facts: Facts
    """Facts about the run, from its first row."""
    epochs: list[EpochTimes] = field(default_factory=list)
    """Times of each row."""
    numbers: list[float] = field(default_factory=list)
    """Number of the epoch in each row of the table, NaN if there is none."""
    distinct: set[float] = field(default_factory=set)
    """The same numbers as a set, for fast look-ups."""


def epoch_times(row: Mapping[str, Any], columns: Mapping[str, str], epoch: int) -> EpochTimes | None:
    """Return the times of a row as the epoch `epoch`, or None if the time is not a positive number.

    `columns` holds the names of columns by their meaning.
    """
    times: dict[str, Any] = {
        meaning: number(row.get(columns.get(meaning, "")))
        for meaning in ("seconds", "validation_seconds", "checkpoint_seconds", "input_seconds", "communication_seconds")
    }
    if not times["seconds"] > 0:
        return None
    return EpochTimes(
        epoch=epoch,
        events=whole(row.get(columns.get("events", ""))),
        steps=whole(row.get(columns.get("steps", ""))),
        **times,
    )


def _runs(path: Path, hints: Hints) -> tuple[list[_Rows], dict[str, str], int]:
    """Return the rows of each run, the names of columns by their meaning, and the number of unusable rows."""
    columns: dict[str, str] = {}
    runs: dict[Any, list[_Rows]] = {}
    wrong = 0
    for place, row, columns in _rows(path, hints):
        if row is None or (times := epoch_times(row, columns, epoch=1)) is None:
            wrong += 1
            continue
        facts = _facts(row, columns)
        if "workers" in columns and facts.workers is None:
            wrong += 1
            continue
        key: Any = place
        if "epoch" in columns or "run" in columns or "workers" not in columns:
            alike = tuple(getattr(facts, name) for name in _FACTS)
            key = (str(row.get(columns.get("run", ""))), alike, tuple(facts.settings.items()))
        epoch = number(row.get(columns.get("epoch", "")))
        repeats = runs.setdefault(key, [])
        # Try the newest repeat first: an interrupted repeat must not get epochs of the next repeat.
        open_runs = (
            one
            for one in islice(reversed(repeats), _MOST_OPEN)
            if "run" in columns or math.isnan(epoch) or epoch not in one.distinct
        )
        run = next(open_runs, None)
        if run is None:
            run = _Rows(first=place, facts=facts)
            repeats.append(run)
        run.epochs.append(times)
        run.numbers.append(epoch)
        run.distinct.add(epoch)
    return [run for repeats in runs.values() for run in repeats], columns, wrong


def _rows(path: Path, hints: Hints) -> Iterator[tuple[int, Mapping[str, Any] | None, dict[str, str]]]:
    """Yield the number and values of each row, and the names of columns by their meaning.

    The values of an unusable row are None. The names are empty until the first usable row of a JSON table.
    """
    head = read_head(path)
    columns: dict[str, str] = {}
    rows: Iterator[tuple[int, Mapping[str, Any] | None]]
    if _JSON.match(head):
        rows = json_rows(path)
    else:
        columns = _columns(csv_columns(head), hints, path)
        rows = csv_rows(path, head, keep=set(columns.values()))
    for place, row in rows:
        if row is not None and not columns:
            columns = _columns(list(row), hints, path)
        yield place, row, columns


def _facts(row: Mapping[str, Any], columns: Mapping[str, str]) -> Facts:
    """Return the facts about a run in one row."""
    facts = Facts.of({name: whole(row.get(columns.get(name, ""))) for name in _FACTS})
    facts.settings = {
        meaning.removeprefix("setting."): str(row.get(column, ""))[:200]
        for meaning, column in columns.items()
        if meaning.startswith("setting.")
    }
    return facts


def _columns(names: Sequence[str], hints: Hints, path: Path) -> dict[str, str]:
    """Return the names of columns by their meaning. Raise RecordError if there is no column of seconds."""
    columns = columns_of(names, hints.columns, path)
    if "seconds" not in columns:
        raise RecordError(
            f"{path}: no column has a usual name for the seconds of an epoch; the columns are "
            f"{', '.join(names[:30])[:1000]}. Give the column with --column seconds=NAME"
        )
    return columns


def _read(path: Path, hints: Hints) -> list[RunLog]:
    """Read the runs in a table."""
    runs, columns, wrong = _runs(path, hints)
    if not runs:
        raise RecordError(
            f"{path}: no row of the table has both a time and a number of workers ({count(wrong, 'row')} without); "
            "expected positive numbers. Give the columns with --column seconds=NAME --column workers=NAME"
        )
    summary = not {"epoch", "run"} & columns.keys() and "workers" in columns
    left_out = [f"{count(wrong, 'row')} of the table without a time or workers left out."] if wrong else []
    logs = []
    for run in runs:
        facts, notes = complete(run.facts, path, hints, "the table")
        logs.append(
            run_log(
                str(path) if len(runs) == 1 else f"{path}:{run.first}",
                FORMAT,
                facts,
                epochs=_numbered(run),
                # Add the note only once per table.
                notes=(*notes, *(left_out if run is runs[0] else ())),
                summary=summary,
            )
        )
    return logs


def _numbered(run: _Rows) -> tuple[EpochTimes, ...]:
    """Return the epochs of a run, numbered from 1 in the order of the table's numbers.

    If a row has no number, the order of the rows is used.
    """
    order = list(range(len(run.epochs)))
    if not any(map(math.isnan, run.numbers)):
        order.sort(key=run.numbers.__getitem__)
    return tuple(replace(run.epochs[row], epoch=place) for place, row in enumerate(order, start=1))


def _begins(head: bytes, hints: Hints) -> bool:
    """Return True if a JSON or CSV text has a column of seconds or workers, or a column that the user names."""
    if _JSON.match(head):
        names = (*hints.columns.values(), *MEANINGS["seconds"], *MEANINGS["workers"])
        # A name with dots is a value in a nested object: its last part is a key in the text.
        return any(f'"{name.rpartition(".")[2]}"'.encode() in head for name in names)
    columns = csv_columns(head)
    meanings = columns_of(columns, {}, Path())
    return any(name in columns for name in hints.columns.values()) or "seconds" in meanings or "workers" in meanings


def _meant(path: Path, hints: Hints) -> None:
    """Raise RecordError if a table has no column of seconds, or if nothing gives the number of workers."""
    for _, row, columns in _rows(path, hints):
        if row is not None:
            if "workers" not in columns:
                complete(_facts(row, columns), path, hints, "the table")
            return


FORMAT = Format(name="table", about="a table as CSV or JSON", begins=_begins, meant=_meant, read=_read)
