"""The schema of what a run says about itself: one JSON object a line in `run.jsonl`.

A record file holds one header, one line per epoch and one end line; a resumed run appends a further header.
This module knows how lines are written and read and nothing of who measures or who computes with them.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TextIO, get_args, get_origin, get_type_hints

__all__ = ["SCHEMA", "End", "Epoch", "Header", "RecordError", "RecordWriter", "Run", "StepTimes", "read_run"]

SCHEMA = 1
"""Version of the schema; it grows when a field changes its meaning, not when a field is added."""

STATUSES = ("complete", "interrupted", "failed")


class RecordError(ValueError):
    """A record file cannot be read; the message says which line, what was seen and what was expected."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """What was started, where and on how much."""

    started: str
    """UTC time of the start, ISO 8601."""
    workers: int
    """Number of ranks."""
    nodes: int
    """Number of distinct hosts."""
    batch_size: int
    """Events per worker and step."""
    global_batch_size: int
    """Events per step over all workers."""
    train_events: int
    """Events that one epoch draws from; an epoch processes the largest multiple of the global batch in it."""
    validation_events: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The training's settings as given, after defaults."""
    communicator: str = ""
    """horovod, mpi or none."""
    hosts: Sequence[str] = ()
    """Host of every rank, in rank order."""
    placement: Sequence[Mapping[str, Any]] = ()
    """The placement report: a mapping per rank."""
    placement_warnings: Sequence[str] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    git_commit: str = ""
    precision: Mapping[str, Any] = field(default_factory=dict)
    """What was asked and whether the processor computes it natively."""
    threads: Mapping[str, Any] = field(default_factory=dict)
    """Thread counts and environment variables, each with its origin (plan or user)."""
    files: Sequence[Mapping[str, Any]] = ()
    """The data files with their number of events."""
    parameters: Mapping[str, int] = field(default_factory=dict)
    """Number of parameters of each network."""
    resumed_epochs: int = 0
    """Epochs that were complete already when this part of the run began."""

    def __post_init__(self) -> None:
        _at_least(1, self, "workers", "nodes", "batch_size", "global_batch_size")
        _at_least(0, self, "train_events", "validation_events", "resumed_epochs")


@dataclass(frozen=True, kw_only=True, slots=True)
class StepTimes:
    """Seconds of a step over all steps of an epoch and all ranks."""

    median: float
    p95: float
    max: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Epoch:
    """One epoch. Seconds are wall time on the slowest rank unless a field says otherwise."""

    epoch: int
    """Counted from 1."""
    seconds: float
    """Training only: no validation, no checkpoint."""
    validation_seconds: float
    checkpoint_seconds: float
    input_seconds: float
    """Time spent waiting for events, mean over ranks; part of `seconds`."""
    communication_seconds: float
    """Time from the gradients being ready to their average being there, mean over ranks: transport and
    waiting for slower ranks; part of `seconds`."""
    events: int
    """Events really processed, over all ranks."""
    steps: int
    learning_rate: float
    """At the last step of the epoch."""
    losses: Mapping[str, float]
    """Means over the epoch and over ranks."""
    step_seconds: StepTimes
    slowest_rank: int
    slowest_host: str
    slowest_ratio: float
    """Computing time of the slowest rank over the median of all ranks."""
    validation: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _at_least(1, self, "epoch")
        _at_least(0, self, "seconds", "events", "steps")


@dataclass(frozen=True, kw_only=True, slots=True)
class End:
    """How the run, or this part of it, ended. Without it the run is going on or was killed."""

    status: str
    """complete, interrupted or failed."""
    ended: str
    seconds: float
    """Wall time from the header to the end."""
    epochs: int
    """Epochs complete by now, those before a resume included."""
    message: str = ""

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise RecordError(f"status {self.status!r} is unknown; expected one of {', '.join(STATUSES)}")


