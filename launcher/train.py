"""Train 3DGAN on one rank: check the data and settings, start TensorFlow and Horovod, print the placement, train.

`start` joins the ranks and binds them before. The training itself is in the package `gan`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gan.errors import InputError
from gan.parallel import Communicator, Worker, agree, on_first, verify_same
from gan.quiet import startup_messages_hidden
from gan.settings import TrainingSettings
from gan.training.interruption import Interruption
from launcher.allocation import Allocation
from launcher.communicator import choose
from launcher.errors import LaunchError
from launcher.guard import abort_job
from launcher.heartbeat import start_heartbeat
from launcher.output import console, write_to
from launcher.provenance import git_commit, library_versions, mpi_version
from launcher.start import BindSettings, gather_reports, join, print_placement, threads_record
from launcher.start_limit import StartLimit
from launcher.threads import ThreadPlan

if TYPE_CHECKING:
    from gan.data.showers import ShowerSet
    from gan.run.folder import RunFolder
    from gan.training.loop import Training

__all__ = ["LaunchSettings", "train"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LaunchSettings:
    """Files, communication and ranks of a training. `gan.settings` has the settings of the networks and the steps."""

    binding: BindSettings = field(default_factory=BindSettings)
    data: Sequence[str] = ()
    """Patterns or paths of HDF5 shower files."""
    out: Path = Path("run")
    """Folder for the record, the log and the checkpoints."""
    communicator: str = "auto"
    """Library that averages gradients: auto, horovod, mpi or none; see `communicator.choose`."""
    resume: bool = True
    """Whether to continue from the last checkpoint in `out`."""
    dry_run: bool = False
    """Whether to check and print everything, but train and write nothing."""
    tensorboard: bool = False
    """Whether to write TensorBoard summaries."""
    rank_logs: bool = True
    """Whether every rank but 0 writes its output to a file of its own."""
    checkpoint_every: float = 10.0
    """Minutes after which the training writes a checkpoint within an epoch; 0 for none."""
    hang_timeout: float = 10.0
    """Minutes without progress after which the run ends; 0 for never."""
    stop_before: float = 120.0
    """Seconds before the end of the job at which the training writes its last checkpoint and stops."""


def train(settings: TrainingSettings, launch: LaunchSettings, allocation: Allocation) -> None:
    """Run one rank from its start to the end of the training. All ranks call this together.

    Raises:
        LaunchError: the ranks cannot be joined, or cannot be placed or bound as the options say.
        InputError: data, settings or output folder cannot be used, or the training diverged.
    """
    interruption = Interruption(job_end(os.environ), launch.stop_before)
    # Listen from the start: a signal must not kill the rank while it loads TensorFlow.
    with interruption.listening(), ExitStack() as resources:
        start_heartbeat(allocation, os.environ)
        end = partial(abort_job, allocation, status=os.EX_TEMPFAIL)
        with StartLimit(60 * launch.hang_timeout, end) as start:
            training = _start(settings, launch, allocation, interruption, resources, start)
        if training:
            training.run()


def _start(
    settings: TrainingSettings,
    launch: LaunchSettings,
    allocation: Allocation,
    interruption: Interruption,
    resources: ExitStack,
    start: StartLimit,
) -> Training | None:
    """Do all that comes before the first epoch, and return the training; None after a dry run."""
    start.at("joining the other ranks", waits=True)
    rank, communicator = join(allocation, launch.communicator, launch.binding)
    if launch.dry_run and not launch.data:
        print_placement(rank, *gather_reports(rank, communicator), communicator.name)
        return None
    # Check the user's input before TensorFlow is loaded, because that takes seconds.
    start.at("opening the data, or waiting for ranks that do")
    showers = resources.enter_context(_open_data(launch, communicator))
    versions = library_versions()
    verify_same(communicator, rank.host, _common(settings, versions, showers))
    start.at("preparing --out, or waiting for rank 0 that does", waits=communicator.rank > 0)
    folder = _prepare_run(settings, launch, showers, communicator, resources, interruption)
    if launch.dry_run:
        print_placement(rank, *gather_reports(rank, communicator), communicator.name)
        return None
    if launch.rank_logs and communicator.rank:
        write_to(folder.logs / f"{rank.host}-rank-{communicator.rank:04d}.log")
    start.at("loading TensorFlow")
    with startup_messages_hidden():
        start_tensorflow(rank.threads)
    start.at("choosing the library that averages gradients, with the other ranks", waits=True)
    communicator, remark = choose(communicator, launch.communicator)
    if remark:
        rank.notes.append(remark)
    reports, warnings = gather_reports(rank, communicator)
    print_placement(rank, reports, warnings, communicator.name)
    worker = Worker(
        host=rank.host,
        placement=[report.as_dict() for report in reports],
        placement_warnings=warnings,
        threads=threads_record(rank.threads),
        versions={**versions, "communicator": communicator.name, **mpi_version()},
        # Only rank 0 writes the record, and 512 calls of git would slow down the file system.
        git_commit=git_commit() if communicator.rank == 0 else "",
    )

    from gan.training.loop import Training

    start.at("building the networks, or waiting for ranks that do")
    return agree(
        communicator,
        lambda: Training(
            settings,
            showers,
            folder,
            worker,
            communicator,
            tensorboard=launch.tensorboard,
            interruption=interruption,
            checkpoint_seconds=60 * launch.checkpoint_every or math.inf,
            hang_seconds=60 * launch.hang_timeout or math.inf,
            say=lambda text: print(text, file=console(), flush=True),
        ),
    )


def job_end(environ: Mapping[str, str]) -> float | None:
    """Return the time at which the batch system ends this job, in seconds since 1970; None if it is unknown.

    Slurm or `launcher run` sets SLURM_JOB_END_TIME.

    Raises:
        LaunchError: the value is not a time.
    """
    text = environ.get("SLURM_JOB_END_TIME", "").strip()
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise LaunchError(f"SLURM_JOB_END_TIME is {text!r}; expected seconds since 1970: unset it") from None


def start_tensorflow(threads: ThreadPlan) -> None:
    """Load TensorFlow and let it start the planned threads, so that their CPU masks can be checked."""
    import tensorflow as tf

    tf.config.threading.set_inter_op_parallelism_threads(threads.inter_op)
    tf.config.threading.set_intra_op_parallelism_threads(threads.intra_op)
    square = tf.ones((512, 512))
    tf.function(lambda: tf.reduce_sum(square @ square), autograph=False)()


def _open_data(launch: LaunchSettings, communicator: Communicator) -> ShowerSet:
    """Open the data on every rank. If one rank cannot, all ranks raise its InputError."""
    from gan.data.showers import open_showers

    def open_data() -> ShowerSet:
        if not launch.data:
            raise InputError("no data given; name HDF5 files with --data, or make some with 'python -m gan simulate'")
        return open_showers(launch.data)

    return agree(communicator, open_data)


def _common(settings: TrainingSettings, versions: Mapping[str, str], showers: ShowerSet) -> dict[str, str]:
    """Return the values that must be equal on all ranks. The keys are their names in an error message."""
    return {
        **{f"version of {name}": version for name, version in versions.items()},
        **{f"--{name.replace('_', '-')}": str(value) for name, value in settings.as_dict().items()},
        "list of data files": ", ".join(file.path.name for file in showers.files),
        **{
            f"data file {file.path.name}": f"{file.events} events in {file.path.stat().st_size} bytes"
            for file in showers.files
        },
    }


def _prepare_run(
    settings: TrainingSettings,
    launch: LaunchSettings,
    showers: ShowerSet,
    communicator: Communicator,
    resources: ExitStack,
    interruption: Interruption,
) -> RunFolder:
    """Check the events and claim the output folder on rank 0, and return the folder on all ranks.

    A dry run checks the events only. If rank 0 finds an error, all ranks raise it.
    """
    from gan.run.folder import RunFolder

    folder = RunFolder(launch.out)

    def prepare() -> None:
        nonlocal folder
        _check_events(settings, showers, communicator.size)
        if not launch.dry_run:
            folder = _claim_folder(launch.out, settings, showers, launch.resume, resources, interruption)

    on_first(communicator, prepare)
    return folder


def _check_events(settings: TrainingSettings, showers: ShowerSet, workers: int) -> None:
    """Check the energies of all events, and that there are enough events to train on.

    Raises:
        InputError: an energy cannot be read or used, or the training events are fewer than one global batch.
    """
    from gan.training.partition import partition

    showers.energies()
    partition(showers.events, settings, rank=0, size=workers)


def _claim_folder(
    path: Path,
    settings: TrainingSettings,
    showers: ShowerSet,
    resume: bool,
    resources: ExitStack,
    interruption: Interruption,
) -> RunFolder:
    """Make the output folder, lock it until `resources` is closed, and prepare it for this training.

    If another run takes over the lock during the training, this training stops and writes nothing more into the folder.

    Raises:
        InputError: the folder cannot be written, is in use, or belongs to a training with other settings or data.
    """
    from gan.run.folder import RunFolder
    from gan.run.lock import FolderLock

    RunFolder(path).make()
    lock = resources.enter_context(FolderLock(path, lost=interruption.ask))
    folder = RunFolder(path, lock.check)
    folder.prepare(settings, showers.described(), resume=resume)
    return folder
