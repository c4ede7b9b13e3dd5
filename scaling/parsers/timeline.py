"""Read Horovod timelines: the time of exchanging tensors, and the time of waiting until all ranks have them.

Rank 0 writes one JSON array of begin and end events, in which every tensor is a process. The phase NEGOTIATE_* lasts
from the time when the first rank has the tensor until the last rank has it. After it come the phases of communication:
MEMCPY_IN_*, the collective operation (MPI, Gloo, NCCL or oneCCL) and MEMCPY_OUT_*. Phases of several tensors overlap,
so the time of a phase is the time in which at least one tensor is in it.

A timeline has no epochs: the whole file counts as one epoch. It has few newlines, and the end is missing if the run was
killed. Therefore this module searches for events instead of parsing JSON.
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
"""Kind of a phase by the first four bytes of its name. Other phases, such as ALLREDUCE or QUEUE, contain these
phases."""
_MOST_OPEN = 500_000
"""Largest number of phases that are open at a time. This limits the memory."""
_MOST_DIGITS = 18
"""Largest number of digits of a number."""
_BLOCKS_WITH_RANKS = 16
"""Number of blocks that are searched for ranks. The first negotiation of each tensor contains all ranks."""


@dataclass(slots=True)
class _Events:
    """Begin and end events of a block, in order. The arrays have the shape (events,)."""

    begins: np.ndarray
    """True for begin events, False for end events."""
    microseconds: np.ndarray
    """Time of each event in microseconds."""
    tensors: np.ndarray
    """Number of the tensor of each event."""
    kinds: np.ndarray
    """Kind of phase of each begin event; `_OTHER` for end events."""
    wrong: int
    """Number of begin and end events that do not have the fields that Horovod writes."""


@dataclass(slots=True)
class _Timeline:
    """Open phases, and the time with at least one tensor in a phase.

    Lists have one entry for negotiation and one for exchange.
    """

    open_tensors: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    """Tensor of each open phase, in the order of their begins."""
    open_kinds: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    """Kind of each open phase."""
    active: list[int] = field(default_factory=lambda: [0, 0])
    """Number of tensors in each kind of phase."""
    changed: list[int] = field(default_factory=lambda: [0, 0])
    """Time of the last change of `active` in microseconds."""
    total: list[int] = field(default_factory=lambda: [0, 0])
    """Time with at least one tensor in each kind of phase, in microseconds."""
    first: int | None = None
    """Time of the first event in microseconds."""
    last: int = 0
    """Time of the last event in microseconds."""
    wrong: int = 0
    """Number of events with missing fields, and of end events without a begin event."""

    def block(self, block: bytes) -> None:
        """Add the events of a block."""
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
        """Add changes of the number of tensors in a kind of phase: 1 or -1 at each of `times`, in microseconds."""
        active = np.concatenate([[self.active[kind]], self.active[kind] + np.cumsum(changes)])
        lasted = np.diff(np.concatenate([[self.changed[kind]], times]))
        self.total[kind] += int(lasted[(active[:-1] > 0) & (lasted > 0)].sum())
        self.active[kind] = int(active[-1])
        if len(times):
            self.changed[kind] = int(times[-1])


def _events(block: bytes) -> _Events:
    """Return the begin and end events of a block.

    Horovod writes them in a fixed form: `{"ph": "B", "name": "NAME", "ts": 12, "pid": 3},` and
    `{"ph": "E", "ts": 12, "pid": 3},`. Some ends have arguments. This function compares the same bytes of all events at
    once, because it would take too long to parse the events one by one.
    """
    text = np.frombuffer(block + bytes(64), np.uint8)
    at = np.flatnonzero(text[:-64] == ord("{"))
    phase = text[at + 8]
    at = at[(text[at + 2] == ord("p")) & (text[at + 3] == ord("h")) & ((phase == ord("B")) | (phase == ord("E")))]
    begins = text[at + 8] == ord("B")
    quotes = np.append(np.flatnonzero(text == ord('"')), len(text) - 64)
    # The time comes after the closing quote of the name (begin event) or of the phase (end event).
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
    """Return the decimal numbers at positions `at` of a text, the positions after them, and whether one is there.

    The text must end with 64 zero bytes.
    """
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
    """Match end events with their begins.

    Phases of a tensor are nested: an end event belongs to the last begin event before it at the same depth.

    Args:
        begins: True for begin events, False for end events, (events,).
        tensors: number of the tensor of each event, (events,).

    Returns:
        Indices of the ends that have a begin, of their begins, and of the begins without an end, in order.
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
    """Read a timeline as a run of one epoch."""
    timeline, blocks = _Timeline(), Blocks(path, separator=b"},")
    ends, ranks = b"", 0
    for number, block in enumerate(blocks):
        timeline.block(block)
        if number < _BLOCKS_WITH_RANKS:
            ranks = max([ranks, *(int(rank) + 1 for rank in set(_TICK.findall(block)))])
        if len(timeline.open_tensors) > _MOST_OPEN:
            raise RecordError(
                f"{path}: more than {_MOST_OPEN:,} phases are open at the same time; expected a Horovod timeline. "
                "Leave the file out"
            )
        ends = block[-8:]
    if timeline.first is None or timeline.last <= timeline.first:
        raise RecordError(
            f"{path}: the file contains no events of a Horovod timeline; expected the file in HOROVOD_TIMELINE of a "
            "run that has exchanged tensors. Leave it out"
        )
    facts, notes = complete(Facts(workers=ranks or None), path, hints, "the Horovod timeline")
    span = (timeline.last - timeline.first) / 1e6
    negotiation, exchange = (microseconds / 1e6 for microseconds in timeline.total)
    notes.append(
        f"A timeline has no epochs: its {span:.4g} s count as one. Tensors waited for the last rank during "
        f"{negotiation / span:.1%} of this time and were exchanged during {exchange / span:.1%}."
    )
    if not ends.rstrip().endswith(b"]"):
        notes.append("The timeline has no end: the run was killed or is still going on.")
    if timeline.wrong:
        notes.append(f"{count(timeline.wrong, 'event')} without the usual fields, or without a begin; left out.")
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
    """Return True if a text is a JSON array of trace events."""
    return head.lstrip()[:1] == b"[" and b'"ph":' in head


FORMAT = Format(name="timeline", about="a Horovod timeline", begins=_begins, read=_read)
