"""The data of one run, in the same form for every log format.

`parsers` fill these classes, and `metrics` compute from them. If a log does not give a count, the count is None; if it
does not give a time, the time is not-a-number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from scaling.records import Run, StepTimes

__all__ = ["MAY_DIFFER", "MODES", "EpochTimes", "RunLog"]

MODES = ("fixed-local", "strong", "weak")
"""Kinds of scaling, by the quantities that do not change with the number of workers: the batch per worker and the data
set (fixed-local); the global batch and the data set (strong); the batch and the events per worker (weak)."""

MAY_DIFFER = frozenset(
    {
        *(
            "epochs",
            "warmup_epochs",
            "learning_rate",
            "lr_scaling",
            "lr_schedule",
            "lr_decay",
            "seed",
            "virtual_workers",
            "stop_when_dead",
        ),
        *("data", "out", "resume", "config", "tensorboard", "workers_per_node", "bind"),
    }
)
"""Settings of this project's training that may differ between compared runs: they follow from the size of the run, or
do not change the work per event."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochTimes:
    """Times and losses of one epoch. All times are wall time in seconds."""

    epoch: int
    """Number of the epoch, from 1 in every format."""
    seconds: float
    """Seconds of training. They include validation and checkpoint if the log does not separate them; a note says so."""
    events: int | None = None
    """Events processed by all ranks."""
    steps: int | None = None
    validation_seconds: float = math.nan
    checkpoint_seconds: float = math.nan
    input_seconds: float = math.nan
    """Seconds of waiting for events, mean over ranks; part of `seconds`."""
    communication_seconds: float = math.nan
    """Seconds of the gradient exchange, including the wait for slower ranks, mean over ranks; part of `seconds`."""
    negotiation_seconds: float = math.nan
    """Seconds in which tensors waited until every rank had them. Only timelines give this time. In a timeline, it and
    the exchange overlap with computing."""
    slowest_ratio: float = math.nan
    """Computing time of the slowest rank divided by the median of all ranks."""
    step_seconds: StepTimes | None = None
    rank_step_seconds: Sequence[float] = ()
    """Mean computing seconds of a step on each rank, in rank order."""
    losses: Mapping[str, float] = field(default_factory=dict)
    validation: Mapping[str, float] = field(default_factory=dict)
    """Figures of the validation by name, as in the record of this project."""
    whole: bool = True
    """False if the epoch was interrupted and continued. Its seconds then cover only the last part."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunLog:
    """One run on one number of workers, as read from a log."""

    source: str
    """Path of the log, with the line or row if the log holds several runs."""
    format: str
    """Name of the log format, such as `record` or `3dgan`."""
    workers: int
    """Number of ranks, replicas or GPUs. Speed-up and efficiency refer to it."""
    virtual_workers: int = 1
    """Number of workers whose batches each rank computes one after another. They count for the quality of the showers,
    not for the speed."""
    nodes: int | None = None
    cores_per_node: int | None = None
    """Number of physical cores of each node, used for core-hours."""
    batch_size: int | None = None
    """Events per worker and step."""
    global_batch_size: int | None = None
    """Events per step over all workers."""
    train_events: int | None = None
    """Number of events in the training data."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Settings that must be equal in compared runs, as text. Parsers omit the settings in `MAY_DIFFER` and those with a
    field here (batch sizes, events). `data files` holds the name and number of events of every file, without folders.
    `communicator` is the library of the gradient exchange; it is ignored for a single worker."""
    epochs: Sequence[EpochTimes] = ()
    status: str = "unknown"
    """Status: complete, interrupted, failed, or unknown if the log does not give it."""
    summary: bool = False
    """True if each entry of `epochs` stands for a whole run, such as a row of a table. There is then no start-up epoch
    to skip."""
    resumed_epochs: int = 0
    """Number of epochs before the last resume. They are not used."""
    notes: Sequence[str] = ()
    """Sentences for the reader of the report, for example about lines that were skipped."""
    record: Run | None = None
    """The complete record of a run of this project, with placement, losses and hosts."""

    @property
    def trained_workers(self) -> int:
        """Number of workers whose gradients were averaged, virtual ones included."""
        return self.workers * self.virtual_workers
