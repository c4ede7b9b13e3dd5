"""The state of a training on all ranks, put into checkpoints and taken out of them again.

Weights and optimizers are equal on all ranks at any step. BatchNorm's moving statistics are equal only after an epoch:
within one every rank gathers its own, so a checkpoint in the middle of an epoch holds those of all ranks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from gan.parallel import Communicator, Worker, assign_flat, flat, on_first, share_variables, verify_equal
from gan.run.checkpoint import Checkpoint, Checkpoints, restore, snapshot
from gan.settings import TrainingSettings
from gan.training.step import LOSSES, Networks

__all__ = ["Progress", "State"]

EVERY_RANK = "moving_statistics/every_rank"
"""The array of a checkpoint that holds the moving statistics of all ranks, float32 (ranks, values)."""


@dataclass(slots=True)
class Progress:
    """How far a training is; equal on all ranks."""

    epochs: int = 0
    """Epochs complete."""
    steps: int = 0
    """Steps done of the next one."""
    losses: np.ndarray = field(default_factory=lambda: np.zeros(len(LOSSES)))
    """Sums of the losses over these steps, one for each update."""
    validation_errors: list[float] = field(default_factory=list)
    """One for each complete epoch; not a number where nothing is held out."""

    def finish_epoch(self, validation_error: float) -> None:
        self.validation_errors.append(validation_error)
        self.epochs, self.steps, self.losses = self.epochs + 1, 0, np.zeros(len(LOSSES))


class State:
    """Saves and resumes a training; all ranks call each method together."""

    def __init__(
        self,
        networks: Networks,
        checkpoints: Checkpoints,
        settings: TrainingSettings,
        worker: Worker,
        communicator: Communicator,
    ) -> None:
        self._networks = networks
        self._checkpoints = checkpoints
        self._settings = settings
        self._about = {"settings": settings.as_dict(), "versions": dict(worker.versions)}
        self._communicator = communicator
        self._global_batch = settings.batch_size * communicator.size

    def resume(self, steps_per_epoch: int) -> Progress:
        """Take up the last checkpoint on rank 0 and give its state to all ranks.

        On another global batch size than before, an interrupted epoch goes on after as many steps as make up the events
        that were done, rounded down.

        Raises:
            InputError: the checkpoint is of other networks.
            RanksDiffer: the state did not arrive everywhere.
        """
        progress, moving = on_first(self._communicator, lambda: self._read(steps_per_epoch))
        variables = self._networks.variables()
        share_variables(self._communicator, variables)
        verify_equal(self._communicator, variables, "at the start")
        if moving is not None:
            size, rank = self._communicator.size, self._communicator.rank
            assign_flat(
                self._networks.moving_statistics(), moving[rank] if len(moving) == size else moving.mean(axis=0)
            )
        return progress

    def save(self, progress: Progress) -> None:
        """A checkpoint after an epoch, by rank 0."""
        if self._communicator.rank == 0:
            errors = progress.validation_errors
            finite = [error for error in errors if math.isfinite(error)]
            self._write(progress, {}, best=not finite or errors[-1] == min(finite))

    def save_interrupted(self, progress: Progress) -> None:
        """A checkpoint in the middle of an epoch, by rank 0, with what the ranks do not have in common."""
        rows = self._communicator.gather(flat(self._networks.moving_statistics()))
        if rows is not None:
            self._write(progress, {EVERY_RANK: np.stack(rows)}, best=False)

    def _write(self, progress: Progress, arrays: dict[str, np.ndarray], *, best: bool) -> None:
        checkpoint = Checkpoint(
            epochs=progress.epochs,
            steps=progress.steps,
            global_batch_size=self._global_batch,
            losses=progress.losses.tolist(),
            arrays={**snapshot(self._networks.groups()), **arrays},
            validation_errors=progress.validation_errors,
            about=self._about,
        )
        self._checkpoints.save(checkpoint, best=best)

    def _read(self, steps_per_epoch: int) -> tuple[Progress, np.ndarray | None]:
        checkpoint = self._checkpoints.latest()
        if checkpoint is None:
            return Progress(), None
        restore(self._networks.groups(), checkpoint)
        errors = list(checkpoint.validation_errors)
        if checkpoint.epochs >= self._settings.epochs:
            return Progress(epochs=self._settings.epochs, validation_errors=errors), None
        before, losses = checkpoint.steps, np.array(checkpoint.losses or [0.0] * len(LOSSES))
        steps = min(
            before * (checkpoint.global_batch_size or self._global_batch) // self._global_batch, steps_per_epoch
        )
        # Sums over steps stay means when the number of steps changes.
        losses = losses * (steps / before) if steps != before else losses
        progress = Progress(epochs=checkpoint.epochs, steps=steps, losses=losses, validation_errors=errors)
        return progress, checkpoint.arrays.get(EVERY_RANK)
