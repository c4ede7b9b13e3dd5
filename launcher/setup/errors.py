"""The error of the set-up. It needs the standard library only, because it is raised before anything is installed."""

__all__ = ["SetupError"]


class SetupError(Exception):
    """The environment cannot be made. The message says what was seen, what was expected and what to do."""
