"""Records that a run writes about itself, and the meaning of their fields.

A run writes a header when it starts, one record per epoch, and an end. `lines` turns records into lines of JSON, and
`files` reads and writes the file `run.jsonl`. Times are wall time in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scaling.records.errors import RecordError

__all__ = ["SCHEMA", "STATUSES", "End", "Epoch", "Header", "StepTimes"]

SCHEMA = 1
"""Version of the schema. Increase it when a field changes its meaning, but not when a field is added."""

STATUSES = ("complete", "interrupted", "failed")
"""Values of `End.status`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """Record at the start of a run, and at each resume: settings, data, nodes and software.

    Raises:
        RecordError: a count is too small.
    """

    started: str
    """UTC time of the start, ISO 8601."""
    workers: int
    """Number of ranks."""
    nodes: int
    """Number of different hosts."""
    batch_size: int
    """Events per rank and step."""
    global_batch_size: int
    """Events per step over all ranks."""
    train_events: int
    """Number of training events. An epoch uses the largest multiple of the global batch size."""
    validation_events: int
    """Number of events that are held out for validation."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """All settings of the training by name, with defaults."""
    communicator: str = ""
    """Library that exchanges the gradients: horovod, mpi or none."""
    hosts: Sequence[str] = ()
    """Host name of each rank, in rank order."""
    placement: Sequence[Mapping[str, Any]] = ()
    """Placement of each rank, in rank order: its CPUs, physical cores, NUMA domains and threads."""
    placement_warnings: Sequence[str] = ()
    """Problems of the placement, one sentence each."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Versions of Python, the libraries and MPI, by name."""
    git_commit: str = ""
    """Commit of the source tree, with `+` if files were changed since. Empty if the source is not in a repository."""
    precision: Mapping[str, Any] = field(default_factory=dict)
    """`requested`: value of `--precision`. `computed`: the arithmetic in words. `native`: True if the processor has
    instructions for it."""
    threads: Mapping[str, Any] = field(default_factory=dict)
    """`inter_op`, `intra_op`: TensorFlow's thread counts. `variables`: environment variables by name, each with its
    value and origin (such as plan or user)."""
    files: Sequence[Mapping[str, Any]] = ()
    """Data files, each with its `path`, its number of `events`, and a digest of their `energies`."""
    parameters: Mapping[str, int] = field(default_factory=dict)
    """Number of parameters of each network, by its name."""
    resumed_epochs: int = 0
    """Number of epochs that were complete when this part of the run started."""
    resumed_steps: int = 0
    """Number of steps of the next epoch that were done when this part of the run started. It is above 0 after an
    interruption during an epoch."""

    def __post_init__(self) -> None:
        _at_least(1, self, "workers", "nodes", "batch_size", "global_batch_size")
        _at_least(0, self, "train_events", "validation_events", "resumed_epochs", "resumed_steps")


@dataclass(frozen=True, kw_only=True, slots=True)
class StepTimes:
    """Statistics of the time of a step, over all steps of an epoch and all ranks. NaN if no step was measured."""

    median: float
    """Median in seconds."""
    p95: float
    """95th percentile in seconds."""
    max: float
    """Longest step in seconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Epoch:
    """Results and times of one epoch.

    If an interruption split the epoch, this is the record of its last piece: see `resumed_steps`.

    Raises:
        RecordError: a count or the time is too small.
    """

    epoch: int
    """Number of the epoch, from 1."""
    seconds: float
    """Seconds of training on the slowest rank, without validation and checkpoint."""
    validation_seconds: float
    """Seconds of validation on rank 0."""
    checkpoint_seconds: float
    """Seconds of writing the checkpoint on rank 0."""
    input_seconds: float
    """Seconds of waiting for events, mean over the ranks. They are a part of `seconds`."""
    communication_seconds: float
    """Seconds between the end of the gradient computation and the arrival of the averaged gradients, mean over the
    ranks: the transfer, and the wait for slower ranks. They are a part of `seconds`."""
    events: int
    """Number of events that all ranks processed."""
    steps: int
    """Number of steps of the whole epoch."""
    learning_rate: float
    """Learning rate of the last step."""
    losses: Mapping[str, float]
    """Losses by name, mean over the steps of the whole epoch and over the ranks."""
    step_seconds: StepTimes
    """Seconds per step, including the wait for events and gradients."""
    slowest_rank: int
    """Number of the rank with the longest computing time, from 0."""
    slowest_host: str
    """Host name of the slowest rank."""
    slowest_ratio: float
    """Computing time of the slowest rank divided by the median of all ranks."""
    validation: Mapping[str, float] = field(default_factory=dict)
    """Losses and errors on the validation events by name. Empty without validation."""
    resumed_steps: int = 0
    """Number of steps of this epoch in an earlier part of the run. Times and `events` cover only the remaining
    steps."""
    slow_ranks: Sequence[Mapping[str, Any]] = ()
    """Ranks whose computing time is at least 1.2 times the median, slowest first: `rank`, `host` and `ratio`."""
    warnings: Sequence[str] = ()
    """Warnings that the networks do not learn, one sentence each. They began in this epoch."""
    rank_step_seconds: Sequence[float] = ()
    """Mean seconds of computing per step on each rank, in rank order. This excludes the wait for events and the
    exchange of gradients."""

    def __post_init__(self) -> None:
        _at_least(1, self, "epoch")
        _at_least(0, self, "seconds", "events", "steps", "resumed_steps")


@dataclass(frozen=True, kw_only=True, slots=True)
class End:
    """Record at the end of a run, or of a part of it. A run without an end record is running, or was killed.

    Raises:
        RecordError: the status is unknown.
    """

    status: str
    """Status: complete, interrupted or failed."""
    ended: str
    """UTC time of the end, ISO 8601."""
    seconds: float
    """Wall time in seconds from the header to the end."""
    epochs: int
    """Number of complete epochs, including epochs in earlier parts of the run."""
    steps: int = 0
    """Number of steps of the next epoch that the last checkpoint contains."""
    reached: int = 0
    """Number of steps of the next epoch that were complete. Those after `steps` are lost. Not in older records."""
    message: str = ""
    """Reason of an interruption or a failure."""

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise RecordError(f"status {self.status!r} is unknown; expected one of {', '.join(STATUSES)}")


def _at_least(bound: int, record: Any, *names: str) -> None:
    for name in names:
        if getattr(record, name) < bound:
            raise RecordError(f"{name} is {getattr(record, name)!r}; expected {bound} or more")
