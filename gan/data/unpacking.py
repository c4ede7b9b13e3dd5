"""Unpacked copies of shower files on a node, shared by the workers of this node.

HDF5 decodes a whole chunk to read one event in it, and `repacking` shows what this costs if a chunk holds many events.
A cache of decoded chunks would not help: an epoch is a random order of all events, so a rank needs a chunk again only
after it has used all others. And every rank gets different events in every epoch. So the workers decode each chunk
once, in order, and write its events to a file as `writing` does: 5 kB per event, 1 GB for 200,000 events.

The copies are on the node's own disk. This is the simplest memory that workers share: the page cache holds the parts in
use, and the kernel reads other parts again from the disk. `python -m gan repack` writes such files permanently.

`reading` finds the positions of events, and `showers` uses the copies.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from gan.data.layout import ShowerFile
from gan.data.repacking import repack_file
from gan.data.writing import WriteError
from scaling.records.shared_places import make_private

__all__ = ["Copies"]

MANY_EVENTS = 4
"""Files with more events per chunk are copied. With 4 or fewer, a batch of 8 is read in less than 10 ms."""
SECONDS_TO_UNPACK = 0.002
"""Seconds to decode and compress one event: 0.5 ms from chunks of whole events, 2 ms from h5py's own chunks."""
EVENT_BYTES = 16_000
"""Free bytes required per event of a copy. A simulated event takes 5 kB."""


class Copies:
    """Unpacked copies on this node. All its workers make them, and the last worker that calls `close` removes them.

    The copies are in a folder for this user and node, inside the folder for temporary files (TMPDIR). The name of a
    copy follows from the path, size and modification time of its file, so the next run can use the copies of a killed
    run.
    """

    def __init__(self, folder: Path) -> None:
        """Open the folder of the copies, and create it if it does not exist.

        Raises:
            OSError: the folder cannot be created, or other users can write there.
        """
        make_private(folder)
        self.folder = folder
        """Folder of the copies."""
        self.paths: dict[Path, Path] = {}
        """Path of the copy by the path of the original file."""
        # Never remove this file: a worker that starts while the last one removes the copies must lock the same file.
        self._in_use = os.open(folder / "in-use", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._in_use, fcntl.LOCK_SH)

    @classmethod
    def of(
        cls, decoded: Mapping[ShowerFile, int], tell: Callable[[str], None], warn: Callable[[str], None]
    ) -> Copies | None:
        """Copy the files whose chunks hold many events. Return None if there are no such files, or if this fails.

        Args:
            decoded: for each file, the number of events that HDF5 decodes to read one.
            tell: function that prints a message for the user. These messages are the same on every node.
            warn: function that prints a message about this node.

        Raises:
            InputError: a file cannot be read.
        """
        slow = [file for file, events in decoded.items() if events > MANY_EVENTS]
        if not slow:
            return None
        events = sum(file.events for file in slow)
        reason = (
            f"{len(slow)} of {len(decoded)} data files have compressed or divided chunks of up to "
            f"{max(decoded.values())} events, and HDF5 decodes a whole chunk to read one event (the first file is "
            f"{slow[0].path})."
        )
        advice = "'python -m gan repack' rewrites such files once for all runs."
        try:
            folder = Path(tempfile.gettempdir()) / f"3dgan-{os.getuid()}-{socket.gethostname()}"
            copies = cls(folder)
        except OSError as error:
            warn(f"{reason} There is no place for unpacked copies ({error}): reading will be slow. {advice}")
            return None
        tell(
            f"{reason} Unpacking {events:,} events to {folder} on every node: "
            f"about {events * SECONDS_TO_UNPACK:.0f} s of one core, shared by the node's workers. {advice}"
        )
        try:
            copies.make(slow)
        except OSError as error:
            warn(f"Only {len(copies.paths)} of {len(slow)} files were unpacked ({error}): reading will be slow.")
        except BaseException:
            copies.close()
            raise
        return copies

    def make(self, files: Sequence[ShowerFile]) -> None:
        """Copy files. The first worker of the node that reaches a file copies it.

        Raises:
            OSError: the disk has too little space, or a copy cannot be written.
            InputError: a file cannot be read.
        """
        # The first round copies the files that no other worker is copying. The second round waits for the others, and
        # copies the files that a worker did not finish.
        for wait in (False, True):
            for file in files:
                if file.path not in self.paths:
                    self._make_one(file, wait=wait)

    def close(self) -> None:
        """Stop using the copies. The last worker of the node removes them."""
        fcntl.flock(self._in_use, fcntl.LOCK_UN)
        with suppress(BlockingIOError):
            fcntl.flock(self._in_use, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for path in self.folder.glob("*.h5*"):
                path.unlink(missing_ok=True)
        os.close(self._in_use)

    def _make_one(self, file: ShowerFile, *, wait: bool) -> None:
        """Copy one file, unless its copy exists. With `wait` False, skip a file that another worker is copying."""
        status = file.path.stat()
        identity = f"{os.path.realpath(file.path)} {status.st_size} {status.st_mtime_ns}"
        copy = self.folder / f"{hashlib.sha256(identity.encode()).hexdigest()[:24]}.h5"
        with _locked(copy.with_suffix(".h5.lock"), wait=wait) as locked:
            if not locked:
                return
            if not copy.exists():
                needed, free = EVENT_BYTES * file.events, shutil.disk_usage(self.folder).free
                if free < needed:
                    raise OSError(f"{self.folder} has {free / 1e9:.1f} GB free; expected {needed / 1e9:.1f} GB")
                try:
                    repack_file(file.path, copy)
                except WriteError as error:
                    # The caller prints an OSError as a warning and continues, because the file can be read without a
                    # copy.
                    raise OSError(str(error)) from error
            self.paths[file.path] = copy


@contextmanager
def _locked(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold the lock of a file, and yield True. Yield False if another process holds the lock and `wait` is False.

    The kernel releases the lock of a process that ends.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)
