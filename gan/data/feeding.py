"""Who reads which event when: the split, the order of an epoch, each rank's part, and reading ahead of the training.

How events lie in files is the business of `showers`.
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
from gan.settings import TrainingSettings

__all__ = ["Feeder", "Part", "Split", "split_events"]

READ_AHEAD = 4
"""Batches read ahead: enough to ride over a slow read, 0.5 MB each at batch 8."""

Batches = Sequence[np.ndarray] | np.ndarray
_Read = Future[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, slots=True)
class Split:
    """Event numbers for training and for validation. They depend on the seed and the files, never on the ranks."""

    train: np.ndarray
    validation: np.ndarray


def split_events(total: int, settings: TrainingSettings) -> Split:
    """Choose the events to use and hold out the validation's, both at random, since files may be sorted by energy.

    Raises:
        InputError: fewer events than asked for, or a split that leaves none for training or validation.
    """
    wanted = total if settings.events is None else settings.events
    if wanted > total:
        raise InputError(f"--events is {wanted} but the files hold {total}; ask for fewer or add files to --data")
    chosen = np.random.default_rng([settings.seed, 0]).permutation(total)[:wanted]
    held_out = round(wanted * settings.validation_fraction)
    if settings.validation_fraction > 0 and held_out == 0:
        raise InputError(
            f"--validation-fraction {settings.validation_fraction} of {wanted} events is none; "
            "use more events, a larger fraction, or 0 for no validation"
        )
    return Split(train=chosen[held_out:], validation=np.sort(chosen[:held_out]))


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One rank's part of every epoch: a slice of each global batch of a permutation that all ranks share."""

    train: np.ndarray
    batch_size: int
    rank: int
    size: int
    seed: int

    @property
    def steps(self) -> int:
        """Steps of an epoch; what is left over is less than one global batch."""
        return len(self.train) // (self.batch_size * self.size)

    @property
    def left_out(self) -> int:
        """Events that an epoch does not see; which ones differs from epoch to epoch."""
        return len(self.train) - self.steps * self.batch_size * self.size

    def check(self) -> None:
        """Raises: InputError where there are fewer events than one global batch."""
        if self.steps == 0:
            raise InputError(
                f"{len(self.train)} training events are fewer than one global batch of {self.batch_size * self.size} "
                f"({self.size} workers x --batch-size {self.batch_size});"
                " use more events, fewer workers or a smaller batch"
            )

    def batches(self, epoch: int) -> np.ndarray:
        """Event numbers of this rank's batches in this epoch, (steps, batch_size)."""
        order = np.random.default_rng([self.seed, 1, epoch]).permutation(self.train)
        used = order[: self.steps * self.size * self.batch_size]
        return used.reshape(self.steps, self.size, self.batch_size)[:, self.rank]


class Feeder:
    """Reads batches in a background thread ahead of their use and measures how long the training had to wait.

    The thread runs in system calls and zlib nearly all of its time (see `reading`), where it does not hold the GIL.
    """

    def __init__(self, showers: ShowerSet) -> None:
        self._showers = showers
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="feeder")
        self._expected: dict[bytes, _Read] = {}
        """First batches of the next `feed`, by their event numbers."""
        self.waited = 0.0
        """Seconds spent waiting since the last `reset`."""

    def close(self) -> None:
        """End the thread; what it was to read ahead is not read."""
        self._reader.shutdown(cancel_futures=True)

    def reset(self) -> None:
        self.waited = 0.0

    def feed(self, batches: Batches, then: Batches = ()) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Cells float32 (batch, 25, 25, 25) in GeV and energies float32 (batch,) in GeV, batch after batch.

        Args:
            batches: event numbers of each batch.
            then: the batches of a later `feed`; its first ones are read once there is nothing else to read, so that
                an epoch does not begin with waiting.

        Raises:
            InputError: a batch cannot be read; where it should have come.
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
