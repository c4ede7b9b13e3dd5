"""Finds the reader of every file by its content and reads runs: the one way in for the rest of the package."""

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
"""In the order in which they are asked: a strict head before a loose one, and lines amid other output last."""

_RECORD = "run.jsonl"
_REPORT = "scaling.html"
"""Where this lies, `scaling report` has written; its tables hold results, not runs."""
_NO_HINTS = Hints()


def read_runs(paths: Sequence[Path], hints: Hints = _NO_HINTS) -> list[RunLog]:
    """The runs in files and folders, in the order of `paths`; a file named twice counts once.

    A folder means its run.jsonl or, without one, all files below it that a reader knows, by name; a folder below it
    that holds a run.jsonl is that run, whatever else lies in it. Reports of this package are passed over, and so are
    tables that do not tell both seconds and workers. Memory does not grow with the size of a file.

    Raises:
        RecordError: a path does not exist; a file that is named is of no known format; a folder holds no run; or a
            reader cannot make a run of its file.
    """
    runs: list[RunLog] = []
    seen: set[Path] = set()
    for path in map(Path, paths):
        found = False
        passed: list[RecordError] = []
        for file, known in _files(path, hints, passed):
            found = True
            if (real := file.resolve()) not in seen:
                seen.add(real)
                runs += _read(known, file, hints)
        if not found:
            reason = f". Passed over: {passed[0]}" if passed else ""
            raise RecordError(f"{path}: the folder holds no file that can be read; {_expected()}{reason}")
    return runs


def _read(known: Format, file: Path, hints: Hints) -> list[RunLog]:
    try:
        return known.read(file, hints)
    except OSError as error:
        raise RecordError(f"{file}: cannot be read ({error.strerror or error})") from error


def _files(path: Path, hints: Hints, passed: list[RecordError]) -> Iterator[tuple[Path, Format]]:
    """Files to read and their formats. Why files of a folder that look like a table are none goes to `passed`."""
    if not path.is_dir():
        known = _format(path, hints)
        if known is None:
            line = read_head(path).lstrip().partition(b"\n")[0][:60].decode("utf-8", "backslashreplace")
            raise RecordError(
                f"{path}: no reader knows this file, which begins with {line!r}; {_expected()}. "
                "Leave it out, or give its folder: what is no log is passed over there"
            )
        yield path, known
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
            # A folder may hold anything; only what is named itself has to be a log.
            try:
                known = _format(file, hints)
            except RecordError:
                continue
            try:
                if known is not None and known.meant is not None:
                    known.meant(file, hints)
            except RecordError as error:
                passed.append(error)
                continue
            if known is not None:
                yield file, known


def _of_report(file: Path) -> bool:
    """Whether a file beside a report is part of it. Not all are: the report may lie among the logs."""
    return file.stem == Path(_REPORT).stem or file.suffix in (".png", ".svg")


def _format(path: Path, hints: Hints) -> Format | None:
    """The format of a file, from its head or from the first of its lines that a reader knows."""
    if path.name == _RECORD:
        return record.FORMAT
    head = read_head(path)
    for known in FORMATS:
        if known.begins is not None and known.begins(head, hints):
            return known
    for block in Blocks(path):
        for known in FORMATS:
            if known.occurs is not None and known.occurs(block):
                return known
    return None


def _expected() -> str:
    return f"expected {', '.join(known.about for known in FORMATS[:-1])} or {FORMATS[-1].about}"
