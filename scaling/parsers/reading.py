"""Read the runs in files and folders: recognise the format of each file by its content, and call its reader."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from scaling.parsers import gan3d, keras_csv, mllog, record, table, timeline
from scaling.parsers.blocks import Blocks, read_head
from scaling.parsers.formats import Format
from scaling.parsers.hints import Hints
from scaling.records import RecordError
from scaling.runs import RunLog

__all__ = ["FORMATS", "read_runs"]

FORMATS: Sequence[Format] = tuple(module.FORMAT for module in (record, timeline, keras_csv, table, mllog, gan3d))
"""Formats in the order of the tests: first formats with a strict start, then with a loose one, last formats whose lines
are between other output."""

_RECORD = "run.jsonl"
"""Name of a record of this project."""
_REPORT = "scaling.html"
"""Name of a file in every report of `scaling report`. The tables in the same folder contain results, not runs."""
_NO_HINTS = Hints()


def read_runs(paths: Sequence[Path], hints: Hints = _NO_HINTS) -> list[RunLog]:
    """Return the runs in files and folders, in the order of `paths`. A file that is given twice counts once.

    A folder means all logs in it and in its subfolders, sorted by name. A folder with a run.jsonl is one run: its other
    files are ignored. In folders, reports of this project are skipped, and so are tables without times or without a
    number of workers. The memory in use does not grow with the size of the files.

    Raises:
        RecordError: a path does not exist, a given file has an unknown format, a folder contains no run, or a file
            cannot be read.
    """
    runs: list[RunLog] = []
    used: set[Path] = set()
    for path in map(Path, paths):
        empty = True
        skipped: list[RecordError] = []
        for file, file_format in _files(path, hints, skipped):
            empty = False
            if (real := file.resolve()) not in used:
                used.add(real)
                runs += _read(file_format, file, hints)
        if empty:
            reason = f". Skipped: {skipped[0]}" if skipped else ""
            raise RecordError(
                f"{path}: the folder contains no file that can be read; {_expected()}. Give another folder{reason}"
            )
    return runs


def _read(file_format: Format, file: Path, hints: Hints) -> list[RunLog]:
    """Read a file. Turn errors of the file system into a RecordError."""
    try:
        return file_format.read(file, hints)
    except OSError as error:
        raise RecordError(
            f"{file}: cannot be read ({error.strerror or error}); {_expected()}. Check the path and its permissions"
        ) from error


def _files(path: Path, hints: Hints, skipped: list[RecordError]) -> Iterator[tuple[Path, Format]]:
    """Yield the files to read and their formats.

    In a folder, files that have a known format but are not logs are skipped. The reasons are added to `skipped`.
    """
    if not path.is_dir():
        file_format = _format(path, hints)
        if file_format is None:
            line = read_head(path).lstrip().partition(b"\n")[0][:60].decode("utf-8", "backslashreplace")
            raise RecordError(
                f"{path}: the format of this file is unknown, it begins with {line!r}; {_expected()}. "
                "Leave it out, or give its folder: files that are not logs are skipped in folders"
            )
        yield path, file_format
        return
    for folder, folders, files in os.walk(path):
        if _RECORD in files:
            folders.clear()
            yield Path(folder, _RECORD), record.FORMAT
            continue
        folders.sort()
        for name in sorted(files):
            file = Path(folder, name)
            if _REPORT in files and _of_report(file):
                continue
            # A folder may contain any files. Only a file that the user names must be a log.
            try:
                file_format = _format(file, hints)
            except RecordError:
                continue
            try:
                if file_format is not None and file_format.meant is not None:
                    file_format.meant(file, hints)
            except RecordError as error:
                skipped.append(error)
                continue
            if file_format is not None:
                yield file, file_format


def _of_report(file: Path) -> bool:
    """Return True if a file in the folder of a report is part of the report. Other files there may be logs."""
    return file.stem == Path(_REPORT).stem or file.suffix in (".png", ".svg")


def _format(path: Path, hints: Hints) -> Format | None:
    """Return the format of a file: that of its head, else that of the first line that fits one. None if unknown."""
    if path.name == _RECORD:
        return record.FORMAT
    head = read_head(path)
    for file_format in FORMATS:
        if file_format.begins is not None and file_format.begins(head, hints):
            return file_format
    for block in Blocks(path):
        for file_format in FORMATS:
            if file_format.occurs is not None and file_format.occurs(block):
                return file_format
    return None


def _expected() -> str:
    """Return the list of the known formats for messages."""
    return f"expected {', '.join(each.about for each in FORMATS[:-1])} or {FORMATS[-1].about}"
