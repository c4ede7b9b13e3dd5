"""Add up the records of a 3DGAN log: epochs of many ranks and several starts, numbered from 0 or from 1.

`gan3d` finds the records in the lines.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from scaling.parsers.hints import Facts
from scaling.records.wording import count

__all__ = ["Tally"]

_MOST_HOSTS = 100_000
"""Largest number of hosts that are counted. This limits the memory."""


@dataclass(slots=True)
class _Part:
    """Records from one start of the training to the next."""

    numbered: dict[int, float] = field(default_factory=dict)
    """Seconds of the slowest rank, by the number of the epoch from 1."""
    as_written: dict[int, float] = field(default_factory=dict)
    """Seconds of the slowest rank, by the number in the line. Some scripts count from 0, others from 1."""
    validation: dict[int, float] = field(default_factory=dict)
    """Seconds of validation on the slowest rank, by the number of the epoch from 1."""
    losses: dict[tuple[bool, int], dict[str, float]] = field(default_factory=dict)
    """Losses of each epoch by name. The key is (True, number of the epoch, counted from 1). If it is not clear whether
    the log counts from 0 or from 1, the key is (False, number in the line)."""
    begun: set[int] = field(default_factory=set)
    """Numbers of the epochs that have begun. They count from 1."""
    last_begun: int = 0
    """Highest number in `begun`."""
    expected: int = 0
    """Number of epochs that the run should train."""

    @property
    def size(self) -> int:
        """Number of entries, as a measure of the memory."""
        return len(self.numbered) + len(self.as_written) + len(self.validation) + len(self.losses) + len(self.begun)

    @property
    def shift(self) -> int:
        """Number to add to the numbers in `as_written`: 1 if they count from 0, else 0."""
        first = min(self.as_written, default=1)
        return int(first == 0 or (bool(self.begun) and min(self.begun) == first + 1))

    def seconds(self) -> dict[int, float]:
        """Return the seconds of the slowest rank, by the number of the epoch from 1."""
        merged = dict(self.numbered)
        for written, lasted in self.as_written.items():
            number = written + self.shift
            merged[number] = max(merged.get(number, 0.0), lasted)
        return merged


@dataclass(slots=True)
class _Rank:
    """Position of a rank in its epoch, according to its lines."""

    within: bool = False
    """True from the start of an epoch until the line with its time."""
    tested: bool = False
    """True if the rank has begun the validation in this epoch."""
    saved: bool = False
    """True if the rank has begun to save the weights in this epoch."""
    latest: tuple[bool, int] | None = None
    """Last epoch with a time, as a key of `_Part.losses`."""


@dataclass(slots=True)
class Tally:
    """Sum of the records of a log. Records must be added in the order of the lines."""

    ranks: set[int] = field(default_factory=set)
    """Numbers of the ranks in the prefixes of lines."""
    wrong: int = 0
    """Number of lines that look like a record but cannot be read."""
    steps: int | None = None
    """Steps per epoch."""
    notes: list[str] = field(default_factory=list)
    """Sentences for the user."""
    _global_batch: int | None = None
    _batch: int | None = None
    _train_events: int | None = None
    _hosts: dict[str, int] = field(default_factory=dict)
    _parts: list[_Part] = field(default_factory=lambda: [_Part()])
    _states: dict[int, _Rank] = field(default_factory=dict)
    _with_weights: bool = False
    _with_validation: bool = False

    @property
    def size(self) -> int:
        """Number of entries, as a measure of the memory."""
        return sum(part.size for part in self._parts) + len(self._states)

    def start(self) -> None:
        """Add a line that a training writes before its first epoch. After the time of an epoch, it is a restart."""
        if self._parts[-1].numbered or self._parts[-1].as_written:
            self._restart()

    def batch(self, global_size: int, size: int) -> None:
        """Add the global batch size and the batch size of a rank."""
        self.start()
        self._global_batch, self._batch = global_size, size

    def total(self, steps: int, events: int) -> None:
        """Add the steps per epoch and the number of training events."""
        self.start()
        self.steps, self._train_events = steps or None, events

    def host(self, name: str) -> None:
        """Add the host name that a rank writes at its start."""
        self.start()
        if len(self._hosts) < _MOST_HOSTS or name in self._hosts:
            self._hosts[name] = self._hosts.get(name, 0) + 1

    def progress(self, steps: int) -> None:
        """Add the steps per epoch from a progress line."""
        self.steps = steps or None

    def begin(self, rank: int, epoch: int, expected: int) -> None:
        """Add the start of an epoch. `expected` is the number of epochs of the run."""
        # Ranks wait for each other in every step, so no rank is more than one epoch behind the fastest one.
        if epoch < self._parts[-1].last_begun - 1:
            self._restart()
        part = self._parts[-1]
        self._state(rank)
        if epoch not in part.begun:
            # The header of the first rank is valid for all ranks. The headers of the others may have been skipped.
            part.begun.add(epoch)
            part.last_begun, part.expected = max(epoch, part.last_begun), expected
            for state in self._states.values():
                state.within, state.tested, state.saved = True, False, False

    def took(
        self, rank: int, number: int | None, seconds: float, base_known: bool = True, with_weights: bool = False
    ) -> None:
        """Add the time of an epoch on a rank.

        Args:
            rank: the rank, or -1 if the line does not contain it.
            number: number of the epoch. None means the epoch after the last one of this rank.
            seconds: time of the epoch in seconds.
            base_known: True if `number` counts from 1, False if it may count from 0 or 1.
            with_weights: True if the time includes saving the weights.
        """
        if not 0 < seconds < math.inf:
            self.wrong += 1
            return
        state, part = self._state(rank), self._parts[-1]
        if number is None:
            number = state.latest[1] + 1 if state.latest else min(part.begun, default=1)
        times = part.numbered if base_known else part.as_written
        times[number] = max(times.get(number, 0.0), seconds)
        self._with_weights |= with_weights or (state.within and state.saved)
        self._with_validation |= state.within and state.tested
        state.latest, state.within = (base_known, number), False

    def tested(self, epoch: int, seconds: float) -> None:
        """Add the seconds of the validation of an epoch, which counts from 1."""
        validation = self._parts[-1].validation
        validation[epoch] = max(validation.get(epoch, 0.0), seconds)

    def testing(self, rank: int) -> None:
        """Add the start of the validation on a rank."""
        self._state(rank).tested = True

    def saving(self, rank: int) -> None:
        """Add the start of saving the weights on a rank."""
        self._state(rank).saved = True

    def loss(self, rank: int, name: str, value: float) -> None:
        """Add a loss. It belongs to the current epoch of the rank, or between two epochs to the last one."""
        state = self._state(rank)
        latest = (True, self._parts[-1].last_begun) if state.within else state.latest
        if latest:
            self._parts[-1].losses.setdefault(latest, {}).setdefault(name, value)

    def facts(self) -> Facts:
        """Return the facts about the run in the log.

        The number of workers comes from the batch sizes, from the hosts that ranks wrote, or from the prefixes of
        lines. The number of nodes is the number of different hosts, if all ranks wrote theirs.
        """
        facts = Facts(
            global_batch_size=self._global_batch or None,
            batch_size=self._batch or None,
            train_events=self._train_events or None,
        )
        announced = sum(self._hosts.values())
        if self._global_batch and self._batch and self._global_batch % self._batch == 0:
            facts.workers = self._global_batch // self._batch
        elif announced > 1:
            # In some scripts only rank 0 writes its host, so one line does not mean one worker.
            facts.workers = announced
        elif self.ranks and max(self.ranks) > 0:
            facts.workers = max(self.ranks) + 1
        if announced == facts.workers:
            facts.nodes = len(self._hosts)
        return facts

    @property
    def resumed_epochs(self) -> int:
        """Number of epochs before the newest start; 0 if there is only one start."""
        parts = self._used()
        return min(parts[-1].seconds(), default=1) - 1 if len(parts) > 1 else 0

    @property
    def finished(self) -> bool:
        """True if the log contains the time of the last epoch to train."""
        part = self._parts[-1]
        return bool(part.expected) and max(part.seconds(), default=0) >= part.expected

    def seconds(self) -> dict[int, float]:
        """Return the seconds of each epoch, from 1. After a restart, new epochs replace the old ones from there on."""
        merged: dict[int, float] = {}
        for part in self._used():
            newer = part.seconds()
            first = min(newer)
            merged = {number: lasted for number, lasted in merged.items() if number < first} | newer
        return merged

    def validation_seconds(self, epoch: int) -> float:
        """Return the seconds of the validation of an epoch, or NaN if the log does not contain them."""
        return self._parts[-1].validation.get(epoch, math.nan)

    def losses(self, epoch: int) -> Mapping[str, float]:
        """Return the losses of an epoch by name."""
        part = self._parts[-1]
        return part.losses.get((True, epoch), {}) | part.losses.get((False, epoch - part.shift), {})

    def remarks(self) -> list[str]:
        """Return sentences about what the times include and what was left out."""
        notes = list(self.notes)
        if self._with_weights:
            notes.append("The time of an epoch includes saving the weights.")
        if self._with_validation:
            notes.append("The time of an epoch includes the validation.")
        if any(part.validation for part in self._parts):
            notes.append("The time of a validation includes saving the weights.")
        starts = len(self._used())
        if starts > 1:
            notes.append(f"The log contains {count(starts, 'start')}; only epochs of the newest start are used.")
        missing = self._parts[-1].expected - max(self._parts[-1].seconds(), default=0)
        if missing > 0:
            notes.append(f"{missing} of {count(self._parts[-1].expected, 'epoch')} not in the log.")
        return notes

    def _used(self) -> list[_Part]:
        """Return the parts with at least one time."""
        return [part for part in self._parts if part.numbered or part.as_written]

    def _restart(self) -> None:
        """Begin a new part."""
        self._parts.append(_Part())
        self._states.clear()
        self._hosts.clear()
        self.ranks.clear()

    def _state(self, rank: int) -> _Rank:
        """Return the state of a rank, and create it at the first line of the rank."""
        if rank not in self._states:
            self._states[rank] = _Rank(within=bool(self._parts[-1].begun))
        return self._states[rank]
