"""The division of the events: validation events, and the training events of each rank."""

from __future__ import annotations

from gan.data.feeding import Part, Split, split_events
from gan.settings import TrainingSettings

__all__ = ["partition"]


def partition(total: int, settings: TrainingSettings, *, rank: int, size: int) -> tuple[Split, Part]:
    """Split the events of the data files, and return this rank's part of the training events.

    Args:
        total: number of events in all files.
        settings: settings of the training.
        rank: number of this rank, from 0.
        size: number of ranks.

    Raises:
        InputError: there are too few events for the validation, or fewer than one global batch.
    """
    split = split_events(
        total, events=settings.events, validation_fraction=settings.validation_fraction, seed=settings.seed
    )
    # The virtual workers of a rank take neighbouring parts of the global batch.
    batch = settings.batch_size * settings.virtual_workers
    part = Part(train=split.train, batch_size=batch, rank=rank, size=size, seed=settings.seed)
    part.check()
    return split, part
