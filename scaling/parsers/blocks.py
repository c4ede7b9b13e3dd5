"""Read a file as blocks of whole lines in constant memory, and remove terminal codes from lines.

The readers work on blocks, because one search through a megabyte is faster than a call per line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from scaling.records import RecordError
from scaling.records.wording import count

__all__ = ["BLOCK", "LONGEST_LINE", "Blocks", "line_around", "lines_at", "places", "plain", "read_head"]

BLOCK = 1 << 20
"""Bytes per block. A block fits into a processor's cache. The first blocks are smaller, because facts from the start of
a log reduce the work on the rest."""
LONGEST_LINE = 1 << 20
"""Largest length of a line in bytes. Longer lines are left out."""

# CSI sequences (colours, cursor), OSC sequences (titles, links) and two-byte escapes, as defined in ECMA-48.
_ESCAPES = re.compile(rb"\x1b(?:\[[0-?]{0,64}[ -/]{0,8}[@-~]|\][^\x07\x1b\n]{0,4096}(?:\x07|\x1b\\)?|[@-Z\\-_=>])")
_INVISIBLE = b"\x00\x08"
"""Characters to remove: NULs, which a crashed file system may leave, and backspaces of progress bars."""


def plain(text: bytes) -> bytes:
    """Remove escape sequences, backspaces and NULs from a text."""
    if b"\x1b" in text:
        text = _ESCAPES.sub(b"", text)
    if b"\x08" in text or b"\x00" in text:
        text = text.translate(None, _INVISIBLE)
    return text


def places(marks: Iterable[bytes], block: bytes) -> set[tuple[int, int]]:
    """Return begin and end of each line in `block` that contains one of `marks`. Other lines cost nearly no time."""
    lines: set[tuple[int, int]] = set()
    for mark in marks:
        at = block.find(mark)
        while at >= 0:
            line = line_around(at, block)
            lines.add(line)
            at = block.find(mark, line[1])
    return lines


def line_around(at: int, block: bytes) -> tuple[int, int]:
    """Return begin and end of the line that contains the byte `at`, without its newline."""
    end = block.find(b"\n", at)
    return block.rfind(b"\n", 0, at) + 1, end if end >= 0 else len(block)


def lines_at(lines: Iterable[tuple[int, int]], block: bytes) -> Iterator[bytes]:
    """Yield lines in the order of the block, without terminal codes. `lines` is the result of `places`."""
    for begin, end in sorted(lines):
        yield plain(block[begin:end])


class Blocks:
    """Iterate over the blocks of a file. All blocks but the last end with a newline.

    A carriage return also ends a line: progress bars write many lines in this way.

    Raises:
        RecordError: the file cannot be read.
    """

    def __init__(self, path: Path, separator: bytes = b"\n") -> None:
        """Prepare the iteration.

        Args:
            path: the file.
            separator: end of a line. Formats with few newlines use another separator.
        """
        self.path = path
        self.separator = separator
        self.dropped = 0
        """Number of lines that were left out, because they are longer than `LONGEST_LINE`."""
        self.cut_off = False
        """True if the last line has no newline, because its writer was killed."""

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
                    # Join before the search, because a separator of two bytes may lie across the border.
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
            raise RecordError(
                f"{self.path}: cannot be read ({error.strerror or error}); expected the log of a run. "
                "Check the path and its permissions"
            ) from error
        self.cut_off = bool(rest)
        if rest:
            yield rest

    def notes(self) -> list[str]:
        """Return a sentence about lines that were left out, if there are any."""
        if not self.dropped:
            return []
        return [f"{count(self.dropped, 'line')} of more than {LONGEST_LINE:,} bytes left out."]


def read_head(path: Path, size: int = 1 << 16) -> bytes:
    """Return the first `size` bytes of a regular file, without a UTF-8 byte order mark.

    Raises:
        RecordError: the file is missing, not a regular file, empty, compressed, binary or in UTF-16.
    """
    try:
        # Do not read a pipe or a device, because the read may block or never end.
        if not path.is_file():
            what = "not a regular file" if path.exists() else "no such file"
            raise RecordError(f"{path}: {what}; expected the log of a run or a folder of logs. Check the path")
        with path.open("rb") as file:
            head = file.read(size)
    except (OSError, ValueError) as error:
        if isinstance(error, RecordError):
            raise
        raise RecordError(
            f"{path}: cannot be read ({error}); expected the log of a run. Check the path and its permissions"
        ) from error
    if not head:
        raise RecordError(f"{path}: the file is empty; expected the log of a run. Leave it out")
    if head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"PK\x03\x04")):
        raise RecordError(f"{path}: the file is compressed; expected text. Unpack it first")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise RecordError(f"{path}: the text is UTF-16; expected UTF-8. Convert it first, for example with iconv")
    odd = len(head) - len(head.translate(None, bytes(range(7)) + bytes(range(14, 27)) + bytes(range(28, 32)) + b"\x7f"))
    if odd > len(head) // 20 and head.count(b"\x00") != odd:
        raise RecordError(f"{path}: the file is binary; expected a text log of a run. Leave it out")
    return head.removeprefix(b"\xef\xbb\xbf")
