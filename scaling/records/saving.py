"""Write files in such a way that no incomplete file is visible, even if the writer is killed."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

from boltons.fileutils import atomic_save

__all__ = ["replacing", "save_text"]


def replacing(path: Path) -> AbstractContextManager[IO[bytes]]:
    """Open a file in the folder of `path` for writing. After the block, sync it to disk and rename it to `path`.

    After an exception the new file is removed and `path` is unchanged. Several processes may write the same path at the
    same time: the last one replaces the others.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    return atomic_save(str(path), part_file=f".{path.name}.{os.getpid()}.part", overwrite_part=True)


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
