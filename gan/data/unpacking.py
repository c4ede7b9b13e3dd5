"""Files whose chunks hold many events, rewritten for random reading: once for good, or once for the workers of a node.

HDF5 decodes a whole chunk to get at one event in it. What h5py chooses by itself for compressed showers, pieces of
4 x 4 x 4 cells of 250 events or more, makes a batch of 8 cost 0.4 s of a core; chunks of 100 events cost 0.1 s. No
cache of decoded chunks helps: the order of an epoch is a permutation of all events, so a rank comes back to a chunk
after having passed all others. Nor has a rank events of its own to keep: every epoch gives it others. So each chunk is
decoded once, in order, and its events are kept as `writing` writes them: 5 kB each, 1 GB for 200,000. A file on the
node's own disk is the simplest memory that workers share: what is used stays in the page cache, and what does not fit
is read again. `python -m gan repack` does the same for good.

Where events are read is `reading`'s business, and that copies are used is `showers`'.
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

import numpy as np

from gan.data.layout import SHAPE, UNREADABLE, ShowerFile, data_sets, open_file, unreadable
from gan.data.writing import ShowerWriter, WriteError, pack

__all__ = ["Copies", "repack"]

MANY_EVENTS = 4
"""In a chunk. Up to this many, reading a batch of 8 takes less than 10 ms, and a copy is not worth its making."""
EVENTS_AT_ONCE = 512
"""Decoded together, at least a whole chunk: 32 MB in float32."""
SECONDS_TO_UNPACK = 0.002
"""One event, decoded and compressed again: 0.5 ms from chunks of whole events, 2 ms from h5py's compressed pieces."""
EVENT_BYTES = 16_000
"""Room to have for each event of a copy; simulated ones take 5 kB."""


def repack(source: Path, target: Path, report: Callable[[int], None] | None = None) -> int:
    """Write the events of a file again, one a chunk, float32, gzip; other data sets are left behind.

    Reads and decodes every chunk once. `target` appears when it is complete. Returns the number of events.

    Args:
        report: is given the number of events written since it was last called.

    Raises:
        InputError: the source cannot be read, or the target not be written.
    """
    try:
        with open_file(source) as handle:
            cells, labels = data_sets(handle, source)
            chunk = cells.chunks[0] if cells.chunks else 1
            piece = max(chunk, EVENTS_AT_ONCE // chunk * chunk)
            with ShowerWriter(target, len(cells), dict(handle.attrs)) as writer:
                for begin in range(0, len(cells), piece):
                    rows = slice(begin, begin + piece)
                    # What is not finite stays so, and is reported by the read that comes upon it.
                    with np.errstate(over="ignore"):
                        packed = pack(cells[rows].reshape(-1, *SHAPE).astype(np.float32))
                    ids_and_energies = labels[rows, :2]
                    writer.append(packed, ids_and_energies[:, 1], ids_and_energies[:, 0])
                    if report:
                        report(len(packed))
            return len(cells)
    except UNREADABLE as error:
        raise unreadable(source, error) from error


class Copies:
    """Unpacked copies on this node, made together with its other workers. The last one to `close` removes them.

    They lie in a folder of the user's and the node's in the folder for temporary files (TMPDIR), and are known by the
    path, size and time of change of what they were made from, so a run that was killed leaves them to the next.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.is_symlink() or folder.stat().st_uid != os.getuid():
            raise OSError(f"{folder} belongs to somebody else")
        self.folder = folder
        self.paths: dict[Path, Path] = {}
        """The copy of each file that has one."""
        # Never removed: whoever comes while the last worker removes the copies waits on this very file.
        self._in_use = os.open(folder / "in-use", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._in_use, fcntl.LOCK_SH)

    @classmethod
    def of(
        cls, decoded: Mapping[ShowerFile, int], tell: Callable[[str], None], warn: Callable[[str], None]
    ) -> Copies | None:
        """Copy the files whose chunks hold many events; None where there are none, or no place for copies.

        Args:
            decoded: how many events of each file are decoded to read one.
            tell: is given sentences for the user that are the same on every node.
            warn: those about this node.

        Raises:
            InputError: a file cannot be read.
        """
        slow = [file for file, events in decoded.items() if events > MANY_EVENTS]
        if not slow:
            return None
        events = sum(file.events for file in slow)
        found = (
            f"{len(slow)} of {len(decoded)} data files keep up to {max(decoded.values())} events in a compressed or "
            f"divided chunk and decode all of them to read one (the first is {slow[0].path})."
        )
        advice = "'python -m gan repack' rewrites such files once for all runs."
        try:
            folder = Path(tempfile.gettempdir()) / f"3dgan-{os.getuid()}-{socket.gethostname()}"
            copies = cls(folder)
        except OSError as error:
            warn(f"{found} There is no place for unpacked copies ({error}): reading will be slow. {advice}")
            return None
        tell(
            f"{found} Unpacking {events:,} events to {folder} on every node: "
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
        """Copy the files, each by the first worker of the node that gets to it.

        Raises:
            OSError: there is no room, or the copies cannot be written.
            InputError: a file cannot be read.
        """
        # First round: what nobody is at. Second round: wait for the others, and do what one of them left undone.
        for wait in (False, True):
            for file in files:
                if file.path not in self.paths:
                    self._make_one(file, wait=wait)

    def close(self) -> None:
        fcntl.flock(self._in_use, fcntl.LOCK_UN)
        with suppress(BlockingIOError):
            fcntl.flock(self._in_use, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for path in self.folder.glob("*.h5*"):
                path.unlink(missing_ok=True)
        os.close(self._in_use)

    def _make_one(self, file: ShowerFile, *, wait: bool) -> None:
        seen = file.path.stat()
        known_by = f"{os.path.realpath(file.path)} {seen.st_size} {seen.st_mtime_ns}"
        copy = self.folder / f"{hashlib.sha256(known_by.encode()).hexdigest()[:24]}.h5"
        with _locked(copy.with_suffix(".h5.lock"), wait=wait) as mine:
            if not mine:
                return
            if not copy.exists():
                needed, free = EVENT_BYTES * file.events, shutil.disk_usage(self.folder).free
                if free < needed:
                    raise OSError(f"{self.folder} has {free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB are needed")
                try:
                    repack(file.path, copy)
                except WriteError as error:
                    # Without a copy the file can still be read.
                    raise OSError(str(error)) from error
            self.paths[file.path] = copy


@contextmanager
def _locked(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold a file's lock; False where another process has it and we are not to wait. A process that dies lets go."""
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
