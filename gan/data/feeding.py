"""Choose the events of each batch and read them ahead of the training.

The module splits the events into training and validation, draws the random order of an epoch, and gives each rank its
part. `showers` reads the events from files.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from gan.data.showers import ShowerSet
from gan.errors import InputError

__all__ = ["Feeder", "Part", "Split", "split_events"]

READ_AHEAD = 4
"""Number of batches to read ahead, so that one slow read does not stop the training. A batch of 8 takes 0.5 MB."""

Batches = Sequence[np.ndarray] | np.ndarray
"""Event numbers of each batch."""
_Read = Future[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, slots=True)
class Split:
    """Event numbers for training and validation. They depend on the seed and the files, not on the number of ranks."""

    train: np.ndarray
    """Numbers of the training events, in random order."""
    validation: np.ndarray
    """Numbers of the validation events, in ascending order."""


def split_events(total: int, *, events: int | None, validation_fraction: float, seed: int) -> Split:
    """Choose the events of a run, and hold out some of them for validation.

    Both choices are random, because files may be sorted by energy.

    Args:
        total: number of events in all files.
        events: number of events to use, training and validation together. None means all.
        validation_fraction: fraction of these events that is held out.
        seed: seed of both choices.

    Raises:
        InputError: the files hold fewer events than `--events`, or the validation fraction is not 0 but gives no event.
    """
    wanted = total if events is None else events
    if wanted > total:
        raise InputError(
            f"--events is {wanted} but the files hold {total}; expected at most {total}. "
            "Reduce --events, or add files to --data."
        )
    chosen = np.random.default_rng([seed, 0]).permutation(total)[:wanted]
    held_out = round(wanted * validation_fraction)
    if validation_fraction > 0 and held_out == 0:
        raise InputError(
            f"--validation-fraction {validation_fraction} of {wanted} events gives no event; expected at "
            "least one. Use more events, a larger fraction, or 0 for no validation."
        )
    return Split(train=chosen[held_out:], validation=np.sort(chosen[:held_out]))


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One rank's part of each epoch.

    All ranks draw the same random order of the training events, and each takes its slice of every global batch.
    """

    train: np.ndarray
    """Numbers of all training events; the same on every rank."""
    batch_size: int
    """Events per rank and step."""
    rank: int
    """Number of this rank, from 0."""
    size: int
    """Number of ranks."""
    seed: int
    """Seed of the order of all epochs."""

    @property
    def steps(self) -> int:
        """Number of steps per epoch. The events that are left over are fewer than one global batch."""
        return len(self.train) // (self.batch_size * self.size)

    @property
    def left_out(self) -> int:
        """Number of events that an epoch does not use. Each epoch leaves out different events."""
        return len(self.train) - self.steps * self.batch_size * self.size

    def check(self) -> None:
        """Raise InputError if there are fewer training events than one global batch."""
        if self.steps == 0:
            raise InputError(
                f"{len(self.train)} training events are fewer than one global batch of {self.batch_size * self.size} "
                f"({self.size} workers x --batch-size {self.batch_size}); expected at least one batch. "
                "Use more events, fewer workers or a smaller --batch-size."
            )

    def batches(self, epoch: int) -> np.ndarray:
        """Return the event numbers of this rank's batches, (steps, batch_size). `epoch` counts from 0."""
        order = np.random.default_rng([self.seed, 1, epoch]).permutation(self.train)
        used = order[: self.steps * self.size * self.batch_size]
        return used.reshape(self.steps, self.size, self.batch_size)[:, self.rank]


class Feeder:
    """Read batches ahead in a background thread, and measure how long the training waits for them.

    The thread spends nearly all of its time in system calls and zlib (see `reading`), which release the GIL.
    """

    def __init__(self, showers: ShowerSet) -> None:
        self._showers = showers
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="feeder")
        self._expected: dict[bytes, _Read] = {}
        """Started reads of the first batches of a later `feed`, by the bytes of their event numbers."""
        self.waited = 0.0
        """Seconds that the training has waited for batches since the last `reset`."""

    def close(self) -> None:
        """Stop the thread and cancel the reads that have not begun."""
        self._reader.shutdown(cancel_futures=True)

    def reset(self) -> None:
        """Set `waited` to 0."""
        self.waited = 0.0

    def feed(self, batches: Batches, then: Batches = ()) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the cells (batch, 25, 25, 25) and energies (batch,) of each batch, both float32 in GeV.

        Args:
            batches: event numbers of each batch.
            then: batches of a later `feed`, such as the next epoch. When all of `batches` are read, the first of these
                are read ahead, so that the next epoch starts without waiting.

        Raises:
            InputError: a batch cannot be read. The error is raised in place of this batch.
        """
        waiting = deque(map(self._read, batches[:READ_AHEAD]))
        try:
            for number in range(len(batches)):
                began = time.perf_counter()
                ready = waiting.popleft().result()
                self.waited += time.perf_counter() - began
                if number + READ_AHEAD < len(batches):
                    waiting.append(self._read(batches[number + READ_AHEAD]))
                elif number + 1 == len(batches) and len(then):
                    self._expected = {batch.tobytes(): self._read(batch) for batch in then[:READ_AHEAD]}
                yield ready
        finally:
            for read in waiting:
                read.cancel()

    def _read(self, batch: np.ndarray) -> _Read:
        return self._expected.pop(batch.tobytes(), None) or self._reader.submit(self._showers.read, batch)
