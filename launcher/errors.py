"""The launcher's error for what a user or a site can mend; anything else is a bug and keeps its traceback."""

__all__ = ["LaunchError"]


class LaunchError(ValueError):
    """The message says what was seen, what was expected and what to do."""
