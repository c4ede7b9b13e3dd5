"""MLPerf logs: `:::MLLOG {json}` lines amid whatever else the job has written, also from many ranks.

An epoch lasts from the first rank's `epoch_start` to the last one's `epoch_stop`; benchmarks that log blocks of
epochs (`block_start`, `epoch_count`) give a mean over each block. Evaluation within an epoch is taken out of it.
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
_KEY = b'"key"'
_WITHOUT_KEY = re.compile(rb':::MLLOG(?!:? ?\{[^\n]*?"key" ?: ?"[^\n]*\})')
"""The same and those that have no key, at a fifth of the speed."""
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
"""What the names of all that is wanted have in them: every further one costs a search through the file."""
_decoder = json.JSONDecoder()


@dataclass(slots=True)
class _Span:
    """Milliseconds of an epoch or block: earliest start and latest stop over ranks."""

    start: float = math.inf
    stop: float = -math.inf
    evaluation: float = 0.0
    """Within it."""
    validation: float = 0.0
    """After it."""
    epochs: int = 1

    @property
    def seconds(self) -> float:
        return (self.stop - self.start - self.evaluation) / 1000


@dataclass(slots=True)
class _Log:
    """What the lines have said so far."""

    facts: Facts = field(default_factory=Facts)
    spans: dict[str, dict[int, _Span]] = field(default_factory=lambda: {"epoch": {}, "block": {}})
    now: _Span | None = None
    """Started last."""
    evaluating: float | None = None
    status: str = "unknown"
    wrong: int = 0
    runs: int = 1

    def line(self, line: bytes) -> None:
        found = _RECORD.search(line)
        if found is None or found[2] not in _WANTED:
            return
        try:
            values, _ = _decoder.raw_decode(found[1].decode("utf-8"))
            self.event(values["key"], values["time_ms"], values.get("value"), values.get("metadata") or {})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self.wrong += 1

    def event(self, key: str, milliseconds: Any, value: Any, metadata: Mapping[str, Any]) -> None:
        """Take in an event. Raises ValueError, TypeError or KeyError where it is not what its key says."""
        if key in _COUNTS:
            setattr(self.facts, _COUNTS[key], _count(value))
        elif key in _SETTINGS:
            self.facts.settings[_SETTINGS[key]] = str(value)[:200]
        else:
            self.moment(key, _time(milliseconds), value, metadata)

    def moment(self, key: str, time: float, value: Any, metadata: Mapping[str, Any]) -> None:
        what, _, edge = key.partition("_")
        if key == "run_start":
            if any(span.stop > 0 for spans in self.spans.values() for span in spans.values()):
                self.spans, self.now, self.status = {"epoch": {}, "block": {}}, None, "unknown"
                self.runs += 1
        elif key == "run_stop":
            told = str(metadata.get("status", ""))
            self.status = {"success": "complete", "aborted": "failed"}.get(told, "unknown")
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
        if edge == "start":
            # The first rank's; the others start and stop within moments of it.
            self.evaluating = time if self.evaluating is None else self.evaluating
        elif self.evaluating is not None:
            lasted, self.evaluating = max(0.0, time - self.evaluating), None
            if self.now is not None and self.now.stop < self.now.start:
                self.now.evaluation += lasted
            if self.now is not None:
                self.now.validation += lasted

    def number(self, what: str, value: Any, metadata: Mapping[str, Any]) -> int:
        """Which epoch or block it is; those that carry no number follow each other."""
        names = ("epoch_num", "first_epoch_num", "samples_count", "step")
        told = next((metadata[name] for name in names if name in metadata), value)
        if told is None:
            spans = self.spans[what]
            return max(spans, default=0) + (not spans or spans[max(spans)].stop >= spans[max(spans)].start)
        if isinstance(told, bool) or not isinstance(told, int | float) or not 0 <= told < 2**53:
            raise ValueError(f"epoch number {told!r}")
        return int(told)


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value < 2**53 or value != int(value):
        raise ValueError(f"{value!r} is no count")
    return int(value)


def _time(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
        raise ValueError(f"{value!r} is no time")
    return float(value)


def _read(path: Path, hints: Hints) -> list[RunLog]:
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
            f"({log.wrong} lines cannot be read); expected epoch_start and epoch_stop, or block_start and block_stop"
        )
    facts, more = complete(log.facts, path, hints, "the MLPerf log")
    if log.runs > 1:
        notes.append(f"The file holds {log.runs} runs; the newest one is used.")
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
    notes = []
    what = "epoch" if any(span.seconds > 0 for span in log.spans["epoch"].values()) else "block"
    spans = {number: span for number, span in sorted(log.spans[what].items()) if span.seconds > 0}
    if what == "block" and spans:
        notes.append("Times are means over the epochs of each block, since the benchmark logs blocks.")
        if any(span.epochs == 1 for span in spans.values()):
            notes.append("A block without a number of epochs counts as one epoch.")
    if unfinished := len(log.spans[what]) - len(spans):
        notes.append(f"{count(unfinished, what)} without both a start and a stop left out.")
    # Some benchmarks count epochs from 0, some number them by samples.
    numbers = {told: told + (0 in spans) for told in spans}
    if what == "block" or max(spans, default=0) > 10 * len(spans):
        numbers = {told: place for place, told in enumerate(spans, start=1)}
    epochs = {
        numbers[told]: EpochTimes(
            epoch=numbers[told],
            seconds=span.seconds / span.epochs,
            validation_seconds=span.validation / 1000 / span.epochs if span.validation else math.nan,
        )
        for told, span in spans.items()
    }
    return epochs, notes


FORMAT = Format(name="mllog", about="an MLPerf log (:::MLLOG)", occurs=lambda block: _MARK in block, read=_read)
