"""Files and folders in places where other users may write too, such as /tmp.

Another user may have made a folder or a link of any name there before. So a folder is ours only if we made it, and a
file is opened only if its name is not a link.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

__all__ = ["append_only", "make_private"]


def make_private(folder: Path) -> None:
    """Make a folder that only this user can enter. Accept one that this user made in the same way before.

    In a folder such as /tmp, other users can neither rename nor remove it afterwards.

    Raises:
        OSError: the path is a link or a file, belongs to another user, or lets other users in; or the folder cannot be
            made.
    """
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    expected = "expected a folder of this user that nobody else can enter: remove it, or set TMPDIR to another folder"
    if not stat.S_ISDIR(status.st_mode):
        kind = "symbolic link" if stat.S_ISLNK(status.st_mode) else "file"
        raise OSError(f"{folder} is a {kind}; {expected}")
    if status.st_uid != os.geteuid():
        raise OSError(f"{folder} belongs to the user with the number {status.st_uid}; {expected}")
    if status.st_mode & 0o077:
        raise OSError(f"{folder} has the permissions {stat.S_IMODE(status.st_mode):o}; {expected}")


def append_only(path: str | os.PathLike[str], flags: int = os.O_WRONLY | os.O_CREAT | os.O_APPEND) -> int:
    """Open a file for appending and return its descriptor. It can be the `opener` of `open`.

    Raises:
        OSError: the path is a symbolic link, or the file cannot be opened.
    """
    try:
        return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            text = "it is a symbolic link; expected a file: remove the link"
            raise OSError(error.errno, text, os.fspath(path)) from None
        raise
