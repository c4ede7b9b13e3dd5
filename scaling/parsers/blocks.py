"""A file as blocks of whole lines in constant memory, and lines without what terminals add to them.

Blocks rather than lines, since a search through megabytes costs less than a call per line. What the lines mean is
left to the readers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from scaling.records import RecordError

__all__ = ["BLOCK", "LONGEST_LINE", "Blocks", "line_around", "lines_at", "places", "plain", "read_head"]

BLOCK = 1 << 20
"""Bytes read at once, few enough for a processor's cache. The first blocks are smaller: what they tell spares work on
the rest."""
LONGEST_LINE = 1 << 20
"""Bytes of a line beyond which it is dropped rather than gathered."""

# CSI sequences (colours, cursor), OSC sequences (titles, links) and two-byte escapes, as ECMA-48 has them.
_ESCAPES = re.compile(rb"\x1b(?:\[[0-?]{0,64}[ -/]{0,8}[@-~]|\][^\x07\x1b\n]{0,4096}(?:\x07|\x1b\\)?|[@-Z\\-_=>])")
_INVISIBLE = b"\x00\x08"
"""Padding that a crashed file system leaves, and the backspaces of progress bars."""


def plain(text: bytes) -> bytes:
    """`text` without escape sequences, backspaces and NULs."""
    if b"\x1b" in text:
        text = _ESCAPES.sub(b"", text)
    if b"\x08" in text or b"\x00" in text:
        text = text.translate(None, _INVISIBLE)
    return text


def places(marks: Iterable[bytes], block: bytes) -> set[tuple[int, int]]:
    """Begin and end of the lines of `block` that hold any of `marks`. Finding is all that the other lines cost."""
    found: set[tuple[int, int]] = set()
    for mark in marks:
        at = block.find(mark)
        while at >= 0:
            line = line_around(at, block)
            found.add(line)
            at = block.find(mark, line[1])
    return found


def line_around(at: int, block: bytes) -> tuple[int, int]:
    end = block.find(b"\n", at)
    return block.rfind(b"\n", 0, at) + 1, end if end >= 0 else len(block)


def lines_at(found: Iterable[tuple[int, int]], block: bytes) -> Iterator[bytes]:
    """The lines of `places` in their order."""
    for begin, end in sorted(found):
        yield plain(block[begin:end])


class Blocks:
    """Iterates over the blocks of a file; every block but the last ends with a newline.

    `separator` stands for the newline where a format has few of them. A carriage return ends a line, too: progress
    bars write many lines that way. Raises RecordError where the file cannot be read.
    """

    def __init__(self, path: Path, separator: bytes = b"\n") -> None:
        self.path = path
        self.separator = separator
        self.dropped = 0
        """Lines longer than `LONGEST_LINE`, left out."""
        self.cut_off = False
        """Whether the last line lacks its newline, as a killed writer leaves it."""

    def __iter__(self) -> Iterator[bytes]:
        rest, dropping, size = b"", False, BLOCK >> 5
        try:
            with self.path.open("rb", buffering=0) as file:
                while chunk := file.read(size):
                    size = min(2 * size, BLOCK)
                    if b"\r" in chunk:
                        chunk = chunk.replace(b"\r", b"\n")
                    if dropping:
                        begin = chunk.find(self.separator)
                        if begin < 0:
                            continue
                        chunk, dropping = chunk[begin + len(self.separator) :], False
                    # Joined before the search: a separator of two bytes may lie across the border.
                    chunk = rest + chunk
                    end = chunk.rfind(self.separator)
                    end = end + len(self.separator) if end >= 0 else 0
                    rest = chunk[end:]
                    if len(rest) > LONGEST_LINE:
                        rest, dropping = b"", True
                        self.dropped += 1
                    if end:
                        yield chunk[:end]
        except OSError as error:
            raise RecordError(f"{self.path}: cannot be read ({error.strerror or error})") from error
        self.cut_off = bool(rest)
        if rest:
            yield rest

    def notes(self) -> list[str]:
        lines = "line" if self.dropped == 1 else "lines"
        return [f"{self.dropped} {lines} of more than {LONGEST_LINE:,} bytes left out."] if self.dropped else []


def read_head(path: Path, size: int = 1 << 16) -> bytes:
    """The first bytes of a regular file without a UTF-8 byte order mark.

    Raises:
        RecordError: the file is missing, no regular file, empty, compressed or binary.
    """
    try:
        # A pipe or a device would block or never end.
        if not path.is_file():
            what = "no regular file" if path.exists() else "no such file"
            raise RecordError(f"{path}: {what}; expected the log of a run or a folder of logs")
        with path.open("rb") as file:
            head = file.read(size)
    except (OSError, ValueError) as error:
        if isinstance(error, RecordError):
            raise
        raise RecordError(f"{path}: cannot be read ({error})") from error
    if not head:
        raise RecordError(f"{path}: the file is empty; expected the log of a run")
    if head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"PK\x03\x04")):
        raise RecordError(f"{path}: the file is compressed; unpack it first")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise RecordError(f"{path}: the text is UTF-16; convert it to UTF-8 first")
    odd = len(head) - len(head.translate(None, bytes(range(7)) + bytes(range(14, 27)) + bytes(range(28, 32)) + b"\x7f"))
    if odd > len(head) // 20 and head.count(b"\x00") != odd:
        raise RecordError(f"{path}: the file is binary; expected a text log of a run")
    return head.removeprefix(b"\xef\xbb\xbf")
