"""What a run says about itself: the records and their fields.

How they are written as lines is in `lines`, how lines stand in a file in `files`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scaling.records.errors import RecordError

__all__ = ["SCHEMA", "STATUSES", "End", "Epoch", "Header", "StepTimes"]

SCHEMA = 1
"""Version of the schema; it grows when a field changes its meaning, not when a field is added."""

STATUSES = ("complete", "interrupted", "failed")


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
    resumed_steps: int = 0
    """Steps of the next epoch that were done by then: not 0 after an interruption in the middle of one."""

    def __post_init__(self) -> None:
        _at_least(1, self, "workers", "nodes", "batch_size", "global_batch_size")
        _at_least(0, self, "train_events", "validation_events", "resumed_epochs", "resumed_steps")


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
    """Of the whole epoch."""
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
    resumed_steps: int = 0
    """Steps that an earlier part of the run had done. Times and events here are those of the rest; the losses are
    means over the whole epoch."""
    slow_ranks: Sequence[Mapping[str, Any]] = ()
    """Ranks whose computing time is 20% or more over the median of all: rank, host, ratio."""
    rank_step_seconds: Sequence[float] = ()
    """Mean computing time of a step on each rank, in rank order: without waiting for events or exchanging gradients."""

    def __post_init__(self) -> None:
        _at_least(1, self, "epoch")
        _at_least(0, self, "seconds", "events", "steps", "resumed_steps")


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
    steps: int = 0
    """Steps of the next epoch that the last checkpoint holds."""
    message: str = ""

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise RecordError(f"status {self.status!r} is unknown; expected one of {', '.join(STATUSES)}")


def _at_least(bound: int, record: Any, *names: str) -> None:
    for name in names:
        if getattr(record, name) < bound:
            raise RecordError(f"{name} is {getattr(record, name)!r}; expected {bound} or more")
