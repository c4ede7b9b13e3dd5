"""Write record files line by line, and read them as a `Run`."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from scaling.records.errors import RecordError
from scaling.records.lines import from_line, to_line
from scaling.records.schema import End, Epoch, Header
from scaling.records.shared_places import append_only

__all__ = ["RecordWriter", "Run", "read_run"]

_LONGEST_LINE = 1 << 26
"""Largest length of a line in bytes. A header with the placement of 100,000 ranks takes about half of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """Content of a record file.

    A resumed run trains the epochs after its last checkpoint again. Only the newest record of an epoch counts.
    """

    path: Path
    """Path of the file."""
    header: Header
    """Newest header."""
    epochs: Sequence[Epoch]
    """Records of the epochs in order, one for each epoch."""
    end: End | None
    """End record of the newest part, or None if the part has not ended or was killed."""
    parts: int = 1
    """Number of headers: 1 plus the number of resumes."""
    truncated: bool = False
    """True if the last line is incomplete because its writer was killed. This line is ignored."""

    @property
    def complete(self) -> bool:
        """True if the run has trained all its epochs."""
        return self.end is not None and self.end.status == "complete"


class RecordWriter:
    """Append records to a file. Each line is complete and on disk before the call returns."""

    def __init__(self, path: Path) -> None:
        """Open a file, and create it and its folder if necessary. Remove an incomplete last line."""
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        _drop_partial_line(path)
        # Without a buffer: on a full disk, closing the file would try again to write what is left in it.
        self._file: FileIO = open(path, "ab", buffering=0, opener=append_only)  # noqa: SIM115

    def write(self, record: Header | Epoch | End) -> None:
        """Append a record, and sync the file to disk.

        Raises:
            OSError: the disk is full, or the file is gone: removed, or moved with its folder.
        """
        if not os.path.samestat(os.fstat(self._file.fileno()), self.path.stat()):
            raise FileNotFoundError(errno.ENOENT, "another file has its name now", str(self.path))
        line = memoryview((to_line(record) + "\n").encode())
        before = os.fstat(self._file.fileno()).st_size
        try:
            while line:
                line = line[self._file.write(line) :]
            os.fsync(self._file.fileno())
        except OSError:
            # The next line must not follow a part of this one.
            with suppress(OSError):
                self._file.truncate(before)
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_run(path: Path) -> Run:
    """Read a record file, or the `run.jsonl` of a folder.

    A last line without a newline is incomplete, because its writer was killed: it is ignored, and `truncated` is True.

    Raises:
        RecordError: the file cannot be read, has no header, or has a complete line that is not a record.
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
            epochs = {key: epoch for key, epoch in epochs.items() if key <= record.resumed_epochs}
        elif header is None:
            break
        elif isinstance(record, Epoch):
            epochs[record.epoch] = record
    if header is None:
        raise RecordError(
            f"{path}: the file does not begin with a header; expected the run.jsonl of a run. Give another file, or "
            "wait until the run has started"
        )
    return Run(
        path=path,
        header=header,
        epochs=tuple(epochs[key] for key in sorted(epochs)),
        end=record if isinstance(record, End) else None,
        parts=parts,
        truncated=truncated,
    )


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines of a file with their newlines. A last line without a newline gives an empty string."""
    try:
        with path.open("rb") as file:
            while line := file.readline(_LONGEST_LINE):
                if len(line) == _LONGEST_LINE and not line.endswith(b"\n"):
                    raise RecordError(
                        f"{path}: a line has more than {_LONGEST_LINE:,} bytes; expected the run.jsonl of a run. "
                        "Give another file"
                    )
                yield line.decode("utf-8") if line.endswith(b"\n") else ""
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(
            f"{path}: cannot be read ({error}); expected the run.jsonl of a run. Check the path and its permissions"
        ) from error


def _drop_partial_line(path: Path) -> None:
    """Remove the incomplete last line of a killed writer, so that the next record begins on a new line."""
    if path.exists():
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)
