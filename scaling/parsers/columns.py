"""Rows of tables: comma-separated text, JSON and JSON Lines as mappings from column to value, and what columns mean.

What is made of the rows is left to `table` and `keras_csv`.
"""

from __future__ import annotations

import csv
import itertools
import json
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from scaling.parsers.blocks import Blocks, plain
from scaling.parsers.formats import bounded
from scaling.records import RecordError

__all__ = ["MEANINGS", "columns_of", "csv_columns", "csv_rows", "json_rows", "number", "whole"]

MEANINGS: Mapping[str, tuple[str, ...]] = {
    "workers": (
        *("workers", "ranks", "replicas", "gpus", "num_workers", "num_ranks", "num_replicas", "num_gpus", "n_workers"),
        *("n_ranks", "n_gpus", "nworkers", "nranks", "ngpus", "world_size", "num_replicas_in_sync", "np", "nprocs"),
    ),
    "nodes": ("nodes", "num_nodes", "n_nodes", "nnodes"),
    "seconds": (
        *("seconds", "epoch_seconds", "seconds_per_epoch", "s_epoch", "s_per_epoch", "epoch_time", "epoch_time_s"),
        *("time_per_epoch", "epoch_duration", "train_seconds"),
    ),
    "epoch": ("epoch",),
    "run": ("run", "run_id", "repeat", "repetition", "trial"),
    "events": ("events", "events_processed", "samples_processed"),
    "steps": ("steps", "steps_per_epoch"),
    "batch_size": ("batch_size", "local_batch_size", "batch_size_per_worker", "batch_per_gpu"),
    "global_batch_size": ("global_batch_size", "global_batch"),
    "train_events": ("train_events", "train_samples", "num_train_samples"),
    "cores_per_node": ("cores_per_node",),
    "validation_seconds": ("validation_seconds", "val_seconds"),
    "checkpoint_seconds": ("checkpoint_seconds",),
    "input_seconds": ("input_seconds",),
    "communication_seconds": ("communication_seconds",),
    **{
        f"setting.{name}": (name,)
        for name in ("series", "precision", "dtype", "model", "filters", "optimizer", "machine", "system", "label")
    },
}
"""What a column can mean -> names it goes by, after `_plain`. `setting.ANY` can be given for any column, too."""

_LARGEST_JSON = 64 << 20
_ROW = 1 << 16
"""Characters that a head must hold for the first row to be in it."""


def columns_of(names: Sequence[str], given: Mapping[str, str], path: Path) -> dict[str, str]:
    """Meaning -> name of its column, from what the user gives and from usual names.

    Raises:
        RecordError: a given meaning is unknown, or its column is not among `names`.
    """
    found: dict[str, str] = {}
    for meaning, column in given.items():
        if meaning not in MEANINGS and not meaning.startswith("setting."):
            known = ", ".join(name for name in MEANINGS if not name.startswith("setting."))
            raise RecordError(f"column {meaning}={column}: {meaning!r} is unknown; expected {known} or setting.NAME")
        if column not in names:
            shown = ", ".join(names[:30]) or "none"
            raise RecordError(f"{path}: there is no column {column!r} for {meaning}; the columns are {shown[:1000]}")
        found[meaning] = column
    plain = {_plain(name): name for name in reversed(names)}
    taken = set(found.values())
    for meaning, usual in MEANINGS.items():
        free = [plain[name] for name in usual if name in plain and plain[name] not in taken]
        if meaning not in found and free:
            found[meaning] = free[0]
    return found


def csv_columns(head: bytes) -> list[str]:
    """The names in the first line of a delimited text; empty where it is none or not whole."""
    line, newline, _ = head.partition(b"\n")
    if not newline and len(head) >= _ROW:
        return []
    try:
        text = line.decode("utf-8").strip("\r\n")
        names = next(csv.reader([text], delimiter=_delimiter(text), skipinitialspace=True), [])
    except (UnicodeDecodeError, csv.Error):
        return []
    return [name.strip() for name in names] if len(names) > 1 else []


