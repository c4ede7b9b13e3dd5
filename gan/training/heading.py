"""The header of a record: what a part of a training says about itself before its first step."""

from __future__ import annotations

from collections.abc import Mapping

from gan.data.feeding import Split
from gan.data.showers import ShowerSet
from gan.parallel import Communicator, Worker
from gan.precision.formats import describe
from gan.settings import TrainingSettings
from gan.training.journal import now
from gan.training.state import Progress
from scaling.records import Header

__all__ = ["make_header"]


def make_header(
    settings: TrainingSettings,
    showers: ShowerSet,
    split: Split,
    worker: Worker,
    communicator: Communicator,
    *,
    global_batch: int,
    parameters: Mapping[str, int],
    progress: Progress,
) -> Header:
    """Return the header of a part of a training.

    Args:
        settings: settings of the training.
        showers: all its events.
        split: its training and validation events.
        worker: rank 0, with the placement of all ranks.
        communicator: exchange of the ranks.
        global_batch: events per step of all workers.
        parameters: number of parameters of each network.
        progress: position at the start of the part.
    """
    hosts = [str(row["host"]) for row in worker.placement] or [worker.host] * communicator.size
    return Header(
        started=now(),
        workers=communicator.size,
        nodes=len(set(hosts)),
        batch_size=settings.batch_size,
        global_batch_size=global_batch,
        train_events=len(split.train),
        validation_events=len(split.validation),
        settings=settings.as_dict(),
        communicator=communicator.name,
        hosts=hosts,
        placement=worker.placement,
        placement_warnings=worker.placement_warnings,
        versions=worker.versions,
        git_commit=worker.git_commit,
        precision=describe(settings.precision),
        threads=worker.threads,
        files=showers.described(),
        parameters=parameters,
        resumed_epochs=progress.epochs,
        resumed_steps=progress.steps,
    )
