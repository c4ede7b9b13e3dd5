"""The error for everything that a user can correct. All packages derive their own errors from it.

Planning a launch must work with the standard library alone, so this module imports nothing else. `commands` prints the
errors on a command line.
"""

from __future__ import annotations

__all__ = ["RecordError", "UserError"]


class UserError(ValueError):
    """An error that the user can correct. The message says what was seen, what was expected and what to do.

    Commands print `Error: MESSAGE` and end with exit status 2, without a traceback.
    """

    def __init__(self, message: str, *, agreed: bool = False) -> None:
        """Create an error.

        Args:
            message: one or two sentences, without `Error:` at the start.
            agreed: True if every rank raises this error. Then rank 0 prints it once, and no rank aborts the job.
        """
        super().__init__(message)
        self.agreed = agreed


class RecordError(UserError):
    """A record file or log cannot be read. The message names the line, what was seen and what was expected."""
