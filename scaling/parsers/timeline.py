"""Horovod timelines: how long tensors were exchanged, and how long they waited until all ranks had them.

Rank 0 writes one JSON array of begin and end events in which every tensor is a process: NEGOTIATE_* lasts from the
first rank that has the tensor to the last; within what follows MEMCPY_IN_*, the collective of MPI, Gloo, NCCL or oneCCL
and MEMCPY_OUT_* are communication. Tensors overlap, so that the time in which any of them is in a phase counts.

The events have no epochs: the whole span is one. There are few newlines and no end where the run was killed, so that
events are searched rather than parsed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from scaling.parsers.blocks import Blocks
from scaling.parsers.formats import Format, run_log
from scaling.parsers.hints import Facts, Hints, complete
from scaling.records import RecordError
from scaling.records.wording import count
from scaling.runs import EpochTimes, RunLog

__all__ = ["FORMAT"]

_TICK = re.compile(rb'"ph": "X", "name": "(\d{1,7})"')
_NEGOTIATION, _EXCHANGE, _OTHER = 0, 1, 2
_STARTS = {b"NEGO": _NEGOTIATION} | dict.fromkeys((b"MEMC", b"MPI_", b"GLOO", b"NCCL", b"CCL_", b"DDL_"), _EXCHANGE)
"""First four bytes of the names of phases; ALLREDUCE, QUEUE, INIT_FUSION_BUFFER and so on stand around them."""
_MOST_OPEN = 500_000
_MOST_DIGITS = 18
_BLOCKS_WITH_RANKS = 16
"""Blocks that are searched for ranks: every tensor's first negotiation names all of them."""


@dataclass(slots=True)
class _Events:
    """Begin and end events of a block in its order: arrays of one length."""

    begins: np.ndarray
    microseconds: np.ndarray
    tensors: np.ndarray
    kinds: np.ndarray
    """Of begin events."""
    wrong: int
    """Begin and end events without the fields that Horovod gives them."""


@dataclass(slots=True)
class _Timeline:
    """Phases that are open, and the time in which any tensor was in one. Microseconds."""

    open_tensors: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    open_kinds: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    active: list[int] = field(default_factory=lambda: [0, 0])
    """Tensors in each kind of phase, since `changed`."""
    changed: list[int] = field(default_factory=lambda: [0, 0])
    total: list[int] = field(default_factory=lambda: [0, 0])
    first: int | None = None
    last: int = 0
    wrong: int = 0

    def block(self, block: bytes) -> None:
        events = _events(block)
        self.wrong += events.wrong
        if not len(events.begins):
            return
        times = events.microseconds
        self.first = int(times.min()) if self.first is None else min(self.first, int(times.min()))
        self.last = max(self.last, int(times.max()))

        before = len(self.open_tensors)
        begins = np.concatenate([np.ones(before, bool), events.begins])
        tensors = np.concatenate([self.open_tensors, events.tensors])
        kinds = np.concatenate([self.open_kinds, events.kinds])
        ends, their_begins, still_open = _matched(begins, tensors)
        self.wrong += int((~begins).sum()) - len(ends)
        kinds[~begins] = _OTHER
        kinds[ends] = kinds[their_begins]
        self.open_tensors, self.open_kinds = tensors[still_open], kinds[still_open]
        for kind in (_NEGOTIATION, _EXCHANGE):
            self.add(kind, np.where(events.begins, 1, -1)[kinds[before:] == kind], times[kinds[before:] == kind])

    def add(self, kind: int, changes: np.ndarray, times: np.ndarray) -> None:
        """Take in that at `times` as many tensors more or fewer as `changes` are in a phase."""
        active = np.concatenate([[self.active[kind]], self.active[kind] + np.cumsum(changes)])
        lasted = np.diff(np.concatenate([[self.changed[kind]], times]))
        self.total[kind] += int(lasted[(active[:-1] > 0) & (lasted > 0)].sum())
        self.active[kind] = int(active[-1])
        if len(times):
            self.changed[kind] = int(times[-1])


