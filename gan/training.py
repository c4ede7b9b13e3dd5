"""A training from the first epoch, or the last checkpoint, to the end, the same on one rank or on many.

It receives its worker and communicator and never asks which MPI there is. The step is in `step`, events come from
`feeding`; what the run says about itself follows `scaling.records`.
"""

from __future__ import annotations

import logging
import math
import time
from datetime import datetime, timezone

import numpy as np
import tensorflow as tf

from gan.checkpoint import Checkpoint, restore, snapshot
from gan.draws import position
from gan.errors import TrainingDiverged
from gan.feeding import Feeder, Part, split_events
from gan.losses import LOSS_PARTS
from gan.measure import EpochMeasure, summarize
from gan.parallel import Communicator, Worker, average_variables, on_first, share_variables, verify_equal
from gan.precision import describe
from gan.progress import EpochProgress, log_to
from gan.runfolder import RunFolder
from gan.schedule import LearningRate
from gan.settings import TrainingSettings
from gan.showers import ShowerSet
from gan.step import LOSSES, Networks, TrainingStep
from gan.validation import PROFILE_ERROR, Validation
from scaling.records import End, Epoch, Header, RecordWriter

__all__ = ["Training"]

log = logging.getLogger("gan")


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
    ) -> None:
        self.settings = settings
        self.folder = folder
        self.worker = worker
        self.communicator = communicator
        self._showers = showers
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
        # Grappler's remapper fails on the discriminator's LeakyReLU gradients: it logs an error and changes nothing.
        tf.config.optimizer.set_experimental_options({"remapping": False})
        if settings.deterministic:
            tf.config.experimental.enable_op_determinism()
        self.networks = Networks(settings, communicator)
        self._step = TrainingStep(self.networks, settings, communicator)
        self._validation = Validation(self.networks, communicator, settings.seed)
        self._rate = LearningRate.of(settings, workers=communicator.size, steps_per_epoch=self._part.steps)
        self._errors: list[float] = []
        self._board = (
            tf.summary.create_file_writer(str(folder.path / "tensorboard")) if tensorboard and self._first else None
        )

    @property
    def _first(self) -> bool:
        return self.communicator.rank == 0

    def run(self) -> End | None:
        """Train until `settings.epochs` are complete. Returns the end record on rank 0, None elsewhere.

        Raises:
            TrainingDiverged: a loss is not finite; the last checkpoint is of the epoch before.
            RanksDiffer: ranks that must hold equal weights do not.
        """
        done = self._start()
        if not self._first:
            for epoch in range(done, self.settings.epochs):
                self._epoch(epoch)
            return None
        handler = log_to(self.folder.log)
        writer = RecordWriter(self.folder.record)
        began = time.perf_counter()
        try:
            if done == self.settings.epochs:
                log.info(
                    "%s is complete: %d epochs. More with --epochs, afresh with --no-resume",
                    self.folder.path,
                    done,
                )
                return None
            self._announce(done)
            writer.write(self._header(done))
            try:
                for epoch in range(done, self.settings.epochs):
                    record = self._epoch(epoch)
                    writer.write(record)
                    done = epoch + 1
                    self._report(record)
            except BaseException as error:
                status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
                writer.write(_end(status, done, began, f"{type(error).__name__}: {error}"))
                raise
            end = _end("complete", done, began)
            writer.write(end)
            self._summary(end)
            return end
        finally:
            writer.close()
            log.removeHandler(handler)
            handler.close()

    def _start(self) -> int:
        """Take up the last checkpoint on rank 0, give its state to all, and return the number of epochs complete."""
        done, self._errors = on_first(self.communicator, self._resume)
        variables = self.networks.variables()
        share_variables(self.communicator, variables)
        verify_equal(self.communicator, variables, "at the start")
        return done

    def _resume(self) -> tuple[int, list[float]]:
        checkpoint = self.folder.checkpoints.latest()
        if checkpoint is None:
            return 0, []
        restore(self.networks.groups(), checkpoint)
        return min(checkpoint.epochs, self.settings.epochs), list(checkpoint.validation_errors)

    def _epoch(self, epoch: int) -> Epoch:
        measure = self._train(epoch)
        began = time.perf_counter()
        average_variables(self.communicator, self.networks.moving_statistics())
        verify_equal(self.communicator, self.networks.variables(), f"after epoch {epoch + 1}")
        figures = self._validation.evaluate(self._split.validation, self._feeder)
        self._errors.append(figures.get(PROFILE_ERROR, math.nan))
        validated = time.perf_counter()
        if self._first:
            self._save(epoch + 1)
        # The others wait for rank 0's checkpoint here, not in the next epoch's first exchange.
        everybody = self.communicator.allgather(measure)
        saved = time.perf_counter()
        return summarize(
            everybody,
            epoch=epoch + 1,
            events=self._part.steps * self.settings.batch_size * self.communicator.size,
            validation=figures,
            validation_seconds=validated - began,
            checkpoint_seconds=saved - validated,
        )

    def _train(self, epoch: int) -> EpochMeasure:
        """The steps of an epoch on this rank."""
        measure = EpochMeasure(host=self.worker.host)
        batches = self._part.batches(epoch)
        self._feeder.reset()
        global_batch = self.settings.batch_size * self.communicator.size
        bar = EpochProgress(epoch + 1, self.settings.epochs, len(batches), global_batch, shown=self._first)
        began = last = time.perf_counter()
        with bar:
            for step, (cells, energies) in enumerate(self._feeder.feed(batches)):
                rate = self._rate.at(epoch, step, self._errors)
                losses, exchanged = self._step(cells, energies, position(epoch, step), rate)
                if not np.isfinite(losses).all():
                    raise self._diverged(epoch, step, losses, rate)
                now = time.perf_counter()
                measure.add_step(now - last, exchanged, losses)
                last = now
                bar.step(losses[:2, 0].mean(), losses[2:, 0].mean())
        measure.finish(seconds=last - began, waited=self._feeder.waited, learning_rate=rate)
        return measure

    def _diverged(self, epoch: int, step: int, losses: np.ndarray, rate: float) -> TrainingDiverged:
        update, part = np.argwhere(~np.isfinite(losses))[0]
        error = TrainingDiverged(
            f"epoch {epoch + 1}, step {step + 1}: the loss {LOSSES[update]} ({LOSS_PARTS[part]}) is "
            f"{losses[update, part]}; expected a finite number. The learning rate was {rate:.3g} on "
            f"{self.communicator.size} workers: try --lr-scaling sqrt, a longer --warmup-epochs or a smaller "
            f"--learning-rate. The last checkpoint is of epoch {epoch}"
        )
        error.agreed = True  # losses are means over ranks, so all of them see the same
        return error

    def _save(self, epochs: int) -> None:
        checkpoint = Checkpoint(
            epochs=epochs,
            arrays=snapshot(self.networks.groups()),
            validation_errors=self._errors,
            about={"settings": self.settings.as_dict(), "versions": dict(self.worker.versions)},
        )
        finite = [error for error in self._errors if math.isfinite(error)]
        self.folder.checkpoints.save(checkpoint, best=not finite or self._errors[-1] == min(finite))

    def _header(self, done: int) -> Header:
        worker, settings, size = self.worker, self.settings, self.communicator.size
        hosts = [str(row["host"]) for row in worker.placement] or [worker.host] * size
        return Header(
            started=_now(),
            workers=size,
            nodes=len(set(hosts)),
            batch_size=settings.batch_size,
            global_batch_size=settings.batch_size * size,
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
            resumed_epochs=done,
        )

    def _announce(self, done: int) -> None:
        settings, size = self.settings, self.communicator.size
        if done:
            log.info("Continuing after %d complete epochs", done)
        log.info(
            "Training on %d events, validating on %d; global batch %d (%d workers x %d), %d steps an epoch; "
            "%d events wait for another epoch's draw in each; %s; learning rate %g, %s to %g in %d epochs",
            len(self._split.train), len(self._split.validation), settings.batch_size * size, size,
            settings.batch_size, self._part.steps, self._part.left_out, describe(settings.precision)["computed"],
            settings.learning_rate, settings.lr_scaling, self._rate.base * self._rate.factor, settings.warmup_epochs,
        )  # fmt: skip

    def _report(self, record: Epoch) -> None:
        discriminator = (record.losses["discriminator_real"] + record.losses["discriminator_fake"]) / 2
        generator = (record.losses["generator_1"] + record.losses["generator_2"]) / 2
        line = (
            f"epoch {record.epoch}/{self.settings.epochs}: {record.seconds:.1f} s, "
            f"{record.events / record.seconds:.1f} events/s, loss D {discriminator:.4g} G {generator:.4g}"
        )
        if record.validation:
            line += f", held out: profile error {record.validation[PROFILE_ERROR]:.3g}"
        waiting = record.input_seconds / record.seconds, record.communication_seconds / record.seconds
        log.info("%s; input %.1f%%, exchange %.1f%% of the time", line, *(100 * share for share in waiting))
        if self._board is not None:
            with self._board.as_default(step=record.epoch):
                for name, value in {
                    **record.losses,
                    **{f"held_out/{k}": v for k, v in record.validation.items()},
                }.items():
                    tf.summary.scalar(name, value)
                tf.summary.scalar("events_per_second", record.events / record.seconds)
            self._board.flush()

    def _summary(self, end: End) -> None:
        log.info(
            "Complete: %d epochs, %.0f s in this part. Record %s, weights %s",
            end.epochs, end.seconds, self.folder.record, self.folder.checkpoints.folder,
        )  # fmt: skip


def _end(status: str, epochs: int, began: float, message: str = "") -> End:
    return End(status=status, ended=_now(), seconds=time.perf_counter() - began, epochs=epochs, message=message)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
