"""Write the record, the log and the TensorBoard summaries of a training, on rank 0.

The values come from `measure`. `scaling.records` defines the fields of the record.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

import tensorflow as tf

from gan.errors import InputError
from gan.physics.metrics.validation import SHOWER_DISTANCE
from gan.precision.formats import describe
from gan.run.folder import RunFolder
from gan.training.progress import log_to
from gan.training.roll_call import Place
from scaling.records import End, Epoch, Header, RecordWriter, from_line, read_run
from scaling.records.wording import count

__all__ = ["Journal", "now"]

log = logging.getLogger("gan")

SHOWN = 5
"""Number of slow ranks in a line on the console. The record contains all slow ranks."""


class Journal:
    """The record and the log, open while rank 0 trains. If the training fails, the end record contains the reason."""

    def __init__(self, folder: RunFolder, epochs: int, *, tensorboard: bool = False) -> None:
        self._folder = folder
        self._epochs = epochs
        self._done = self._saved = self.reached = 0
        """Complete epochs; steps of the next epoch that are in a checkpoint, and all its complete steps."""
        self._lock = threading.Lock()
        self._handler = log_to(folder.log)
        self._writer = RecordWriter(folder.record)
        self._board = tf.summary.create_file_writer(str(folder.path / "tensorboard")) if tensorboard else None
        self._began = time.perf_counter()
        self._open = False

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is not None and self._open:
                status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
                # If the record cannot be written, `error` says so already, or is the more important one.
                with suppress(InputError):
                    self._end(status, f"{type(error).__name__}: {error}")
        finally:
            self._writer.close()
            log.removeHandler(self._handler)
            self._handler.close()

    def recover(self, line: str) -> None:
        """Write the record of the last complete epoch if the run was killed before it wrote it.

        Args:
            line: the record, from the checkpoint; empty if the checkpoint has none. `checkpoint_seconds` is 0 in it.
        """
        if not line:
            return
        record = from_line(line)
        assert isinstance(record, Epoch)
        if record.epoch not in {epoch.epoch for epoch in read_run(self._folder.record).epochs}:
            self._write(record)
            log.warning(
                "Warning: the run was killed before it wrote the record of epoch %d; it is written now, from the "
                "checkpoint", record.epoch,
            )  # fmt: skip

    def already_complete(self) -> None:
        """Log that no epoch is left to train. Write the end record if the run was killed after its last checkpoint."""
        self._done = self._epochs
        if not read_run(self._folder.record).complete:
            self._end("complete", "ended after the last checkpoint")
        log.info(
            "%s is complete: %s. Train further with a larger --epochs, or start again with --no-resume",
            self._folder.path, count(self._epochs, "epoch"),
        )  # fmt: skip

    def begin(self, header: Header, left_out: int, full_rate: float) -> None:
        """Write the header and log a summary of the training.

        Args:
            header: the header of this part of the run.
            left_out: number of events that an epoch leaves out, fewer than one global batch.
            full_rate: learning rate after the warm-up.
        """
        self._done, self._saved, settings = header.resumed_epochs, header.resumed_steps, header.settings
        self.reached = self._saved
        if self._done or self._saved:
            log.info("Continuing after %s%s", _moment(self._done, self._saved), self._lost())
        log.info(
            "Training on %d events, validation on %d; global batch %d (%s x %d events%s), %s per epoch; "
            "each epoch leaves out %d other events; %s; learning rate %g, %s scaling to %g in %s",
            header.train_events, header.validation_events, header.global_batch_size, count(header.workers, "worker"),
            header.batch_size, _virtual(settings),
            count((header.train_events - left_out) // header.global_batch_size, "step"), left_out,
            describe(settings["precision"])["computed"], settings["learning_rate"], settings["lr_scaling"], full_rate,
            count(settings["warmup_epochs"], "epoch"),
        )  # fmt: skip
        self._write(header)
        self._open = True

    def epoch(self, record: Epoch) -> None:
        """Write the record of an epoch. Log its line, and the slow ranks for which the others wait."""
        self._write(record)
        self._done, self._saved, self.reached = record.epoch, 0, 0
        discriminator = (record.losses["discriminator_real"] + record.losses["discriminator_fake"]) / 2
        steps = [loss for name, loss in record.losses.items() if name.startswith("generator")]
        generator = sum(steps) / len(steps)
        seconds = record.seconds or float("nan")
        line = (
            f"epoch {record.epoch}/{self._epochs}: {record.seconds:.1f} s, "
            f"{record.events / seconds:.1f} events/s, loss D {discriminator:.4g} G {generator:.4g}"
        )
        if record.validation:
            line += f", validation: {_validation(record.validation)}"
        waiting = record.input_seconds / seconds, record.communication_seconds / seconds
        log.info("%s; input %.1f%%, exchange %.1f%% of the time", line, *(100 * share for share in waiting))
        if record.slow_ranks:
            log.warning("Warning: %s", _slow(record))
        if self._board is not None:
            self._summarize(self._board, record)

    def saved(self, steps: int) -> None:
        """Note a checkpoint after some steps of the next epoch."""
        self._saved = self.reached = steps

    def signalled(self, name: str, place: Place) -> None:
        """Write an end record for the case that the sender of a signal does not wait for a checkpoint.

        mpirun kills its ranks within a second. If the training stops in order, another end record follows. Any thread
        may call this.
        """
        if self._open:
            self._write(self._end_record("interrupted", f"{name} in {place.moment}"))
            log.warning(
                "%s: stopping with a checkpoint after this step. If the ranks are ended before, the same command "
                "continues after %s", name, _moment(self._done, self._saved),
            )  # fmt: skip

    def hung(self, reason: str) -> None:
        """Write the end record of a training that ends because a rank hangs. Any thread may call this."""
        if self._open:
            self._write(self._end_record("interrupted", reason))

    def interrupted(self, steps: int, reasons: Sequence[str]) -> End:
        """Write the end record of a training that stops with a checkpoint after `steps` steps of the next epoch."""
        self.saved(steps)
        more = f" and {len(reasons) - 1} more" if len(reasons) > 1 else ""
        end = self._end("interrupted", f"{reasons[0]}{more}" if reasons else "asked to stop")
        log.info(
            "Interrupted (%s) after %s; the checkpoint is in %s. The same command continues from there",
            end.message, _moment(self._done, steps), self._folder.checkpoints.folder,
        )  # fmt: skip
        return end

    def complete(self) -> End:
        """Write the end record of a complete training."""
        end = self._end("complete")
        log.info(
            "Complete: %s, %.0f s in this part. Record %s, weights %s",
            count(end.epochs, "epoch"), end.seconds, self._folder.record, self._folder.checkpoints.folder,
        )  # fmt: skip
        return end

    def _end(self, status: str, message: str = "") -> End:
        self._open = False
        end = self._end_record(status, message)
        self._write(end)
        return end

    def _end_record(self, status: str, message: str) -> End:
        return End(
            status=status,
            ended=now(),
            seconds=time.perf_counter() - self._began,
            epochs=self._done,
            steps=self._saved,
            reached=self.reached,
            message=message,
        )

    def _lost(self) -> str:
        """Return what the part before has lost, in words."""
        before = read_run(self._folder.record).end
        if before is None:
            return ". The run was killed: steps after this checkpoint are computed again"
        lost = before.reached - self._saved
        if lost <= 0 or before.epochs != self._done:
            return ""
        return f". The run ended ({before.message}) with {count(lost, 'step')} after its checkpoint, computed again now"

    def _write(self, record: Header | Epoch | End) -> None:
        """Write a record.

        Raises:
            InputError: the file is gone, the disk is full, or another run has the folder now.
        """
        self._folder.check()
        try:
            with self._lock:
                self._writer.write(record)
        except FileNotFoundError as error:
            raise InputError(
                f"the record {self._folder.record} is gone ({error}); expected the file of this run. Put it back and "
                "give the same command again: the training continues from the last checkpoint. Without the file, only "
                "a new training with --no-resume is possible there"
            ) from error
        except OSError as error:
            raise InputError(
                f"the record {self._folder.record} cannot be written ({error}). Free some space or correct the "
                "permissions, then give the same command again: the training continues from the last checkpoint"
            ) from error

    @staticmethod
    def _summarize(board: tf.summary.SummaryWriter, record: Epoch) -> None:
        held_out = {f"held_out/{name}": value for name, value in record.validation.items()}
        with board.as_default(step=record.epoch):
            for name, value in {**record.losses, **held_out}.items():
                tf.summary.scalar(name, value)
            tf.summary.scalar("events_per_second", record.events / record.seconds if record.seconds else 0.0)
        board.flush()


def now() -> str:
    """Return the UTC time in ISO 8601 format, in whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _moment(epochs: int, steps: int) -> str:
    return count(epochs, "complete epoch") + (f" and {count(steps, 'step')}" if steps else "")


def _validation(figures: Mapping[str, float]) -> str:
    return (
        f"shower distance {figures[SHOWER_DISTANCE]:.3f}, visible energy {figures['sampling_fraction_error']:+.1%}, "
        f"active cells {figures['active_cells']:.2%} (real {figures['active_cells_real']:.2%}), "
        f"hits {figures['hits']:.0f} (real {figures['hits_real']:.0f})"
    )


def _slow(record: Epoch) -> str:
    names = [f"rank {slow['rank']} on {slow['host']} ({slow['ratio']:.2f} x)" for slow in record.slow_ranks]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"slower than the median rank in epoch {record.epoch}: {', '.join(names[:SHOWN])}{more}"


def _virtual(settings: Mapping[str, Any]) -> str:
    """Return a factor for the virtual workers, or nothing if there is one per rank."""
    number = settings["virtual_workers"]
    return f" x {number} virtual workers" if number > 1 else ""