def _events(block: bytes) -> _Events:
    """The begin and end events of a block, which Horovod writes in one fixed form:

    `{"ph": "B", "name": "NAME", "ts": 12, "pid": 3},` and `{"ph": "E", "ts": 12, "pid": 3},`, an end with arguments at
    times. The same bytes are looked at in all events at once, which parsing them one by one would take too long for.
    """
    text = np.frombuffer(block + bytes(64), np.uint8)
    at = np.flatnonzero(text[:-64] == ord("{"))
    phase = text[at + 8]
    at = at[(text[at + 2] == ord("p")) & (text[at + 3] == ord("h")) & ((phase == ord("B")) | (phase == ord("E")))]
    begins = text[at + 8] == ord("B")
    quotes = np.append(np.flatnonzero(text == ord('"')), len(text) - 64)
    # An end has its time where a begin has its name: past the quote that closes the phase or the name.
    name = at[begins] + 21
    closing = at + 9
    closing[begins] = quotes[np.minimum(np.searchsorted(quotes, name), len(quotes) - 1)]
    right = (text[closing + 4] == ord("t")) & (text[closing + 5] == ord("s")) & ~(begins & (text[at + 13] != ord("n")))
    times, after, numbers = _integers(text, closing + 9)
    right &= numbers & (text[after + 3] == ord("p")) & (text[after + 5] == ord("d"))
    tensors, _, numbers = _integers(text, np.minimum(after + 9, len(text) - 1))
    right &= numbers
    word = sum(text[name + i].astype(np.int64) << (8 * i) for i in range(4))
    phases = np.full(len(name), _OTHER)
    for start, kind in _STARTS.items():
        phases[word == int.from_bytes(start, "little")] = kind
    kinds = np.full(len(at), _OTHER)
    kinds[begins] = phases
    return _Events(
        begins=begins[right],
        microseconds=times[right],
        tensors=tensors[right],
        kinds=kinds[right],
        wrong=int((~right).sum()),
    )


def _integers(text: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The decimal numbers at places of a text that ends with 64 zeros; where they end; and whether there are any."""
    values, place = np.zeros(len(at), np.int64), np.minimum(at, len(text) - 32)
    start, going = place.copy(), np.ones(len(at), bool)
    for _ in range(_MOST_DIGITS):
        digit = text[place] - np.uint8(ord("0"))
        going &= digit < 10
        if not going.any():
            break
        values = np.where(going, values * 10 + digit, values)
        place = place + going
    return values, np.minimum(place, len(text) - 16), place > start


def _matched(begins: np.ndarray, tensors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of the ends that have a begin, of these begins, and of the begins without an end, in order.

    Phases of a tensor lie within each other: an end closes the begin before it at the same depth.
    """
    order = np.argsort(tensors, kind="stable")
    depth = np.cumsum(np.where(begins[order], 1, -1))
    new = np.flatnonzero(np.diff(tensors[order], prepend=tensors[order[0]] - 1))
    floor = np.repeat(np.concatenate([[0], depth[new[1:] - 1]]), np.diff(np.append(new, len(order))))
    level = np.empty(len(order), np.int64)
    level[order] = depth - floor + ~begins[order]
    order = np.lexsort((level, tensors))
    same = (np.diff(tensors[order]) == 0) & (np.diff(level[order]) == 0)
    pairs = np.flatnonzero(same & begins[order[:-1]] & ~begins[order[1:]])
    closed = np.zeros(len(begins), bool)
    closed[order[pairs]] = True
    return order[pairs + 1], order[pairs], np.flatnonzero(begins & ~closed)


def _read(path: Path, hints: Hints) -> list[RunLog]:
    timeline, blocks = _Timeline(), Blocks(path, separator=b"},")
    ends, ranks = b"", 0
    for number, block in enumerate(blocks):
        timeline.block(block)
        if number < _BLOCKS_WITH_RANKS:
            ranks = max([ranks, *(int(rank) + 1 for rank in set(_TICK.findall(block)))])
        if len(timeline.open_tensors) > _MOST_OPEN:
            raise RecordError(f"{path}: more phases are open at once than in a Horovod timeline; leave the file out")
        ends = block[-8:]
    if timeline.first is None or timeline.last <= timeline.first:
        raise RecordError(
            f"{path}: no events of a Horovod timeline in it; expected the file that HOROVOD_TIMELINE names, "
            "of a run that has exchanged tensors"
        )
    facts, notes = complete(Facts(workers=ranks or None), path, hints, "the Horovod timeline")
    span = (timeline.last - timeline.first) / 1e6
    negotiation, exchange = (microseconds / 1e6 for microseconds in timeline.total)
    notes.append(
        f"A timeline has no epochs: its {span:.4g} s count as one. Tensors waited for the last rank in "
        f"{negotiation / span:.1%} of it and were exchanged in {exchange / span:.1%}."
    )
    if not ends.rstrip().endswith(b"]"):
        notes.append("The timeline breaks off: the run was killed or goes on.")
    if timeline.wrong:
        notes.append(
            f"{count(timeline.wrong, 'event')} without the fields or the beginning that belong to it; left out."
        )
    return [
        run_log(
            str(path),
            FORMAT,
            facts,
            epochs=(
                EpochTimes(epoch=1, seconds=span, communication_seconds=exchange, negotiation_seconds=negotiation),
            ),
            notes=(*notes, *blocks.notes()),
            summary=True,
        )
    ]


def _begins(head: bytes, _hints: Hints) -> bool:
    return head.lstrip()[:1] == b"[" and b'"ph":' in head


FORMAT = Format(name="timeline", about="a Horovod timeline", begins=_begins, read=_read)