_KINDS: dict[str, type] = {"header": Header, "epoch": Epoch, "end": End}


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A record file, read. After a resume `header` is the newest one, and epochs after the checkpoint that it
    began from are left out: an epoch run twice counts once, the newest."""

    path: Path
    header: Header
    epochs: Sequence[Epoch]
    end: End | None
    parts: int = 1
    """Number of headers: 1 plus the number of resumes."""
    truncated: bool = False
    """True where the last line was cut off by a killed writer; the line is left out."""

    @property
    def complete(self) -> bool:
        return self.end is not None and self.end.status == "complete"


class RecordWriter:
    """Appends records to a file, each line whole and on disk before the call returns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        _drop_partial_line(path)
        self._file: TextIO = path.open("a", encoding="utf-8")

    def write(self, record: Header | Epoch | End) -> None:
        self._file.write(to_line(record) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def to_line(record: Header | Epoch | End) -> str:
    """The JSON line of a record. Numbers that are not finite become null, since JSON has none."""
    kind = next(name for name, cls in _KINDS.items() if isinstance(record, cls))
    fields = {f.name: _plain(getattr(record, f.name)) for f in dataclasses.fields(record)}
    return json.dumps({"record": kind, "schema": SCHEMA, **fields}, allow_nan=False)


def from_line(line: str) -> Header | Epoch | End:
    """The record of a line. Unknown fields are passed over, so that newer files with more fields can be read.

    Raises:
        RecordError: the line is not JSON, of an unknown kind or newer schema, or lacks a field.
    """
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"not a JSON object: {error}") from error
    if not isinstance(values, dict) or values.get("record") not in tuple(_KINDS):
        raise RecordError(f"expected an object with 'record' one of {', '.join(_KINDS)}; saw {line[:80]!r}")
    if values.get("schema") != SCHEMA:
        raise RecordError(f"schema {values.get('schema')!r} is not the {SCHEMA} that this version reads")
    record: Header | Epoch | End = _build(_KINDS[values["record"]], values)
    return record


def read_run(path: Path) -> Run:
    """Read a record file (or the `run.jsonl` of a folder).

    A last line without its newline is what a killed writer leaves: it is dropped and `truncated` set.

    Raises:
        RecordError: the file is missing, empty, or a whole line in it is no record.
    """
    path = path / "run.jsonl" if path.is_dir() else path
    try:
        content, _, rest = path.read_bytes().rpartition(b"\n")
        lines = content.decode("utf-8").split("\n") if content else []
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{path}: cannot be read ({error}); expected the run.jsonl of a run") from error
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(from_line(line))
        except RecordError as error:
            raise RecordError(f"{path}, line {number}: {error}") from error
    if not records or not isinstance(records[0], Header):
        raise RecordError(f"{path}: does not begin with a header; expected the run.jsonl of a started run")
    headers: list[Header] = []
    epochs: dict[int, Epoch] = {}
    for record in records:
        if isinstance(record, Header):
            headers.append(record)
            epochs = {number: epoch for number, epoch in epochs.items() if number <= record.resumed_epochs}
        elif isinstance(record, Epoch):
            epochs[record.epoch] = record
    return Run(
        path=path,
        header=headers[-1],
        epochs=tuple(epochs[number] for number in sorted(epochs)),
        end=record if isinstance(record, End) else None,
        parts=len(headers),
        truncated=bool(rest),
    )


def _at_least(bound: int, record: Any, *names: str) -> None:
    for name in names:
        if getattr(record, name) < bound:
            raise RecordError(f"{name} is {getattr(record, name)!r}; expected {bound} or more")


_type_hints = functools.cache(get_type_hints)


def _build(cls: type, values: Mapping[str, Any]) -> Any:
    """An instance of the record class `cls` from the values of a JSON object."""
    absent = (f for f in dataclasses.fields(cls) if f.name not in values)
    if missing := [f.name for f in absent if f.default is f.default_factory is dataclasses.MISSING]:
        raise RecordError(f"{cls.__name__} record lacks {', '.join(missing)}")
    kinds = _type_hints(cls)
    return cls(**{name: _typed(name, kinds[name], values[name]) for name in kinds if name in values})


def _typed(name: str, kind: Any, value: Any) -> Any:
    """A JSON value as the type of the field `name`; null stands for the number that JSON cannot write."""
    origin = get_origin(kind) or kind
    if origin is float and (value is None or type(value) is float):
        return math.nan if value is None else value
    # An integer of more than 64 bits is no count, and would overflow in a table.
    if origin in (int, float) and type(value) is int and abs(value) < 2**63:
        return origin(value)
    if origin is str and isinstance(value, str):
        return value
    if kind is StepTimes and isinstance(value, dict):
        return _build(StepTimes, value)
    if origin is Mapping and isinstance(value, dict):
        inner = get_args(kind)[1]
        return {k: _typed(f"{name}.{k}", float, v) for k, v in value.items()} if inner is float else value
    if origin is Sequence and isinstance(value, list):
        return tuple(_typed(f"{name}[{i}]", get_args(kind)[0], v) for i, v in enumerate(value))
    saw = f"a {type(value).__name__}" if isinstance(value, (dict, list)) else repr(value)[:80]
    raise RecordError(f"{name} is {saw}; expected {origin.__name__}")


def _plain(value: Any) -> Any:
    """A value as `json` writes it; NumPy's numbers and paths occur in settings and losses."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Real) and not isinstance(value, bool):
        if isinstance(value, Integral):
            return int(value)
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _drop_partial_line(path: Path) -> None:
    """Cut off what a killed writer left, so that the next record begins on a line of its own."""
    if path.exists():
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)
