"""Read files of Keras's CSVLogger: one run with one row per epoch.

The first column is the epoch, from 0. The other columns are means of losses and metrics. Keras itself writes no times,
so a callback of the user must add a column with the times.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from scaling.parsers.blocks import read_head
from scaling.parsers.columns import columns_of, csv_columns, csv_rows, number
from scaling.parsers.formats import Format, epochs_in_order, run_log
from scaling.parsers.hints import Facts, Hints, complete
from scaling.parsers.table import epoch_times
from scaling.records import RecordError
from scaling.records.wording import count
from scaling.runs import EpochTimes, RunLog

__all__ = ["FORMAT"]

_TIMES = ("duration", "time_s", "epoch_duration_s", "elapsed_per_epoch")
"""Names that callbacks use for the seconds of an epoch, in addition to the usual names in tables. `time` and `elapsed`
are not among them: some callbacks write the time of day, or the time since the start."""


def _columns(names: list[str], hints: Hints, path: Path) -> dict[str, str]:
    """Return the names of columns by their meaning. Raise RecordError if there is no column of seconds."""
    columns = columns_of(names, hints.columns, path)
    if "seconds" not in columns and (column := next((name for name in names if name.lower() in _TIMES), None)):
        columns["seconds"] = column
    if "seconds" not in columns:
        raise RecordError(
            f"{path}: a CSVLogger file without a column of seconds, which Keras does not write by itself; the columns "
            f"are {', '.join(names[:30])[:1000]}. Give the column with the time of an epoch with "
            "--column seconds=NAME, or add it to the logs in a callback's on_epoch_end"
        )
    return columns


def _read(path: Path, hints: Hints) -> list[RunLog]:
    """Read the one run in a file."""
    head = read_head(path)
    columns = _columns(csv_columns(head), hints, path)
    epochs: dict[int, EpochTimes] = {}
    wrong = repeated = 0
    first = None
    for _, row in csv_rows(path, head):
        epoch = number(row.get(columns["epoch"])) if row is not None else math.nan
        times = epoch_times(row, columns, epoch=1) if row is not None else None
        if row is None or times is None or not 0 <= epoch < 2**53 or epoch != int(epoch):
            wrong += 1
            continue
        first = int(epoch) if first is None else min(first, int(epoch))
        repeated += int(epoch) in epochs
        epochs[int(epoch)] = replace(times, losses=_losses(row, columns))
    if not epochs:
        raise RecordError(
            f"{path}: no row of the CSVLogger file has an epoch and its seconds ({count(wrong, 'row')} without); "
            "expected one row per epoch. Let the run finish an epoch, or give the column of the time with "
            "--column seconds=NAME"
        )
    facts, notes = complete(Facts(), path, hints, "the CSVLogger file")
    shift = 1 if first == 0 else 0
    if wrong:
        notes.append(f"{count(wrong, 'row')} incomplete or without a time; left out.")
    if repeated:
        notes.append(f"{count(repeated, 'epoch')} repeated after a resume; the newest time is used.")
    return [
        run_log(
            str(path),
            FORMAT,
            facts,
            epochs=epochs_in_order({n + shift: replace(each, epoch=n + shift) for n, each in epochs.items()}),
            notes=tuple(notes),
        )
    ]


def _losses(row: Mapping[str, str], columns: Mapping[str, str]) -> dict[str, float]:
    """Return the losses and metrics of a row: all columns with a number, except the columns in `columns`."""
    taken = set(columns.values())
    values = {name: number(value) for name, value in row.items() if name not in taken}
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _begins(head: bytes, hints: Hints) -> bool:
    """Return True if the first column is `epoch` and there is no column of workers, which a table would have."""
    names = csv_columns(head)
    if not names or names[0].lower() != "epoch":
        return False
    return "workers" not in hints.columns and "workers" not in columns_of(names, {}, Path())


def _meant(path: Path, hints: Hints) -> None:
    """Raise RecordError if a file has no column of seconds."""
    _columns(csv_columns(read_head(path)), hints, path)


FORMAT = Format(name="keras-csv", about="a file of Keras's CSVLogger", begins=_begins, meant=_meant, read=_read)
