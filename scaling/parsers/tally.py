"""What the lines of a 3DGAN log add up to: epochs of many ranks, of restarts, counted from 0 or from 1.

How the lines read is the business of `gan3d`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from scaling.parsers.hints import Facts
from scaling.records.wording import count

__all__ = ["Tally"]

_MOST_HOSTS = 100_000


@dataclass(slots=True)
class _Part:
    """From one start of the training to the next."""

    numbered: dict[int, float] = field(default_factory=dict)
    """Epoch -> seconds of its slowest rank."""
    as_told: dict[int, float] = field(default_factory=dict)
    """The same by the number in the line, where the form counts from 0 in some scripts and from 1 in others."""
    validation: dict[int, float] = field(default_factory=dict)
    losses: dict[tuple[bool, int], dict[str, float]] = field(default_factory=dict)
    """(whether the number is an epoch's, number) -> losses"""
    begun: set[int] = field(default_factory=set)
    last_begun: int = 0
    expected: int = 0
    """Epochs that the run is to have."""

    @property
    def size(self) -> int:
        return len(self.numbered) + len(self.as_told) + len(self.validation) + len(self.losses) + len(self.begun)

    @property
    def shift(self) -> int:
        """1 where the numbers of `as_told` count from 0."""
        first = min(self.as_told, default=1)
        return int(first == 0 or (bool(self.begun) and min(self.begun) == first + 1))

    def seconds(self) -> dict[int, float]:
        merged = dict(self.numbered)
        for told, lasted in self.as_told.items():
            number = told + self.shift
            merged[number] = max(merged.get(number, 0.0), lasted)
        return merged


@dataclass(slots=True)
class _Rank:
    within: bool = False
    """Whether the time of the epoch that has begun last is still to come."""
    tested: bool = False
    saved: bool = False
    latest: tuple[bool, int] | None = None
    """The epoch whose time it has told last, as in `_Part.losses`."""


@dataclass(slots=True)
class Tally:
    """Gathers the records of a log in the order of its lines."""

    ranks: set[int] = field(default_factory=set)
    wrong: int = 0
    """Lines that look like a record and are none."""
    steps: int | None = None
    """Of an epoch, on every rank."""
    notes: list[str] = field(default_factory=list)
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
        return sum(part.size for part in self._parts) + len(self._states)

    def start(self) -> None:
        """A line that a training writes before its first epoch: after one that has ended, it is a restart."""
        if self._parts[-1].numbered or self._parts[-1].as_told:
            self._restart()

    def batch(self, global_size: int, size: int) -> None:
        self.start()
        self._global_batch, self._batch = global_size, size

    def total(self, steps: int, events: int) -> None:
        self.start()
        self.steps, self._train_events = steps or None, events

    def host(self, name: str) -> None:
        self.start()
        if len(self._hosts) < _MOST_HOSTS or name in self._hosts:
            self._hosts[name] = self._hosts.get(name, 0) + 1

    def progress(self, steps: int) -> None:
        self.steps = steps or None

    def begin(self, rank: int, epoch: int, expected: int) -> None:
        # Ranks wait for each other in every step, so that none is more than an epoch behind the first.
        if epoch < self._parts[-1].last_begun - 1:
            self._restart()
        part = self._parts[-1]
        self._state(rank)
        if epoch not in part.begun:
            # The first rank speaks for all: headers of the others say nothing new and may be left out.
            part.begun.add(epoch)
            part.last_begun, part.expected = max(epoch, part.last_begun), expected
            for state in self._states.values():
                state.within, state.tested, state.saved = True, False, False

    def took(
        self, rank: int, number: int | None, seconds: float, base_known: bool = True, with_weights: bool = False
    ) -> None:
        """An epoch's time. A line without a number tells of the epoch that follows its rank's last one."""
        if not 0 < seconds < math.inf:
            self.wrong += 1
            return
        state, part = self._state(rank), self._parts[-1]
        if number is None:
            number = state.latest[1] + 1 if state.latest else min(part.begun, default=1)
        times = part.numbered if base_known else part.as_told
        times[number] = max(times.get(number, 0.0), seconds)
        self._with_weights |= with_weights or (state.within and state.saved)
        self._with_validation |= state.within and state.tested
        state.latest, state.within = (base_known, number), False

    def tested(self, epoch: int, seconds: float) -> None:
        validation = self._parts[-1].validation
        validation[epoch] = max(validation.get(epoch, 0.0), seconds)

    def testing(self, rank: int) -> None:
        self._state(rank).tested = True

    def saving(self, rank: int) -> None:
        self._state(rank).saved = True

    def loss(self, rank: int, name: str, value: float) -> None:
        """Of the epoch whose time its rank has told, or of the one that goes on."""
        state = self._state(rank)
        latest = (True, self._parts[-1].last_begun) if state.within else state.latest
        if latest:
            self._parts[-1].losses.setdefault(latest, {}).setdefault(name, value)

    def facts(self) -> Facts:
        """Workers from the batch sizes, the lines of all ranks, or the prefixes; nodes from distinct hosts."""
        facts = Facts(
            global_batch_size=self._global_batch or None,
            batch_size=self._batch or None,
            train_events=self._train_events or None,
        )
        announced = sum(self._hosts.values())
        if self._global_batch and self._batch and self._global_batch % self._batch == 0:
            facts.workers = self._global_batch // self._batch
        elif announced > 1:
            # One line alone may be rank 0 speaking for all.
            facts.workers = announced
        elif self.ranks and max(self.ranks) > 0:
            facts.workers = max(self.ranks) + 1
        if announced == facts.workers:
            facts.nodes = len(self._hosts)
        return facts

    @property
    def resumed_epochs(self) -> int:
        parts = self._used()
        return min(parts[-1].seconds(), default=1) - 1 if len(parts) > 1 else 0

    @property
    def finished(self) -> bool:
        part = self._parts[-1]
        return bool(part.expected) and max(part.seconds(), default=0) >= part.expected

    def seconds(self) -> dict[int, float]:
        """Epoch (from 1) -> seconds; of a part that was restarted only what lies before the newer one."""
        merged: dict[int, float] = {}
        for part in self._used():
            newer = part.seconds()
            first = min(newer)
            merged = {number: lasted for number, lasted in merged.items() if number < first} | newer
        return merged

    def validation_seconds(self, epoch: int) -> float:
        return self._parts[-1].validation.get(epoch, math.nan)

    def losses(self, epoch: int) -> Mapping[str, float]:
        part = self._parts[-1]
        return part.losses.get((True, epoch), {}) | part.losses.get((False, epoch - part.shift), {})

    def said(self) -> list[str]:
        """Sentences on what the times hold and what was left out."""
        notes = list(self.notes)
        if self._with_weights:
            notes.append("The time of an epoch has the saving of the weights in it.")
        if self._with_validation:
            notes.append("The time of an epoch has the validation in it.")
        if any(part.validation for part in self._parts):
            notes.append("The time of a validation has the saving of the weights in it.")
        starts = len(self._used())
        if starts > 1:
            notes.append(f"The log holds {count(starts, 'start')}; only epochs of the newest are used.")
        missing = self._parts[-1].expected - max(self._parts[-1].seconds(), default=0)
        if missing > 0:
            notes.append(f"{count(missing, 'epoch')} of {self._parts[-1].expected} not in the log.")
        return notes

    def _used(self) -> list[_Part]:
        return [part for part in self._parts if part.numbered or part.as_told]

    def _restart(self) -> None:
        self._parts.append(_Part())
        self._states.clear()
        self._hosts.clear()
        self.ranks.clear()

    def _state(self, rank: int) -> _Rank:
        if rank not in self._states:
            self._states[rank] = _Rank(within=bool(self._parts[-1].begun))
        return self._states[rank]
