"""Read the rows of tables (CSV, JSON, JSON Lines) as mappings from column to value, and find the meaning of columns.

`table` and `keras_csv` make runs from the rows.
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
"""Usual names of columns by their meaning, in the form that `_plain` returns. A user may also give `setting.NAME`."""

_LARGEST_JSON = 64 << 20
"""Largest size in bytes of a JSON file that is read as a whole. Larger files must be JSON Lines."""
_ROW = 1 << 16
"""Largest length in bytes of the first line of a CSV text. A text with a longer first line is not read."""


def columns_of(names: Sequence[str], given: Mapping[str, str], path: Path) -> dict[str, str]:
    """Return the names of columns by their meaning.

    Args:
        names: names of all columns of the table.
        given: names of columns by their meaning, from the user. They have priority over usual names.
        path: the file, for messages.

    Raises:
        RecordError: a meaning in `given` is unknown, or the table has no such column.
    """
    columns: dict[str, str] = {}
    for meaning, column in given.items():
        if meaning not in MEANINGS and not meaning.startswith("setting."):
            meanings = ", ".join(name for name in MEANINGS if not name.startswith("setting."))
            raise RecordError(
                f"--column {meaning}={column}: {meaning!r} is unknown; expected {meanings} or setting.NAME. "
                "Change the part before ="
            )
        if column not in names:
            shown = ", ".join(names[:30]) or "none"
            raise RecordError(
                f"{path}: there is no column {column!r} for {meaning}; the columns are {shown[:1000]}. "
                f"Give one of them with --column {meaning}=NAME"
            )
        columns[meaning] = column
    plain = {_plain(name): name for name in reversed(names)}
    taken = set(columns.values())
    for meaning, usual in MEANINGS.items():
        free = [plain[name] for name in usual if name in plain and plain[name] not in taken]
        if meaning not in columns and free:
            columns[meaning] = free[0]
    return columns


def csv_columns(head: bytes) -> list[str]:
    """Return the column names in the first line of a CSV text. Return [] if the line is incomplete or not CSV."""
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
    """Yield the number and the values of each row below the first line. The values are None if the row is incomplete.

    Args:
        path: the file.
        head: first bytes of the file.
        keep: columns to read; None for all. Reading few columns of a wide table is fast.

    Raises:
        RecordError: the file cannot be read, is not a table, or has too many rows.
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
        raise RecordError(
            f"{path}, below line {place}: not a row of a table ({error}); expected one value per column. "
            "Correct the row, or leave the file out"
        ) from error


def _fields(path: Path, delimiter: str, most: int) -> Iterator[tuple[int, Sequence[str]]]:
    """For each line, yield the number of its fields, and at least the first `most` fields."""
    lines = _text_lines(path)
    for line in lines:
        # Splitting is several times as fast as `csv`, but a quoted field may contain delimiters and newlines.
        if '"' in line:
            for values in csv.reader(itertools.chain([line], lines), delimiter=delimiter, skipinitialspace=True):
                yield len(values), values
            return
        yield line.count(delimiter) + 1, line.rstrip("\n").split(delimiter, most)


def json_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any] | None]]:
    """Yield the number and the values of each row of a JSON table. The values are None if the row is not an object.

    A table is an array of objects, an object of columns, or JSON Lines. An array of objects may also be inside another
    object, if this contains no other such array. Objects within a row are flattened.

    Raises:
        RecordError: the file is not JSON, not a table, or too large.
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
    """Yield the line number and the values of each row of a file of JSON Lines."""
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
                '[{"workers": 8, "seconds": 120.5}, ...] of at most 64 MB, or one such object per line. '
                "Correct the file, or leave it out"
            )
        rows += 1
        bounded(path, rows)
        yield place, row


def number(value: Any) -> float:
    """Return a value as a finite number, or NaN if it is not one."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return math.nan
    try:
        # Python accepts underscores in numbers, but in a table such a text is not a number.
        result = float(value) if not isinstance(value, str) or "_" not in value else math.nan
    except (ValueError, OverflowError):
        return math.nan
    return result if math.isfinite(result) else math.nan


def whole(value: Any) -> int | None:
    """Return a value as a count of 1 or more, or None if it is not one."""
    result = number(value)
    return int(result) if 1 <= result < 2**53 and result == int(result) else None


def _plain(name: str) -> str:
    """Return a column name in lower case, with `_` for all other characters: `Epoch time (s)` gives `epoch_time_s`."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def _delimiter(line: str) -> str:
    """Return the delimiter that occurs most often in a line."""
    return max(",;\t|", key=line.count)


def _text_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a text file that are not blank, with their newlines."""
    for place, block in enumerate(Blocks(path)):
        text = plain(block).decode("utf-8", "replace")
        for line in (text.removeprefix("\ufeff") if not place else text).split("\n"):
            if line and not line.isspace():
                yield line + "\n"


def _array(value: Any, path: Path) -> Sequence[Any]:
    """Return the rows of a JSON value. Raise ValueError if it is not a table."""
    if isinstance(value, dict):
        lists = [item for item in value.values() if isinstance(item, list)]
        if (
            len(lists) == len(value)
            and lists
            and not any(isinstance(item, dict | list) for each in lists for item in each)
        ):
            if len(set(map(len, lists))) != 1:
                raise RecordError(
                    f"{path}: the table's columns have different lengths; expected one value per row in each. "
                    "Correct the file"
                )
            return [dict(zip(value, row, strict=True)) for row in zip(*lists, strict=True)]
        tables = [each for each in lists if each and all(isinstance(item, dict) for item in each)]
        return tables[0] if len(tables) == 1 else [value]
    if not isinstance(value, list):
        raise ValueError("not a table")
    return value


def _flat(value: Any) -> Mapping[str, Any] | None:
    """Flatten a row: `{"params": {"p": 4}}` gives `{"params.p": 4}`. Return None if the value is not an object."""
    if not isinstance(value, dict):
        return None
    row: dict[str, Any] = {}
    for name, item in value.items():
        if isinstance(item, dict):
            row.update({f"{name}.{inner}": each for inner, each in item.items()})
        else:
            row[name] = item
    return row
