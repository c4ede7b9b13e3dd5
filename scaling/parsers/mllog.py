"""Read MLPerf logs: lines of `:::MLLOG {json}`, from one or many ranks, between other output of a job.

An epoch lasts from the `epoch_start` of the first rank to the `epoch_stop` of the last rank, without evaluations during
the epoch. Some benchmarks log blocks of epochs (`block_start`, `epoch_count`): their times are means over each block.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scaling.parsers.blocks import Blocks, lines_at, places
from scaling.parsers.formats import Format, bounded, epochs_in_order, not_understood, run_log
from scaling.parsers.hints import Facts, Hints, complete
from scaling.records import RecordError
from scaling.records.wording import count
from scaling.runs import EpochTimes, RunLog

__all__ = ["FORMAT"]

_MARK = b":::MLLOG"
_RECORD = re.compile(rb':::MLLOG:? ?(\{[^\n]*?"key" ?: ?"([a-z0-9_]{1,80})"[^\n]*\})')
_BROKEN = re.compile(rb":::MLLOG(?!:? ?\{[^\n]*\})")
"""Pattern of a mark without an object after it."""
_KEY = b'"key"'
_WITHOUT_KEY = re.compile(rb':::MLLOG(?!:? ?\{[^\n]*?"key" ?: ?"[^\n]*\})')
"""Pattern of a mark without an object with a key. This search takes five times as long as `_BROKEN`."""
_COUNTS = {
    "number_of_ranks": "workers",
    "number_of_nodes": "nodes",
    "accelerators_per_node": "workers_per_node",
    "global_batch_size": "global_batch_size",
    "train_samples": "train_events",
}
_SETTINGS = {
    "submission_benchmark": "benchmark",
    "opt_name": "optimizer",
    "gradient_accumulation_steps": "accumulation",
}
_INTERVALS = {"epoch_start", "epoch_stop", "block_start", "block_stop", "eval_start", "eval_stop"}
_WANTED = {name.encode() for name in (*_COUNTS, *_SETTINGS, *_INTERVALS, "run_start", "run_stop")}
_MARKS = (
    *(b"epoch_st", b"block_st", b"eval_st", b"run_st", b"number_of_", b"accelerators_per_node"),
    *(b"global_batch_size", b"train_samples", b"submission_benchmark", b"opt_name", b"gradient_accumulation_steps"),
)
"""Texts that occur in the keys of `_WANTED`. They are few, because each one takes a search through the file."""
_decoder = json.JSONDecoder()


@dataclass(slots=True)
class _Span:
    """Times of an epoch or block in milliseconds."""

    start: float = math.inf
    """Earliest start on any rank."""
    stop: float = -math.inf
    """Latest stop on any rank."""
    evaluation: float = 0.0
    """Duration of evaluations between start and stop."""
    validation: float = 0.0
    """Duration of all evaluations, including evaluations after the stop."""
    epochs: int = 1
    """Number of epochs in the block."""

    @property
    def seconds(self) -> float:
        """Seconds without evaluations; not positive if the start or the stop is missing."""
        return (self.stop - self.start - self.evaluation) / 1000


@dataclass(slots=True)
class _Log:
    """Facts and times from the lines read up to now."""

    facts: Facts = field(default_factory=Facts)
    """Facts about the run."""
    spans: dict[str, dict[int, _Span]] = field(default_factory=lambda: {"epoch": {}, "block": {}})
    """Epochs and blocks by their numbers."""
    now: _Span | None = None
    """Epoch or block with the latest start; None before the first one."""
    evaluating: float | None = None
    """Start of the current evaluation in milliseconds."""
    status: str = "unknown"
    """Status of the run, as in `RunLog.status`."""
    wrong: int = 0
    """Number of lines that look like a record but cannot be read."""
    runs: int = 1
    """Number of runs in the file."""

    def line(self, line: bytes) -> None:
        """Add a line."""
        match = _RECORD.search(line)
        if match is None or match[2] not in _WANTED:
            return
        try:
            values, _ = _decoder.raw_decode(match[1].decode("utf-8"))
            self.event(values["key"], values["time_ms"], values.get("value"), values.get("metadata") or {})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self.wrong += 1

    def event(self, key: str, milliseconds: Any, value: Any, metadata: Mapping[str, Any]) -> None:
        """Add an event.

        Raises:
            ValueError, TypeError, KeyError: the event does not have the fields or values that its key needs.
        """
        if key in _COUNTS:
            setattr(self.facts, _COUNTS[key], _count(value))
        elif key in _SETTINGS:
            self.facts.settings[_SETTINGS[key]] = str(value)[:200]
        else:
            self.moment(key, _time(milliseconds), value, metadata)

    def moment(self, key: str, time: float, value: Any, metadata: Mapping[str, Any]) -> None:
        """Add a start or a stop. `time` is in milliseconds."""
        what, _, edge = key.partition("_")
        if key == "run_start":
            if any(span.stop > 0 for spans in self.spans.values() for span in spans.values()):
                self.spans, self.now, self.status = {"epoch": {}, "block": {}}, None, "unknown"
                self.runs += 1
        elif key == "run_stop":
            status = str(metadata.get("status", ""))
            self.status = {"success": "complete", "aborted": "failed"}.get(status, "unknown")
        elif what == "eval":
            self.evaluation(edge, time)
        elif edge == "start":
            span = self.spans[what].setdefault(self.number(what, value, metadata), _Span())
            span.start = min(span.start, time)
            span.epochs = _count(metadata.get("epoch_count", 1))
            self.now = span
        else:
            span = self.spans[what].setdefault(self.number(what, value, metadata), _Span())
            span.stop = max(span.stop, time)

    def evaluation(self, edge: str, time: float) -> None:
        """Add the start or stop of an evaluation. `time` is in milliseconds."""
        if edge == "start":
            # Use the start of the first rank. The other ranks start at almost the same time.
            self.evaluating = time if self.evaluating is None else self.evaluating
        elif self.evaluating is not None:
            lasted, self.evaluating = max(0.0, time - self.evaluating), None
            if self.now is not None and self.now.stop < self.now.start:
                self.now.evaluation += lasted
            if self.now is not None:
                self.now.validation += lasted

    def number(self, what: str, value: Any, metadata: Mapping[str, Any]) -> int:
        """Return the number of an epoch or block. Without a number in the event, it is the current or the next one.

        Raises:
            ValueError: the event has a number that is negative, too large, or not a number at all.
        """
        names = ("epoch_num", "first_epoch_num", "samples_count", "step")
        number = next((metadata[name] for name in names if name in metadata), value)
        if number is None:
            spans = self.spans[what]
            return max(spans, default=0) + (not spans or spans[max(spans)].stop >= spans[max(spans)].start)
        if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number < 2**53:
            raise ValueError(f"epoch number {number!r}")
        return int(number)


def _count(value: Any) -> int:
    """Return a value as a count of 1 or more. Raise ValueError if it is not one."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value < 2**53 or value != int(value):
        raise ValueError(f"{value!r} is not a count")
    return int(value)


