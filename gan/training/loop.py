"""The training loop: from the first epoch or the last checkpoint to the end, on one rank or many.

The launcher supplies the worker and the communicator, so this module reads no MPI variables. `step` computes a step,
`data.feeding` reads the events, `state` saves and resumes, and `journal` writes the record and the log.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from dataclasses import replace

import numpy as np
import tensorflow as tf

from gan.data.feeding import Feeder
from gan.data.showers import ShowerSet
from gan.ops.draws import position
from gan.parallel import Communicator, Worker, agree, on_first, verify_equal
from gan.physics.metrics.validation import SHOWER_DISTANCE
from gan.run.folder import RunFolder
from gan.settings import TrainingSettings
from gan.training.alarms import Alarms, Warned
from gan.training.alert import Alert
from gan.training.endings import dead, diverged
from gan.training.fitting import fit_to_events, needs_events
from gan.training.heading import make_header
from gan.training.interruption import Interruption
from gan.training.journal import Journal
from gan.training.measure import EpochMeasure, summarize
from gan.training.networks import Networks
from gan.training.partition import partition
from gan.training.progress import EpochProgress
from gan.training.roll_call import Phase, RollCall
from gan.training.schedule import LearningRate
from gan.training.state import Progress, State
from gan.training.step import TrainingStep
from gan.training.validation import Validation
from gan.training.watch import Watch
from scaling.records import End, Epoch, to_line

__all__ = ["Training"]

log = logging.getLogger("gan")


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
        checkpoint_seconds: float = math.inf,
        hang_seconds: float = math.inf,
        say: Callable[[str], None] = print,
    ) -> None:
        """Create the training.

        Args:
            settings: settings of the networks and the steps.
            showers: all events.
            folder: where the record, the log and the checkpoints go.
            worker: place and software of this rank, for the record.
            communicator: exchange with the other ranks.
            tensorboard: whether to write TensorBoard summaries.
            interruption: requests to stop.
            checkpoint_seconds: seconds after which rank 0 writes a checkpoint within an epoch.
            hang_seconds: seconds without progress after which the run ends, see `watch`.
            say: shows a line to the user, on any rank.
        """
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
        self._rate = LearningRate.of(settings, workers=self._workers, steps_per_epoch=self._part.steps)
        self._state = State(self.networks, folder.checkpoints, settings, worker, communicator)
        self._interruption = interruption or Interruption()
        self._alarms = Alarms()
        self._tensorboard = tensorboard
        self._checkpoint_seconds = checkpoint_seconds
        self._hang_seconds = hang_seconds
        self._say = say
        self._journal: Journal | None = None
        self._saved = 0.0
        """Time of the last checkpoint, or of the start of `run`'s first step."""
        self._longest_step = 0.0
        self._concluding = 0.0
        """Seconds of the validation and the checkpoint of the last epoch."""

    @property
    def _first(self) -> bool:
        return self.communicator.rank == 0

    @property
    def _workers(self) -> int:
        """Number of workers of all ranks, virtual ones included."""
        return self.communicator.size * self.settings.virtual_workers

    @property
    def _global_batch(self) -> int:
        return self.settings.batch_size * self._workers

    def run(self) -> End | None:
        """Train until `settings.epochs` epochs are complete, or until a rank is asked to stop.

        Files with large chunks are first unpacked to the node's own disk. This takes minutes for gigabytes.

        Returns:
            The end record on rank 0. None on other ranks, or if no epoch was left to train.

        Raises:
            InputError: a data file cannot be read.
            TrainingDiverged: a loss is not finite. The last checkpoint is from the epoch before.
            GeneratorDead: the generator gave no output during a whole epoch, and `settings.stop_when_dead` is set.
            RanksDiffer: the ranks do not hold equal weights.
        """
        # A rank on a node without space writes the warning to its own log, because rank 0 does not know about it.
        agree(self.communicator, lambda: self._showers.prepare(print if self._first else None, warn=print))
        if needs_events(self.networks):
            on_first(self.communicator, self._fit)
        progress = self._state.resume(self._part.steps)
        journal = Journal(self.folder, self.settings.epochs, tensorboard=self._tensorboard) if self._first else None
        self._journal = journal
        roll = RollCall.begin(self.folder.waiting, self.communicator, self.worker.host)
        self._watch = Watch(roll, self._hang_seconds, Alert(self.communicator, journal, self._say))
        with closing(self._feeder), journal or nullcontext(), closing(self._state), self._watch:
            self._saved = time.monotonic()
            if journal:
                journal.recover(progress.record)
            if progress.epochs == self.settings.epochs:
                if journal:
                    journal.already_complete()
                return None
            if journal:
                header = make_header(
                    self.settings,
                    self._showers,
                    self._split,
                    self.worker,
                    self.communicator,
                    global_batch=self._global_batch,
                    parameters=self.networks.parameters(),
                    progress=progress,
                )
                journal.begin(header, self._part.left_out, self._rate.base * self._rate.factor)
            return self._epochs(progress)

    def _fit(self) -> None:
        """Fit to training events on this rank. A resume replaces the results, and sends them to the other ranks."""
        self._feeder.reset()
        fit_to_events(self.networks, self._feeder, self._split.train)

    def _epochs(self, progress: Progress) -> End | None:
        while progress.epochs < self.settings.epochs:
            measure = self._train(progress)
            if measure.stopped or self._no_time_to_conclude(measure):
                progress.steps, progress.losses = measure.steps, measure.losses
                self._watch.at(Phase.CHECKPOINT, progress.epochs + 1, measure.steps)
                self.networks.calibrate(progress.epochs)
                self._state.save_interrupted(progress)
                return self._interrupted(progress)
            record, stop = self._conclude(measure, progress)
            if self._journal and record:
                self._journal.epoch(record)
            if self.settings.stop_when_dead and self._alarms.silent_epoch(len(measure.step_seconds)):
                raise dead(self._alarms.silent_steps, progress.distances, self.folder.checkpoints.folder)
            if stop and progress.epochs < self.settings.epochs:
                return self._interrupted(progress)
        return self._journal.complete() if self._journal else None

    def _no_time_to_conclude(self, measure: EpochMeasure) -> bool:
        """Return True if a rank was asked to stop, or if the job may end before the validation does.

        Before the first step of this job, return False: otherwise restarts make no progress.
        """
        seconds = self._longest_step + self._concluding
        wants_stop = bool(measure.step_seconds) and bool(self._interruption.reason(seconds))
        return any(self.communicator.allgather(wants_stop))

    def _interrupted(self, progress: Progress) -> End | None:
        reason = self._interruption.reason()
        own = f"{reason}, rank {self.communicator.rank} on {self.worker.host}" if reason else ""
        reasons = self.communicator.gather(own)
        return self._journal.interrupted(progress.steps, list(filter(None, reasons or ()))) if self._journal else None

    def _conclude(self, measure: EpochMeasure, progress: Progress) -> tuple[Epoch | None, bool]:
        """Validate, save and summarize an epoch.

        Returns:
            The record of the epoch on rank 0 (None on other ranks), and whether all ranks stop after this epoch.
        """
        epoch = progress.epochs + 1
        began = time.perf_counter()
        self._watch.at(Phase.VALIDATION, epoch, self._part.steps)
        self.networks.calibrate(progress.epochs)
        self.networks.average_statistics()
        verify_equal(self.communicator, self.networks.variables(), f"after epoch {epoch}")
        figures = self._validation.evaluate(self._split.validation, self._feeder, self._watch.alive)
        progress.finish_epoch(figures.get(SHOWER_DISTANCE, math.nan))
        validated = time.perf_counter()
        measure.stopped = bool(self._interruption.reason(self._longest_step))
        measures = self.communicator.gather(measure)
        record = None
        if measures is not None:
            record = summarize(
                measures,
                epoch=epoch,
                events=(self._part.steps - measure.resumed_steps) * self._global_batch,
                validation=figures,
                validation_seconds=validated - began,
                checkpoint_seconds=0.0,
                updates=2 + self.settings.generator_steps,
            )
            # A kill after the checkpoint and before the line in the record file must not lose the line.
            progress.record = to_line(record)
        self._watch.at(Phase.CHECKPOINT, epoch, self._part.steps)
        self._state.save(progress)
        self._watch.at(Phase.END_OF_EPOCH, epoch, self._part.steps)
        self._saved = time.monotonic()
        # The other ranks wait here for rank 0's checkpoint. Otherwise they would wait in the first exchange of the next
        # epoch.
        stop = self.communicator.broadcast(measures is not None and any(each.stopped for each in measures))
        saved = time.perf_counter()
        self._concluding = saved - began
        return record and replace(record, checkpoint_seconds=saved - validated), stop

    def _train(self, progress: Progress) -> EpochMeasure:
        """Run the steps of an epoch on this rank, from the current progress to its end or an interruption."""
        epoch, first = progress.epochs, progress.steps
        measure = EpochMeasure(host=self.worker.host, resumed_steps=first, losses=progress.losses.copy())
        batches = self._part.batches(epoch)[first:]
        following = self._part.batches(epoch + 1) if epoch + 1 < self.settings.epochs else ()
        self._feeder.reset()
        rate = self._rate.at(epoch, self._part.steps - 1, progress.distances)
        bar = EpochProgress(epoch + 1, self.settings.epochs, len(batches), self._global_batch, shown=self._first)
        began = last = time.perf_counter()
        self._watch.at(Phase.READING, epoch + 1, first + 1)
        with bar:
            for step, (cells, energies) in enumerate(self._feeder.feed(batches, following), start=first):
                rate = self._rate.at(epoch, step, progress.distances)
                wants_stop = bool(self._interruption.reason(self._longest_step))
                self._watch.at(Phase.COMPUTING, epoch + 1, step + 1)
                losses, health, exchanged, stop, save = self._step(
                    cells, energies, position(epoch, step), rate, wants_stop, self._wants_checkpoint
                )
                if not np.isfinite(losses).all():
                    raise diverged(epoch, step, losses, rate, self.networks.architecture, self._workers)
                stepped = time.perf_counter()
                measure.add_step(stepped - last, exchanged, losses)
                measure.warnings += self._warn(epoch, self._alarms.step(step + 1, losses, health))
                self._longest_step = max(self._longest_step, measure.longest_step)
                last = stepped
                bar.step(losses[:2, 0].mean(), losses[2:, 0].mean())
                if self._journal:
                    self._journal.reached = measure.steps
                if stop:
                    measure.stopped = True
                    break
                if step + 1 == self._part.steps:
                    continue  # the checkpoint of the epoch follows at once
                if save:
                    self._watch.at(Phase.CHECKPOINT, epoch + 1, step + 1)
                    self._state.save_within(replace(progress, steps=measure.steps, losses=measure.losses.copy()))
                    if self._journal:
                        self._journal.saved(measure.steps)
                    self._saved, last = time.monotonic(), time.perf_counter()
                self._watch.at(Phase.READING, epoch + 1, step + 2)
        measure.finish(seconds=last - began, waited=self._feeder.waited, learning_rate=rate)
        return measure

    @property
    def _wants_checkpoint(self) -> bool:
        return self._first and time.monotonic() - self._saved > self._checkpoint_seconds

    def _warn(self, epoch: int, warnings: Sequence[Warned]) -> list[str]:
        """Log the warnings of a step on rank 0, and return them as texts for the record."""
        if not self._first:
            return []
        texts = [each.sentence(epoch, self._part.steps) for each in warnings]
        for text in texts:
            log.warning("Warning: %s", text)
        return texts
