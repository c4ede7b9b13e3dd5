"""The error for a launch that the user or the site can correct. All other errors are bugs."""

from __future__ import annotations

from scaling.records import UserError

__all__ = ["LaunchError"]


class LaunchError(UserError):
    """The ranks cannot be placed, bound or started as requested."""
