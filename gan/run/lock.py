"""Prevent a second run from using an output folder while the first run is alive.

The lock is a hard link, made by flufl.lock. So it works on file systems without locks and from any node. A living run
renews it. A run that waits takes the lock if it sees no renewal for some time, or at once if `holder` proves that the
other run has ended.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import TracebackType

from flufl.lock import Lock, NotLockedError, TimeOutError

from gan.errors import InputError
from gan.run.holder import Holder

__all__ = ["FolderLock"]

LIFETIME = 60
"""Seconds without a renewal after which the run of a lock is dead, by the clock of the run that waits."""
FOREVER = timedelta(days=365)
"""Time after which flufl.lock itself breaks a lock. It compares the clocks of two hosts, which may differ, so this is
never reached."""
RENEWAL = 10
"""Seconds between two renewals. Within this time, a waiting run finds out whether the other run is alive."""

log = logging.getLogger("gan")


class FolderLock:
    """The lock of an output folder. Rank 0 takes it before it reads the folder, and keeps it until the run ends."""

    def __init__(self, folder: Path, lost: Callable[[str], None]) -> None:
        """Create the lock.

        Args:
            folder: the output folder.
            lost: function that gets the reason if another run takes the lock, for example after this process was
                suspended.
        """
        logging.getLogger("flufl.lock").setLevel(logging.CRITICAL)  # it logs every refusal as an error
        self._folder = folder
        self._lost = lost
        self._lock = Lock(str(folder / ".lock"), lifetime=FOREVER)
        self._holder = Holder(folder)
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> FolderLock:
        """Take the lock.

        Raises:
            InputError: another run holds the folder.
        """
        try:
            self._acquire()
        except OSError as error:
            log.warning("Warning: %s cannot be locked (%s): make sure that no other run uses it", self._folder, error)
            with suppress(OSError):
                Path(self._lock.claimfile).unlink()
            return self
        self._holder.sign(self._lock.claimfile)
        self._thread = threading.Thread(target=self._renew, name="folder-lock", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._thread is None:
            return
        self._thread.join()
        try:
            self._holder.leave()
            self._lock.unlock(unconditionally=True)
        except OSError as failure:
            # Not an error: the run may be complete, or end with an error that says more.
            log.warning(
                "Warning: the lock of %s cannot be removed (%s). Correct the permissions; the next run there may wait "
                "%d s", self._folder, failure, LIFETIME,
            )  # fmt: skip

    def _acquire(self) -> None:
        """Take a free lock, or the lock of a dead run after it has expired. Fail if the other run is alive."""
        seen, since = None, 0.0
        while True:
            try:
                return self._lock.lock(timeout=1)
            except TimeOutError:
                pass
            try:
                claim, expiration = self._file.read_text(errors="replace"), self._lock.expiration
            except FileNotFoundError:
                continue  # the holder has just removed it
            if self._holder.remove_if_ended(self._file, claim):
                self._remove_claim(claim)
                continue
            sign = claim, expiration
            if seen is None:
                print(
                    f"{self._folder} is locked by {self._other()}; waiting up to {LIFETIME} s to see if that run is "
                    "alive",
                    flush=True,
                )
                seen, since = sign, time.monotonic()
            if sign != seen:
                raise InputError(
                    f"--out {self._folder} is in use by {self._other()}; expected a folder that no other running "
                    "training uses. Wait for its end, or give another --out"
                )
            if time.monotonic() - since > LIFETIME:
                self._file.unlink(missing_ok=True)
                self._remove_claim(claim)
                continue
            time.sleep(1)

    def check(self) -> None:
        """Check that this run still holds the lock. Call this before a write into the folder.

        A run that was suspended for longer than LIFETIME may have lost it without notice.

        Raises:
            InputError: another run took the folder, or the lock is gone.
        """
        if self._thread is None:
            return
        try:
            ours = self._lock.is_locked
        except FileNotFoundError:
            ours = False
        except OSError as error:
            log.warning("Warning: the lock of %s cannot be read: %s", self._folder, error)
            return
        if not ours:
            raise InputError(
                f"{self._reason()}; expected a folder of this run alone. This run writes nothing more there. "
                f"{self._advice()}, or give another --out"
            )

    @property
    def _file(self) -> Path:
        return Path(self._lock.lockfile)

    def _reason(self) -> str:
        """Return why the lock is lost."""
        if not self._folder.exists():
            return f"{self._folder} is gone"
        if not self._file.exists():
            return f"the lock {self._file} is gone: somebody removed it, or put another folder in this place"
        return f"another run took {self._folder}"

    def _advice(self) -> str:
        """Return what the user can do after the lock was lost."""
        if not self._folder.exists():
            return "Put the folder back and give the same command again"
        if not self._file.exists():
            return "If no other run uses the folder, give the same command again: it continues from what is there"
        return "Give the same command again after the end of the other run"

    def _remove_claim(self, claim: str) -> None:
        """Remove the second file of a lock, whose path is the content of the lock."""
        path = self._folder / Path(claim).name
        if path.name.startswith(f"{self._file.name}|"):
            with suppress(OSError):
                path.unlink()

    def _other(self) -> str:
        """Return the name of the process that holds the lock, for messages."""
        try:
            host, process, _ = self._lock.details
        except (NotLockedError, OSError, ValueError):
            return "an unknown process"  # its node died before the content was on disk
        return f"process {process} on {host}"

    def _renew(self) -> None:
        while not self._over.wait(RENEWAL):
            try:
                self._lock.refresh()
            except NotLockedError:
                self._lost(self._reason())
                return
            except OSError as error:
                log.warning("Warning: the lock of %s cannot be renewed: %s", self._folder, error)
