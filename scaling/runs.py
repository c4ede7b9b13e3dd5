"""What the rest of the package knows of a run, whatever kind of file it was read from.

Readers of files are in `parsers`, what is computed from runs in `metrics`. A number that a file does not tell is None
where it is a count and not-a-number where it is a time, so that tables carry it as missing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from scaling.records import Run, StepTimes

__all__ = ["MAY_DIFFER", "EpochTimes", "RunLog"]

MAY_DIFFER = frozenset(
    {
        *("epochs", "warmup_epochs", "learning_rate", "lr_scaling", "lr_schedule", "lr_decay", "seed"),
        *("data", "out", "resume", "config", "tensorboard", "workers_per_node", "bind"),
    }
)
"""Settings of this project's training that leave the work per event as it is, or follow from the size of the run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochTimes:
    """What is known of one epoch. Seconds are wall time."""

    epoch: int
    """Counted from 1, whatever the file counts from."""
    seconds: float
    """Training; with validation and checkpoint in it where the file cannot tell them apart (a note says so)."""
    events: int | None = None
    """Really processed over all ranks."""
    steps: int | None = None
    validation_seconds: float = math.nan
    checkpoint_seconds: float = math.nan
    input_seconds: float = math.nan
    """Waiting for events, mean over ranks; part of `seconds`."""
    communication_seconds: float = math.nan
    """Gradient exchange with the wait for slower ranks, mean over ranks; part of `seconds`."""
    negotiation_seconds: float = math.nan
    """Time in which a tensor waited until the last rank had it; overlaps with computing. Only timelines tell it; their
    exchange overlaps with computing, too."""
    slowest_ratio: float = math.nan
    """Computing time of the slowest rank over the median of all."""
    step_seconds: StepTimes | None = None
    rank_step_seconds: Sequence[float] = ()
    """Mean computing time of a step on each rank, in rank order."""
    losses: Mapping[str, float] = field(default_factory=dict)
    whole: bool = True
    """False for an epoch that was interrupted and continued: its seconds are of the last piece only."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunLog:
    """One run of one size, read."""

    source: str
    """The file, with the line or row where it holds several runs."""
    format: str
    """Name of the reader, such as `record` or `3dgan`."""
    workers: int
    """Ranks, replicas or GPUs: what the speed-up is counted over."""
    nodes: int | None = None
    cores_per_node: int | None = None
    """Physical cores, for core-hours."""
    batch_size: int | None = None
    """Events per worker and step."""
    global_batch_size: int | None = None
    train_events: int | None = None
    """Events that an epoch draws from."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """What must be equal in runs that are compared, as text. Readers leave out what is in `MAY_DIFFER` and what is a
    field here (batch sizes, events). `data files` holds the names and events of the files, without their folder.
    `communicator` is what exchanges the gradients; that of a single worker does not count."""
    epochs: Sequence[EpochTimes] = ()
    status: str = "unknown"
    """complete, interrupted, failed, or unknown where the file does not tell."""
    summary: bool = False
    """True where an entry of `epochs` stands for a whole run, such as the row of a table: there is no start-up epoch
    to skip."""
    resumed_epochs: int = 0
    """Epochs before the newest part of the run; those are not used."""
    notes: Sequence[str] = ()
    """Sentences for the reader of the report: lines that were skipped, times that could not be told apart."""
    record: Run | None = None
    """All of it, where this project wrote it: placement, losses, hosts."""
