"""What the watch of a rank may cause: a line for the user, an end record, and the end of all ranks.

The second thread of the rank calls these methods, because the main thread computes or hangs.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import suppress

from gan.errors import InputError
from gan.parallel import Communicator
from gan.training.journal import Journal
from gan.training.roll_call import Place

__all__ = ["HUNG", "Alert"]

HUNG = os.EX_TEMPFAIL
"""Exit status of a run that ends because a rank hangs. The same command continues it."""

log = logging.getLogger("gan")


class Alert:
    """The effects of the watch on one rank."""

    def __init__(self, communicator: Communicator, journal: Journal | None, say: Callable[[str], None]) -> None:
        """Create the object.

        Args:
            communicator: ends the ranks.
            journal: record and log of the run, on rank 0.
            say: shows a line to the user, on any rank.
        """
        self._communicator = communicator
        self._journal = journal
        self._say = say

    def remark(self, text: str) -> None:
        """Show a line to the user. On rank 0 it is in the log, too."""
        if self._journal:
            log.warning("%s", text)
        else:
            self._say(text)

    def signal(self, name: str, place: Place) -> None:
        """Note that this rank got a signal that asks for a stop."""
        if self._journal:
            # If the record cannot be written, the main thread says so.
            with suppress(InputError):
                self._journal.signalled(name, place)

    def end(self, reason: str) -> None:
        """End all ranks. `reason` is empty if another rank has given it."""
        if reason:
            if self._journal:
                with suppress(InputError):
                    self._journal.hung(reason)
            self.remark(f"Error: {reason}. The same command continues from the last checkpoint")
        self._communicator.abort(HUNG)
