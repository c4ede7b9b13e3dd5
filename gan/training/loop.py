"""The training loop: from the first epoch or the last checkpoint to the end, on one rank or many.

The launcher supplies the worker and the communicator, so this module reads no MPI variables. `step` computes a step,
`data.feeding` reads the events, `state` saves and resumes, and `journal` writes the record and the log.
"""

from __future__ import annotations

import math
import time
from contextlib import closing, nullcontext

import numpy as np
import tensorflow as tf

from gan.data.feeding import Feeder
from gan.data.showers import ShowerSet
from gan.errors import TrainingDiverged
from gan.ops.draws import position
from gan.parallel import Communicator, Worker, agree, average_variables, verify_equal
from gan.precision.formats import describe
from gan.run.folder import RunFolder
from gan.settings import TrainingSettings
from gan.training.interruption import Interruption
from gan.training.journal import Journal, now
from gan.training.measure import EpochMeasure, summarize
from gan.training.partition import partition
from gan.training.progress import EpochProgress
from gan.training.schedule import LearningRate
from gan.training.state import Progress, State
from gan.training.step import LOSSES, Networks, TrainingStep
from gan.training.validation import PROFILE_ERROR, Validation
from scaling.records import End, Epoch, Header

__all__ = ["Training"]


class Training:
    """The training on one rank. All ranks create it and call `run` at the same time."""

    def __init__(
        self,
        settings: TrainingSettings,
        showers: ShowerSet,
        folder: RunFolder,
        worker: Worker,
        communicator: Communicator,
        *,
        tensorboard: bool = False,
        interruption: Interruption | None = None,
    ) -> None:
        self.settings = settings
        self.folder = folder
        self.worker = worker
        self.communicator = communicator
        self._showers = showers
        self._feeder = Feeder(showers)
        self._split, self._part = partition(showers.events, settings, rank=communicator.rank, size=communicator.size)
        if settings.deterministic:
            tf.config.experimental.enable_op_determinism()
        self.networks = Networks(settings, communicator)
        self._step = TrainingStep(self.networks, settings, communicator)
        self._validation = Validation(self.networks, communicator, settings.seed)
        self._rate = LearningRate.of(settings, workers=communicator.size, steps_per_epoch=self._part.steps)
        self._state = State(self.networks, folder.checkpoints, settings, worker, communicator)
        self._interruption = interruption or Interruption()
        self._tensorboard = tensorboard
        self._longest_step = 0.0
        self._concluding = 0.0
        """Seconds of the validation and the checkpoint of the last epoch."""

    @property
    def _first(self) -> bool:
        return self.communicator.rank == 0

    @property
    def _global_batch(self) -> int:
        return self.settings.batch_size * self.communicator.size

    def run(self) -> End | None:
        """Train until `settings.epochs` epochs are complete, or until a rank is asked to stop.

        Files with large chunks are first unpacked to the node's own disk. This takes minutes for gigabytes.

        Returns:
            The end record on rank 0. None on other ranks, or if no epoch was left to train.

        Raises:
            InputError: a data file cannot be read.
            TrainingDiverged: a loss is not finite. The last checkpoint is from the epoch before.
            RanksDiffer: the ranks do not hold equal weights.
        """
        # A rank on a node without space writes the warning to its own log, because rank 0 does not know about it.
        agree(self.communicator, lambda: self._showers.prepare(print if self._first else None, warn=print))
        progress = self._state.resume(self._part.steps)
        journal = Journal(self.folder, self.settings.epochs, tensorboard=self._tensorboard) if self._first else None
        with closing(self._feeder), journal or nullcontext():
            if progress.epochs == self.settings.epochs:
                if journal:
                    journal.already_complete()
                return None
            if journal:
                journal.begin(self._header(progress), self._part.left_out, self._rate.base * self._rate.factor)
            return self._epochs(progress, journal)

    def _epochs(self, progress: Progress, journal: Journal | None) -> End | None:
        while progress.epochs < self.settings.epochs:
            measure = self._train(progress)
            if measure.stopped or self._no_time_to_conclude(measure):
                progress.steps, progress.losses = measure.steps, measure.losses
                self._state.save_interrupted(progress)
                return self._interrupted(progress, journal)
            record, stop = self._conclude(measure, progress)
            if journal and record:
                journal.epoch(record)
            if stop and progress.epochs < self.settings.epochs:
                return self._interrupted(progress, journal)
        return journal.complete() if journal else None

    def _no_time_to_conclude(self, measure: EpochMeasure) -> bool:
        """Return True if a rank was asked to stop, or if the job may end before the validation does.

        Before the first step of this job, return False: otherwise restarts make no progress.
        """
        seconds = self._longest_step + self._concluding
        wants_stop = bool(measure.step_seconds) and bool(self._interruption.reason(seconds))
        return any(self.communicator.allgather(wants_stop))

    def _interrupted(self, progress: Progress, journal: Journal | None) -> End | None:
        reason = self._interruption.reason()
        own = f"{reason}, rank {self.communicator.rank} on {self.worker.host}" if reason else ""
        reasons = self.communicator.gather(own)
        return journal.interrupted(progress.steps, [text for text in reasons or () if text]) if journal else None

    def _conclude(self, measure: EpochMeasure, progress: Progress) -> tuple[Epoch | None, bool]:
        """Validate, save and summarize an epoch.

        Returns:
            The record of the epoch on rank 0 (None on other ranks), and whether all ranks stop after this epoch.
        """
        epoch = progress.epochs + 1
        began = time.perf_counter()
        average_variables(self.communicator, self.networks.moving_statistics())
        verify_equal(self.communicator, self.networks.variables(), f"after epoch {epoch}")
        figures = self._validation.evaluate(self._split.validation, self._feeder)
        progress.finish_epoch(figures.get(PROFILE_ERROR, math.nan))
        validated = time.perf_counter()
        measure.stopped = bool(self._interruption.reason(self._longest_step))
        measures = self.communicator.gather(measure)
        # Save after the gather, because a crash between the checkpoint and the line in the record would lose this line.
        self._state.save(progress)
        # The other ranks wait here for rank 0's checkpoint. Otherwise they would wait in the first exchange of the next
        # epoch.
        stop = self.communicator.broadcast(measures is not None and any(each.stopped for each in measures))
        saved = time.perf_counter()
        self._concluding = saved - began
        if measures is None:
            return None, stop
        record = summarize(
            measures,
            epoch=epoch,
            events=(self._part.steps - measure.resumed_steps) * self._global_batch,
            validation=figures,
            validation_seconds=validated - began,
            checkpoint_seconds=saved - validated,
        )
        return record, stop

    def _train(self, progress: Progress) -> EpochMeasure:
        """Run the steps of an epoch on this rank, from the current progress to its end or an interruption."""
        epoch, first = progress.epochs, progress.steps
        measure = EpochMeasure(host=self.worker.host, resumed_steps=first, losses=progress.losses.copy())
        batches = self._part.batches(epoch)[first:]
        following = self._part.batches(epoch + 1) if epoch + 1 < self.settings.epochs else ()
        self._feeder.reset()
        rate = self._rate.at(epoch, self._part.steps - 1, progress.validation_errors)
        bar = EpochProgress(epoch + 1, self.settings.epochs, len(batches), self._global_batch, shown=self._first)
        began = last = time.perf_counter()
        with bar:
            for step, (cells, energies) in enumerate(self._feeder.feed(batches, following), start=first):
                rate = self._rate.at(epoch, step, progress.validation_errors)
                wants_stop = bool(self._interruption.reason(self._longest_step))
                losses, exchanged, stop = self._step(cells, energies, position(epoch, step), rate, wants_stop)
                if not np.isfinite(losses).all():
                    raise self._diverged(epoch, step, losses, rate)
                stepped = time.perf_counter()
                measure.add_step(stepped - last, exchanged, losses)
                self._longest_step = max(self._longest_step, measure.longest_step)
                last = stepped
                bar.step(losses[:2, 0].mean(), losses[2:, 0].mean())
                if stop:
                    measure.stopped = True
                    break
        measure.finish(seconds=last - began, waited=self._feeder.waited, learning_rate=rate)
        return measure

    def _diverged(self, epoch: int, step: int, losses: np.ndarray, rate: float) -> TrainingDiverged:
        update, part = np.argwhere(~np.isfinite(losses))[0]
        parts = self.networks.architecture.loss_parts
        return TrainingDiverged(
            f"epoch {epoch + 1}, step {step + 1}: the loss {LOSSES[update]} ({parts[part]}) is "
            f"{losses[update, part]}; expected a finite number. The learning rate was {rate:.3g} on "
            f"{self.communicator.size} workers: try --lr-scaling sqrt, a longer --warmup-epochs or a smaller "
            f"--learning-rate. The last checkpoint is of epoch {epoch}",
            agreed=True,  # the losses are means over ranks, so all ranks see the same
        )

    def _header(self, progress: Progress) -> Header:
        worker, settings, size = self.worker, self.settings, self.communicator.size
        hosts = [str(row["host"]) for row in worker.placement] or [worker.host] * size
        return Header(
            started=now(),
            workers=size,
            nodes=len(set(hosts)),
            batch_size=settings.batch_size,
            global_batch_size=self._global_batch,
            train_events=len(self._split.train),
            validation_events=len(self._split.validation),
            settings=settings.as_dict(),
            communicator=self.communicator.name,
            hosts=hosts,
            placement=worker.placement,
            placement_warnings=worker.placement_warnings,
            versions=worker.versions,
            git_commit=worker.git_commit,
            precision=describe(settings.precision),
            threads=worker.threads,
            files=[{"path": str(file.path), "events": file.events} for file in self._showers.files],
            parameters=self.networks.parameters(),
            resumed_epochs=progress.epochs,
            resumed_steps=progress.steps,
        )
