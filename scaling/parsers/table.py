"""Tables of results, as CSV, JSON or JSON Lines: every row is a run, or an epoch of one.

Rows with an `epoch` column are epochs: those that agree in `run`, workers, nodes, batch sizes and settings make one
run, and so do rows that agree in a `run` column. Where no column tells runs apart, an epoch that comes again begins a
repeat. Without either column every row is a run of its own, whose time is what the table says of it: rows with as many
workers are repeats.
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
"""Repeats whose rows may alternate; looking through more of them takes long for 100,000 rows of one epoch."""
_FACTS = ("workers", "nodes", "cores_per_node", "batch_size", "global_batch_size", "train_events")


@dataclass(slots=True)
class _Rows:
    """The rows of one run."""

    first: int
    facts: Facts
    epochs: list[EpochTimes] = field(default_factory=list)
    told: list[float] = field(default_factory=list)
    """Numbers of the epochs, as the table has them."""
    held: set[float] = field(default_factory=set)
    """The same, for a quick look."""


def epoch_times(row: Mapping[str, Any], columns: Mapping[str, str], epoch: int) -> EpochTimes | None:
    """The epoch of a row; None where its time is no positive number."""
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
    """The rows that belong together, what the columns mean, and how many rows have no time."""
    columns: dict[str, str] = {}
    runs: dict[Any, list[_Rows]] = {}
    wrong = 0
    for place, row, columns in _rows(path, hints):
        if row is None or (read := epoch_times(row, columns, epoch=1)) is None:
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
        told = number(row.get(columns.get("epoch", "")))
        repeats = runs.setdefault(key, [])
        # The newest first: a repeat that was cut off gets no epochs of the next one.
        open_runs = (
            one
            for one in islice(reversed(repeats), _MOST_OPEN)
            if "run" in columns or math.isnan(told) or told not in one.held
        )
        run = next(open_runs, None)
        if run is None:
            run = _Rows(first=place, facts=facts)
            repeats.append(run)
        run.epochs.append(read)
        run.told.append(told)
        run.held.add(told)
    return [run for repeats in runs.values() for run in repeats], columns, wrong


def _rows(path: Path, hints: Hints) -> Iterator[tuple[int, Mapping[str, Any] | None, dict[str, str]]]:
    """(line or number, row, what the columns mean); the last is empty until a row has told it."""
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
    facts = Facts.of({name: whole(row.get(columns.get(name, ""))) for name in _FACTS})
    facts.settings = {
        meaning.removeprefix("setting."): str(row.get(column, ""))[:200]
        for meaning, column in columns.items()
        if meaning.startswith("setting.")
    }
    return facts


def _columns(names: Sequence[str], hints: Hints, path: Path) -> dict[str, str]:
    columns = columns_of(names, hints.columns, path)
    if "seconds" not in columns:
        raise RecordError(
            f"{path}: no column is known as the seconds of an epoch; the columns are "
            f"{', '.join(names[:30])[:1000]}. Say which with --column seconds=NAME"
        )
    return columns


def _read(path: Path, hints: Hints) -> list[RunLog]:
    runs, columns, wrong = _runs(path, hints)
    if not runs:
        raise RecordError(
            f"{path}: none of the table's rows has both a time and a number of workers ({count(wrong, 'row')} "
            "without); say which columns they are with --column seconds=NAME --column workers=NAME"
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
                # Once a table is enough.
                notes=(*notes, *(left_out if run is runs[0] else ())),
                summary=summary,
            )
        )
    return logs


def _numbered(run: _Rows) -> tuple[EpochTimes, ...]:
    """By the table's numbers, from 1: those count from 0 or 1. In the order of the rows where any has none."""
    order = list(range(len(run.epochs)))
    if not any(map(math.isnan, run.told)):
        order.sort(key=run.told.__getitem__)
    return tuple(replace(run.epochs[row], epoch=place) for place, row in enumerate(order, start=1))


def _begins(head: bytes, hints: Hints) -> bool:
    if _JSON.match(head):
        names = (*hints.columns.values(), *MEANINGS["seconds"], *MEANINGS["workers"])
        # Of a name with dots, which stands for an object within the row, the last part is a key.
        return any(f'"{name.rpartition(".")[2]}"'.encode() in head for name in names)
    columns = csv_columns(head)
    known = columns_of(columns, {}, Path())
    return any(name in columns for name in hints.columns.values()) or ("seconds" in known) or ("workers" in known)


def _meant(path: Path, hints: Hints) -> None:
    for _, row, columns in _rows(path, hints):
        if row is not None:
            if "workers" not in columns:
                complete(_facts(row, columns), path, hints, "the table")
            return


FORMAT = Format(name="table", about="a table as CSV or JSON", begins=_begins, meant=_meant, read=_read)
