"""The launcher's error for what a user or a site can mend; anything else is a bug and keeps its traceback."""

__all__ = ["LaunchError"]


class LaunchError(ValueError):
    """The message says what was seen, what was expected and what to do."""

    agreed: bool = False
    """True where every rank raises the same error: rank 0 may speak for all."""
