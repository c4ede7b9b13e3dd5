"""Save the state of a training on all ranks to checkpoints, and restore it.

Weights and optimizers are equal on all ranks after every step. BatchNorm's moving statistics are equal only after an
epoch, because within an epoch every worker collects its own statistics. So a checkpoint within an epoch holds the
statistics of all workers.
"""

from __future__ import annotations

import math
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gan.parallel import Communicator, Worker, on_first, share_variables, verify_equal
from gan.run.checkpoint import Checkpoint, Checkpoints, restore, snapshot
from gan.settings import TrainingSettings
from gan.training.networks import Networks
from gan.training.step import LOSSES

__all__ = ["Progress", "State"]

EVERY_WORKER = "moving_statistics/every_rank"
"""Name of the array that holds the moving statistics of all workers, float32 (workers, values)."""


@dataclass(slots=True)
class Progress:
    """Position of a training and its results up to now, equal on all ranks."""

    epochs: int = 0
    """Number of complete epochs."""
    steps: int = 0
    """Number of complete steps of the next epoch."""
    losses: np.ndarray = field(default_factory=lambda: np.zeros(len(LOSSES)))
    """Sum of the losses over these steps, for each of the four updates in a step."""
    distances: list[float] = field(default_factory=list)
    """Shower distance of every complete epoch, see `physics.metrics.validation`. NaN if no events are held out."""
    record: str = ""
    """Line of the last complete epoch for the record file; empty after an interruption within an epoch."""

    def finish_epoch(self, distance: float) -> None:
        """Count an epoch as complete."""
        self.distances.append(distance)
        self.epochs, self.steps, self.losses = self.epochs + 1, 0, np.zeros(len(LOSSES))


class State:
    """Save and resume a training. All ranks must call each method together."""

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
        # One thread, so that checkpoints are written in order. It ends with the process.
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._writing: Future[Path] | None = None
        self._global_batch = settings.batch_size * settings.virtual_workers * communicator.size

    def resume(self, steps_per_epoch: int) -> Progress:
        """Read the newest checkpoint on rank 0 and send its state to all ranks.

        If the global batch size has changed, an interrupted epoch continues after the number of steps that covers the
        same events, rounded down.

        Raises:
            InputError: the checkpoint belongs to other networks.
            RanksDiffer: the state differs between ranks after the exchange.
        """
        progress, moving = on_first(self._communicator, lambda: self._read(steps_per_epoch))
        variables = self._networks.variables()
        share_variables(self._communicator, variables)
        verify_equal(self._communicator, variables, "at the start")
        if moving is None:
            self._networks.workers.divide()
            return progress
        count = self._networks.workers.count
        if len(moving) == count * self._communicator.size:
            own = moving[count * self._communicator.rank :][:count]
        else:
            own = np.tile(moving.mean(axis=0), (count, 1))
        self._networks.set_statistics_of_workers(own)
        return progress

    def save(self, progress: Progress) -> None:
        """Write a checkpoint after an epoch. Only rank 0 writes, and only it needs `progress.record`."""
        if self._communicator.rank == 0:
            distances = progress.distances
            finite = [distance for distance in distances if math.isfinite(distance)]
            self._write(progress, {}, best=not finite or distances[-1] == min(finite))

    def save_interrupted(self, progress: Progress) -> None:
        """Write a checkpoint within an epoch, with the moving statistics of all workers. Only rank 0 writes."""
        rows = self._communicator.gather(self._networks.statistics_of_workers())
        if rows is not None:
            self._write(progress, {EVERY_WORKER: np.concatenate(rows)}, best=False)

    def save_within(self, progress: Progress) -> None:
        """Write a checkpoint within an epoch while the training goes on. Only rank 0 writes, in a thread.

        Raises:
            InputError: the checkpoint before could not be written.
        """
        rows = self._communicator.gather(self._networks.statistics_of_workers())
        if rows is not None:
            self.close()
            checkpoint = self._checkpoint(progress, {EVERY_WORKER: np.concatenate(rows)})
            self._writing = self._writer.submit(self._checkpoints.save, checkpoint, best=False)

    def close(self) -> None:
        """Wait for the checkpoint that a thread writes.

        Raises:
            InputError: it could not be written.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _write(self, progress: Progress, arrays: dict[str, np.ndarray], *, best: bool) -> None:
        self.close()
        self._checkpoints.save(self._checkpoint(progress, arrays), best=best)

    def _checkpoint(self, progress: Progress, arrays: dict[str, np.ndarray]) -> Checkpoint:
        return Checkpoint(
            epochs=progress.epochs,
            steps=progress.steps,
            global_batch_size=self._global_batch,
            losses=progress.losses.tolist(),
            arrays={**snapshot(self._networks.groups()), **arrays},
            distances=progress.distances,
            record="" if progress.steps else progress.record,
            about=self._about,
        )

    def _read(self, steps_per_epoch: int) -> tuple[Progress, np.ndarray | None]:
        checkpoint = self._checkpoints.latest()
        if checkpoint is None:
            return Progress(), None
        restore(self._networks.groups(), checkpoint)
        distances = list(checkpoint.distances)
        if checkpoint.epochs >= self._settings.epochs:
            return Progress(epochs=self._settings.epochs, distances=distances, record=checkpoint.record), None
        before, losses = checkpoint.steps, np.array(checkpoint.losses or [0.0] * len(LOSSES))
        steps = min(
            before * (checkpoint.global_batch_size or self._global_batch) // self._global_batch, steps_per_epoch
        )
        # Sums over steps stay means when the number of steps changes.
        losses = losses * (steps / before) if steps != before else losses
        progress = Progress(
            epochs=checkpoint.epochs, steps=steps, losses=losses, distances=distances, record=checkpoint.record
        )
        return progress, checkpoint.arrays.get(EVERY_WORKER)
