"""Errors of a training, a simulation or a generation that the user can correct. All other exceptions are bugs."""

from __future__ import annotations

from scaling.records import UserError

__all__ = ["GeneratorDead", "InputError", "RanksDiffer", "TrainingDiverged"]


class InputError(UserError):
    """Data, settings or an output folder cannot be used."""


class TrainingDiverged(InputError):
    """A loss is not a finite number."""


class GeneratorDead(InputError):
    """The generator gave no output during a whole epoch."""


class RanksDiffer(InputError):
    """Ranks that must hold the same values hold different ones."""
