"""Record files: lines appended and on disk before the training goes on, and read back as a `Run`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from scaling.records.errors import RecordError
from scaling.records.lines import from_line, to_line
from scaling.records.schema import End, Epoch, Header

__all__ = ["RecordWriter", "Run", "read_run"]

_LONGEST_LINE = 1 << 26
"""Bytes. A header with the placement of 100,000 ranks takes about half of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A record file, read. After a resume `header` is the newest one, and epochs after the checkpoint that it
    began from are left out: an epoch run twice counts once, the newest."""

    path: Path
    header: Header
    epochs: Sequence[Epoch]
    end: End | None
    parts: int = 1
    """Number of headers: 1 plus the number of resumes."""
    truncated: bool = False
    """True where the last line was cut off by a killed writer; the line is left out."""

    @property
    def complete(self) -> bool:
        return self.end is not None and self.end.status == "complete"


class RecordWriter:
    """Appends records to a file, each line whole and on disk before the call returns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        _drop_partial_line(path)
        self._file: TextIO = path.open("a", encoding="utf-8")

    def write(self, record: Header | Epoch | End) -> None:
        self._file.write(to_line(record) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def read_run(path: Path) -> Run:
    """Read a record file (or the `run.jsonl` of a folder).

    A last line without its newline is what a killed writer leaves: it is dropped and `truncated` set.

    Raises:
        RecordError: the file is missing, empty, or a whole line in it is no record.
    """
    path = path / "run.jsonl" if path.is_dir() else path
    header: Header | None = None
    epochs: dict[int, Epoch] = {}
    parts, truncated = 0, False
    record: Header | Epoch | End | None = None
    for number, line in enumerate(_lines(path), start=1):
        if truncated := not line.endswith("\n"):
            break
        try:
            record = from_line(line[:-1])
        except RecordError as error:
            raise RecordError(f"{path}, line {number}: {error}") from error
        if isinstance(record, Header):
            header, parts = record, parts + 1
            epochs = {number: epoch for number, epoch in epochs.items() if number <= record.resumed_epochs}
        elif header is None:
            break
        elif isinstance(record, Epoch):
            epochs[record.epoch] = record
    if header is None:
        raise RecordError(f"{path}: does not begin with a header; expected the run.jsonl of a started run")
    return Run(
        path=path,
        header=header,
        epochs=tuple(epochs[number] for number in sorted(epochs)),
        end=record if isinstance(record, End) else None,
        parts=parts,
        truncated=truncated,
    )


def _lines(path: Path) -> Iterator[str]:
    """The lines of a file with their newlines; of a last line without one, whatever bytes it holds, an empty text."""
    try:
        with path.open("rb") as file:
            while line := file.readline(_LONGEST_LINE):
                if len(line) == _LONGEST_LINE and not line.endswith(b"\n"):
                    raise RecordError(
                        f"{path}: a line of more than {_LONGEST_LINE:,} bytes; expected the run.jsonl of a run"
                    )
                yield line.decode("utf-8") if line.endswith(b"\n") else ""
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{path}: cannot be read ({error}); expected the run.jsonl of a run") from error


def _drop_partial_line(path: Path) -> None:
    """Cut off what a killed writer left, so that the next record begins on a line of its own."""
    if path.exists():
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)