def csv_rows(
    path: Path, head: bytes, keep: Collection[str] | None = None
) -> Iterator[tuple[int, Mapping[str, str] | None]]:
    """(line, row) of the rows below the first line; None for a row that has not a value for every column.

    Args:
        keep: columns to give; the others of a wide table cost nothing then. All, if None.

    Raises:
        RecordError: the file cannot be read, is no table, or has too many rows.
    """
    names = csv_columns(head)
    kept = [(i, name) for i, name in enumerate(names) if keep is None or name in keep]
    place, last = 0, max((i for i, _ in kept), default=0)
    try:
        fields = _fields(path, _delimiter(head.partition(b"\n")[0].decode()), last + 1)
        for place, (number, values) in enumerate(fields, start=1):
            bounded(path, place)
            if place > 1:
                yield place, {name: values[i] for i, name in kept} if number == len(names) else None
    except csv.Error as error:
        raise RecordError(f"{path}, below line {place}: no row of a table ({error})") from error


def _fields(path: Path, delimiter: str, most: int) -> Iterator[tuple[int, Sequence[str]]]:
    """Number of fields and the first `most` or all of them, of every line that is not blank."""
    lines = _text_lines(path)
    for line in lines:
        # Splitting is several times as fast; from the first quote on, a field may hold anything.
        if '"' in line:
            for values in csv.reader(itertools.chain([line], lines), delimiter=delimiter, skipinitialspace=True):
                yield len(values), values
            return
        yield line.count(delimiter) + 1, line.rstrip("\n").split(delimiter, most)


def json_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any] | None]]:
    """(number, row) of a JSON array of objects, an object of columns, or JSON Lines; objects within are flattened.

    An object that holds one array of objects, as exports do, gives that. None stands for what is no object.

    Raises:
        RecordError: the file is no JSON, no table or too large.
    """
    with path.open("rb") as file:
        content = file.read(_LARGEST_JSON + 1)
    try:
        if len(content) <= _LARGEST_JSON:
            rows = _array(json.loads(content.decode("utf-8-sig")), path)
            bounded(path, len(rows))
            yield from ((place, _flat(row)) for place, row in enumerate(rows, start=1))
            return
    except (ValueError, RecursionError) as error:
        if isinstance(error, RecordError):
            raise
    yield from _json_lines(path)


def _json_lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any] | None]]:
    rows = 0
    for place, line in enumerate(_text_lines(path), start=1):
        if not line.strip():
            continue
        try:
            row = _flat(json.loads(line))
        except (ValueError, RecursionError):
            row = None
        if not rows and row is None:
            raise RecordError(
                f"{path}: neither JSON nor JSON Lines of objects; expected a table such as "
                '[{"workers": 8, "seconds": 120.5}, ...] of at most 64 MB, or one such object a line'
            )
        rows += 1
        bounded(path, rows)
        yield place, row


def number(value: Any) -> float:
    """A value as a finite number; not-a-number for anything else."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return math.nan
    try:
        # Underscores would pass as digits of a number.
        found = float(value) if not isinstance(value, str) or "_" not in value else math.nan
    except (ValueError, OverflowError):
        return math.nan
    return found if math.isfinite(found) else math.nan


def whole(value: Any) -> int | None:
    """A value as a count of 1 or more; None for anything else."""
    found = number(value)
    return int(found) if 1 <= found < 2**53 and found == int(found) else None


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def _delimiter(line: str) -> str:
    return max(",;\t|", key=line.count)


def _text_lines(path: Path) -> Iterator[str]:
    for place, block in enumerate(Blocks(path)):
        text = plain(block).decode("utf-8", "replace")
        for line in (text.removeprefix("\ufeff") if not place else text).split("\n"):
            if line and not line.isspace():
                yield line + "\n"


def _array(value: Any, path: Path) -> Sequence[Any]:
    if isinstance(value, dict):
        lists = [item for item in value.values() if isinstance(item, list)]
        if (
            len(lists) == len(value)
            and lists
            and not any(isinstance(item, dict | list) for each in lists for item in each)
        ):
            if len(set(map(len, lists))) != 1:
                raise RecordError(f"{path}: the table's columns are of different lengths; expected one value per row")
            return [dict(zip(value, row, strict=True)) for row in zip(*lists, strict=True)]
        tables = [each for each in lists if each and all(isinstance(item, dict) for item in each)]
        return tables[0] if len(tables) == 1 else [value]
    if not isinstance(value, list):
        raise ValueError("no table")
    return value


def _flat(value: Any) -> Mapping[str, Any] | None:
    """`{"params": {"p": 4}}` as `{"params.p": 4}`."""
    if not isinstance(value, dict):
        return None
    row: dict[str, Any] = {}
    for name, item in value.items():
        if isinstance(item, dict):
            row.update({f"{name}.{inner}": each for inner, each in item.items()})
        else:
            row[name] = item
    return row
