"""What a rank does when it trains 3DGAN: check what the user gave, start TensorFlow and Horovod, report, train.

Joining and binding is done before, in `start`; the training itself is the package `gan`'s.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gan.errors import InputError
from gan.parallel import Communicator, Worker, agree, on_first, verify_same
from gan.quiet import remarks_held_back
from gan.settings import TrainingSettings
from gan.training.interruption import Interruption
from launcher.allocation import Allocation
from launcher.communicator import choose
from launcher.errors import LaunchError
from launcher.heartbeat import start_heartbeat
from launcher.output import write_to
from launcher.provenance import git_commit, library_versions, mpi_version
from launcher.start import BindSettings, gather_reports, join, tell, threads_record
from launcher.threads import ThreadPlan

if TYPE_CHECKING:
    from gan.data.showers import ShowerSet
    from gan.run.folder import RunFolder

__all__ = ["LaunchSettings", "train"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LaunchSettings:
    """How a training is run; what is trained is in `gan.settings`."""

    binding: BindSettings = field(default_factory=BindSettings)
    data: Sequence[str] = ()
    out: Path = Path("run")
    communicator: str = "auto"
    resume: bool = True
    dry_run: bool = False
    tensorboard: bool = False
    rank_logs: bool = True
    stop_before: float = 120.0
    """Seconds to leave before the end of the job."""


def train(settings: TrainingSettings, launch: LaunchSettings, allocation: Allocation) -> None:
    """The whole life of a rank that trains."""
    interruption = Interruption(job_end(os.environ), launch.stop_before)
    # From the first line: a signal that comes while TensorFlow loads must not kill the rank.
    with interruption.listening(), ExitStack() as held:
        start_heartbeat(allocation, os.environ)
        rank, communicator = join(allocation, launch.communicator, launch.binding)
        if launch.dry_run and not launch.data:
            tell(rank, *gather_reports(rank, communicator), communicator.name)
            return
        # Errors of the user's are found before TensorFlow is loaded, which takes seconds.
        showers = held.enter_context(_open_data(launch, communicator))
        made_of = library_versions()
        verify_same(communicator, rank.host, _common(settings, made_of, showers))
        folder = _check_data(settings, launch, showers, communicator, held, interruption)
        if launch.dry_run:
            tell(rank, *gather_reports(rank, communicator), communicator.name)
            return
        if launch.rank_logs and communicator.rank:
            write_to(folder.logs / f"{rank.host}-rank-{communicator.rank:04d}.log")
        with remarks_held_back():
            start_tensorflow(rank.threads)
        communicator, remark = choose(communicator, launch.communicator)
        if remark:
            rank.notes.append(remark)
        reports, warnings = gather_reports(rank, communicator)
        tell(rank, reports, warnings, communicator.name)
        worker = Worker(
            host=rank.host,
            placement=[report.as_dict() for report in reports],
            placement_warnings=warnings,
            threads=threads_record(rank.threads),
            versions={**made_of, "communicator": communicator.name, **mpi_version()},
            # Rank 0 writes the record; 512 ranks asking git would be a load of their own.
            git_commit=git_commit() if communicator.rank == 0 else "",
        )

        from gan.training.loop import Training

        training = agree(
            communicator,
            lambda: Training(
                settings,
                showers,
                folder,
                worker,
                communicator,
                tensorboard=launch.tensorboard,
                interruption=interruption,
            ),
        )
        training.run()


def job_end(environ: Mapping[str, str]) -> float | None:
    """When the batch system ends this job, in seconds since 1970, where it or `launcher run` says so.

    Raises LaunchError for a value that is no time.
    """
    text = environ.get("SLURM_JOB_END_TIME", "").strip()
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise LaunchError(f"SLURM_JOB_END_TIME is {text!r}, expected seconds since 1970; unset it") from None


def start_tensorflow(threads: ThreadPlan) -> None:
    """Load TensorFlow with the planned threads and let it start them, so that they can be looked at."""
    import tensorflow as tf

    tf.config.threading.set_inter_op_parallelism_threads(threads.inter_op)
    tf.config.threading.set_intra_op_parallelism_threads(threads.intra_op)
    square = tf.ones((512, 512))
    tf.function(lambda: tf.reduce_sum(square @ square), autograph=False)()


def _open_data(launch: LaunchSettings, communicator: Communicator) -> ShowerSet:
    from gan.data.showers import open_showers

    def look() -> ShowerSet:
        if not launch.data:
            raise InputError("no data given; name HDF5 files with --data, or make some with 'python -m gan simulate'")
        return open_showers(launch.data)

    return agree(communicator, look)


def _common(settings: TrainingSettings, made_of: Mapping[str, str], showers: ShowerSet) -> dict[str, str]:
    """What every rank must have in common with rank 0."""
    return {
        **{f"version of {name}": version for name, version in made_of.items()},
        **{f"--{name.replace('_', '-')}": str(value) for name, value in settings.as_dict().items()},
        "list of data files": ", ".join(file.path.name for file in showers.files),
        **{
            f"data file {file.path.name}": f"{file.events} events in {file.path.stat().st_size} bytes"
            for file in showers.files
        },
    }


def _check_data(
    settings: TrainingSettings,
    launch: LaunchSettings,
    showers: ShowerSet,
    communicator: Communicator,
    held: ExitStack,
    interruption: Interruption,
) -> RunFolder:
    """Look at energies, split and output folder once, on rank 0, for all ranks; rank 0 then holds the folder's lock."""
    from gan.data.feeding import Part, split_events
    from gan.run.folder import RunFolder
    from gan.run.lock import FolderLock

    folder = RunFolder(launch.out)

    def check() -> None:
        showers.energies()
        split = split_events(showers.events, settings)
        Part(
            train=split.train,
            batch_size=settings.batch_size,
            rank=0,
            size=communicator.size,
            seed=settings.seed,
        ).check()
        if launch.dry_run:
            return
        folder.make()
        held.enter_context(FolderLock(folder.path, lost=interruption.ask))
        files = [{"path": str(file.path), "events": file.events} for file in showers.files]
        folder.prepare(settings, files, resume=launch.resume)

    on_first(communicator, check)
    return folder
