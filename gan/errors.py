"""The training's errors for what a user can mend; anything else is a bug and keeps its traceback."""

from __future__ import annotations

__all__ = ["InputError", "RanksDiffer", "TrainingDiverged"]


class InputError(ValueError):
    """Data, settings or an output folder cannot be used; the message says what was seen, expected and what to do."""

    agreed: bool = False
    """True where every rank raises the same error: one of them may speak for all."""


class TrainingDiverged(InputError):
    """A loss is not a finite number."""


class RanksDiffer(InputError):
    """Ranks that must hold the same weights do not."""
