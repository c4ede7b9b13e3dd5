"""A training from the first epoch, or the last checkpoint, to the end, the same on one rank or on many.

It receives its worker and communicator and never asks which MPI there is. The step is in `step`, events come from
`feeding`, checkpoints go through `state`; what the run says about itself is `journal`'s.
"""

from __future__ import annotations

import math
import time
from contextlib import closing, nullcontext

import numpy as np
import tensorflow as tf

from gan.data.feeding import Feeder, Part, split_events
from gan.data.showers import ShowerSet
from gan.errors import TrainingDiverged
from gan.ops.draws import position
from gan.parallel import Communicator, Worker, average_variables, verify_equal
from gan.precision.formats import describe
from gan.run.folder import RunFolder
from gan.settings import TrainingSettings
from gan.training.interruption import Interruption
from gan.training.journal import Journal, now
from gan.training.losses import LOSS_PARTS
from gan.training.measure import EpochMeasure, summarize
from gan.training.progress import EpochProgress
from gan.training.schedule import LearningRate
from gan.training.state import Progress, State
from gan.training.step import LOSSES, Networks, TrainingStep
from gan.training.validation import PROFILE_ERROR, Validation
from scaling.records import End, Epoch, Header

__all__ = ["Training"]


class Training:
    """One rank's side of a training."""

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
        # What a node has no room for is said by its own ranks, in their logs: rank 0 does not know.
        showers.prepare(print if communicator.rank == 0 else None, warn=print)
        self._feeder = Feeder(showers)
        self._split = split_events(showers.events, settings)
        self._part = Part(
            train=self._split.train,
            batch_size=settings.batch_size,
            rank=communicator.rank,
            size=communicator.size,
            seed=settings.seed,
        )
        self._part.check()
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
        """Seconds of the last epoch's validation and checkpoint."""

    @property
    def _first(self) -> bool:
        return self.communicator.rank == 0

    @property
    def _global_batch(self) -> int:
        return self.settings.batch_size * self.communicator.size

    def run(self) -> End | None:
        """Train until `settings.epochs` are complete or a rank is asked to stop.

        Returns the end record on rank 0; None elsewhere, and where there was nothing left to train.

        Raises:
            TrainingDiverged: a loss is not finite; the last checkpoint is of the epoch before.
            RanksDiffer: ranks that must hold equal weights do not.
        """
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
        """Whether any rank was asked to stop meanwhile, or validating the epoch may take longer than the job has left.

        Not where this part of the run did no step: it would never get on.
        """
        wish = bool(measure.step_seconds) and bool(self._interruption.reason(self._longest_step + self._concluding))
        return any(self.communicator.allgather(wish))

    def _interrupted(self, progress: Progress, journal: Journal | None) -> End | None:
        reason = self._interruption.reason()
        told = self.communicator.gather(f"{reason}, rank {self.communicator.rank} on {self.worker.host}" * bool(reason))
        return journal.interrupted(progress.steps, [text for text in told or () if text]) if journal else None

    def _conclude(self, measure: EpochMeasure, progress: Progress) -> tuple[Epoch | None, bool]:
        """Validate, save and summarize an epoch. Returns its record on rank 0, and whether to stop here on all."""
        epoch = progress.epochs + 1
        began = time.perf_counter()
        average_variables(self.communicator, self.networks.moving_statistics())
        verify_equal(self.communicator, self.networks.variables(), f"after epoch {epoch}")
        figures = self._validation.evaluate(self._split.validation, self._feeder)
        progress.finish_epoch(figures.get(PROFILE_ERROR, math.nan))
        validated = time.perf_counter()
        measure.stopped = bool(self._interruption.reason(self._longest_step))
        everybody = self.communicator.gather(measure)
        # After the gather, so that little can happen between the checkpoint and the epoch's line in the record.
        self._state.save(progress)
        # The others wait for rank 0's checkpoint here, not in the next epoch's first exchange.
        stop = self.communicator.broadcast(everybody is not None and any(each.stopped for each in everybody))
        saved = time.perf_counter()
        self._concluding = saved - began
        if everybody is None:
            return None, stop
        record = summarize(
            everybody,
            epoch=epoch,
            events=(self._part.steps - measure.resumed_steps) * self._global_batch,
            validation=figures,
            validation_seconds=validated - began,
            checkpoint_seconds=saved - validated,
        )
        return record, stop

    def _train(self, progress: Progress) -> EpochMeasure:
        """The steps of an epoch on this rank, from where the progress stands to its end or an interruption."""
        epoch, first = progress.epochs, progress.steps
        measure = EpochMeasure(host=self.worker.host, resumed_steps=first, losses=progress.losses.copy())
        batches = self._part.batches(epoch)[first:]
        then = self._part.batches(epoch + 1) if epoch + 1 < self.settings.epochs else ()
        self._feeder.reset()
        rate = self._rate.at(epoch, self._part.steps - 1, progress.validation_errors)
        bar = EpochProgress(epoch + 1, self.settings.epochs, len(batches), self._global_batch, shown=self._first)
        began = last = time.perf_counter()
        with bar:
            for step, (cells, energies) in enumerate(self._feeder.feed(batches, then), start=first):
                rate = self._rate.at(epoch, step, progress.validation_errors)
                wish = bool(self._interruption.reason(self._longest_step))
                losses, exchanged, stop = self._step(cells, energies, position(epoch, step), rate, wish)
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
        return TrainingDiverged(
            f"epoch {epoch + 1}, step {step + 1}: the loss {LOSSES[update]} ({LOSS_PARTS[part]}) is "
            f"{losses[update, part]}; expected a finite number. The learning rate was {rate:.3g} on "
            f"{self.communicator.size} workers: try --lr-scaling sqrt, a longer --warmup-epochs or a smaller "
            f"--learning-rate. The last checkpoint is of epoch {epoch}",
            agreed=True,  # losses are means over ranks, so all of them see the same
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
