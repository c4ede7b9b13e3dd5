"""Write files in such a way that no incomplete file is visible, even if the writer is killed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from boltons.fileutils import atomic_save

__all__ = ["PART", "remove_parts", "replacing", "save_text"]

PART = ".part"
"""End of the name of a file that is not complete. The name begins with a dot."""


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a file in the folder of `path` for writing. After the block, sync it to disk and rename it to `path`.

    After an exception the new file is removed and `path` is unchanged. Several processes may write the same path at the
    same time: the last one replaces the others.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}{PART}")
    try:
        with atomic_save(str(path), part_file=part.name, overwrite_part=True) as file:
            yield file
    except BaseException:
        # On a full disk, atomic_save fails before it removes the file.
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def remove_parts(folder: Path) -> None:
    """Remove what killed writers left in a folder in which nobody writes now. Ignore files that cannot be removed."""
    for part in folder.glob(f".*{PART}"):
        with suppress(OSError):
            part.unlink()


def save_text(path: Path, text: str, mode: int | None = None) -> None:
    """Write a UTF-8 text file with `replacing`.

    Args:
        path: the file. Its folder must exist.
        text: the complete content. Characters that UTF-8 cannot represent, for example in damaged file names, are
            written as escapes.
        mode: the permissions, for example 0o755. The default is the permissions of the old file, or of the umask for a
            new file.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    with replacing(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))
        if mode is not None:
            os.fchmod(file.fileno(), mode)