def _time(value: Any) -> float:
    """Return a value as a time in milliseconds. Raise ValueError if it is not one."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
        raise ValueError(f"{value!r} is not a time")
    return float(value)


def _read(path: Path, hints: Hints) -> list[RunLog]:
    """Read the newest run in a log."""
    log, blocks = _Log(), Blocks(path)
    for block in blocks:
        if _MARK in block:
            looks = _BROKEN if block.count(_KEY) >= block.count(_MARK) else _WITHOUT_KEY
            log.wrong += len(looks.findall(block))
            for line in lines_at(places(_MARKS, block), block):
                log.line(line)
            bounded(path, sum(map(len, log.spans.values())))
    epochs, notes = _epochs(log)
    if not epochs:
        raise RecordError(
            f"{path}: no epoch in its {_MARK.decode()} lines has a start and a stop "
            f"({count(log.wrong, 'line')} cannot be read); expected epoch_start and epoch_stop, or block_start and "
            "block_stop. Let the run finish an epoch"
        )
    facts, more = complete(log.facts, path, hints, "the MLPerf log")
    if log.runs > 1:
        notes.append(f"The file contains {log.runs} runs; only the newest one is used.")
    return [
        run_log(
            str(path),
            FORMAT,
            facts,
            epochs=epochs_in_order(epochs),
            status=log.status,
            notes=(*more, *notes, *not_understood(log.wrong, "an MLLOG record"), *blocks.notes()),
        )
    ]


def _epochs(log: _Log) -> tuple[dict[int, EpochTimes], list[str]]:
    """Return the epochs of a log by their numbers from 1, and notes about them."""
    notes = []
    what = "epoch" if any(span.seconds > 0 for span in log.spans["epoch"].values()) else "block"
    spans = {number: span for number, span in sorted(log.spans[what].items()) if span.seconds > 0}
    if what == "block" and spans:
        notes.append("Times are means over the epochs of each block, because the benchmark logs only blocks.")
        if any(span.epochs == 1 for span in spans.values()):
            notes.append("A block without a number of epochs counts as one epoch.")
    if unfinished := len(log.spans[what]) - len(spans):
        notes.append(f"{count(unfinished, what)} without both a start and a stop left out.")
    # Some benchmarks count epochs from 0, and some number them by samples.
    numbers = {number: number + (0 in spans) for number in spans}
    if what == "block" or max(spans, default=0) > 10 * len(spans):
        numbers = {number: place for place, number in enumerate(spans, start=1)}
    epochs = {
        numbers[number]: EpochTimes(
            epoch=numbers[number],
            seconds=span.seconds / span.epochs,
            validation_seconds=span.validation / 1000 / span.epochs if span.validation else math.nan,
        )
        for number, span in spans.items()
    }
    return epochs, notes


FORMAT = Format(name="mllog", about="an MLPerf log (:::MLLOG)", occurs=lambda block: _MARK in block, read=_read)
