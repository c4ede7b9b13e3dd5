"""One rank from its first line to the training: find out, agree, bind, prove, train.

The order matters. MPI comes before TensorFlow, so that a node's ranks can share out its cores; the environment and the
masks come before TensorFlow, because it reads them once; the report comes after its threads have started.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gan.errors import InputError
from gan.parallel import Communicator, Worker, agree, on_first
from gan.settings import TrainingSettings
from launcher.allocation import Allocation
from launcher.binding import bind, decide, given_cpus, memory_policy, thread_masks
from launcher.communicator import choose, start_mpi
from launcher.errors import LaunchError
from launcher.placement import WorkerPlacement
from launcher.provenance import git_commit, versions
from launcher.quiet import remarks_held_back
from launcher.report import WorkerReport, placement_warnings, render
from launcher.threads import ThreadPlan, mpi_variables, plan_threads
from launcher.topology import Topology, read_topology

__all__ = ["LaunchSettings", "train"]

MPIRUN_SOURCES = ("Open MPI", "MPICH/Hydra", "Intel MPI")


@dataclass(frozen=True, kw_only=True, slots=True)
class LaunchSettings:
    """How the workers are placed and how they speak; what they train is in `gan.settings`."""

    data: Sequence[str] = ()
    out: Path = Path("run")
    workers_per_node: int | None = None
    """Checked against what MPI started; None where the user said nothing."""
    inter_op: int | None = None
    intra_op: int | None = None
    communicator: str = "auto"
    bind: str = "auto"
    resume: bool = True
    dry_run: bool = False
    tensorboard: bool = False


@dataclass(slots=True)
class Rank:
    """What a rank knows of itself once it is bound."""

    allocation: Allocation
    communicator: Any
    host: str
    local_rank: int
    topology: Topology
    placement: WorkerPlacement
    bound_by: str
    given: frozenset[int]
    threads: ThreadPlan
    notes: list[str]


def train(settings: TrainingSettings, launch: LaunchSettings, allocation: Allocation) -> None:
    """The whole life of a rank."""
    rank = start_rank(launch, allocation)
    communicator = rank.communicator
    if launch.dry_run:
        _tell(communicator, rank, *_gather(rank, communicator))
        if launch.data:
            _check_data(settings, launch, communicator)
        return
    # Errors of the user's are found before TensorFlow is loaded, which takes seconds.
    _check_data(settings, launch, communicator)
    with remarks_held_back():
        start_tensorflow(rank.threads)
        communicator, remark = choose(communicator, launch.communicator)
    if remark:
        rank.notes.append(remark)
    reports, warnings = _gather(rank, communicator)
    _tell(communicator, rank, reports, warnings)

    from gan.runfolder import RunFolder
    from gan.showers import open_showers
    from gan.training import Training

    worker = Worker(
        host=rank.host,
        placement=[report.as_dict() for report in reports],
        placement_warnings=warnings,
        threads=_threads_record(rank.threads),
        versions=versions(communicator.name),
        # Rank 0 writes the record; 512 ranks asking git would be a load of their own.
        git_commit=git_commit() if communicator.rank == 0 else "",
    )
    with open_showers(launch.data) as showers:
        training = agree(
            communicator,
            lambda: Training(
                settings, showers, RunFolder(launch.out), worker, communicator, tensorboard=launch.tensorboard
            ),
        )
        training.run()


def start_rank(launch: LaunchSettings, allocation: Allocation) -> Rank:
    """Join the other ranks, agree on the placement of this node, bind this process and set its environment."""
    host = socket.gethostname()
    topology = read_topology()
    for name, value in mpi_variables(topology.core_count, allocation.local_size or 1).items():
        os.environ.setdefault(name, value)
    communicator = start_mpi(allocation, launch.communicator)
    masks = communicator.allgather((host, frozenset(os.sched_getaffinity(0))))
    node = [number for number, (name, _) in enumerate(masks) if name == host]
    local_rank = node.index(communicator.rank)
    notes = _check_local(launch, allocation, host, local_rank, len(node))
    mine = [masks[number][1] for number in node]
    given = given_cpus(mine, allocation.source in MPIRUN_SOURCES, topology)
    decision = decide(topology, mine, given)
    planned = decision.placement.workers[local_rank]
    if launch.bind == "none" or decision.keep:
        placed = _as_found(planned, topology, mine[local_rank])
        bound_by = _binder(allocation, mine[local_rank], given)
    else:
        notes += decision.placement.warnings
        placed, bound_by = planned, bind(planned, len(topology.domains))
    threads = plan_threads(placed.cores, os.environ, launch.inter_op, launch.intra_op)
    notes += threads.warnings
    if allocation.promised_size > allocation.size:
        notes.append(
            f"the job asks Slurm for {allocation.promised_size} tasks, but this is one process without srun, ibrun or "
            "mpirun: one worker"
        )
    apply_environment(threads, os.environ)
    return Rank(
        allocation=allocation,
        communicator=communicator,
        host=host,
        local_rank=local_rank,
        topology=topology,
        placement=placed,
        bound_by=bound_by,
        given=given,
        threads=threads,
        notes=notes,
    )


def apply_environment(threads: ThreadPlan, environ: MutableMapping[str, str]) -> None:
    """Set the plan's variables. What the user set is in the plan already and stays as it is."""
    for variable in threads.variables:
        environ[variable.name] = variable.value
    environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    environ.setdefault("KERAS_BACKEND", "tensorflow")


def start_tensorflow(threads: ThreadPlan) -> None:
    """Load TensorFlow with the planned threads and let it start them, so that they can be looked at."""
    import tensorflow as tf

    tf.config.threading.set_inter_op_parallelism_threads(threads.inter_op)
    tf.config.threading.set_intra_op_parallelism_threads(threads.intra_op)
    square = tf.ones((512, 512))
    tf.function(lambda: tf.reduce_sum(square @ square))()


def report_of(rank: Rank) -> WorkerReport:
    """Read back from the kernel what this process is allowed now."""
    cpus = frozenset(os.sched_getaffinity(0))
    found = thread_masks()
    cores = [core for core in rank.topology.cores if cpus & set(core.cpus)]
    return WorkerReport(
        rank=rank.communicator.rank,
        local_rank=rank.local_rank,
        host=rank.host,
        cpus=tuple(sorted(cpus)),
        cores=len(cores),
        domains=tuple(sorted({core.domain for core in cores})),
        memory=memory_policy(),
        threads=len(found.masks),
        threads_outside=found.outside(cpus),
        inter_op=rank.threads.inter_op,
        intra_op=rank.threads.intra_op,
        bound_by=rank.bound_by,
        node_cpus=tuple(sorted(rank.given)),
        pid=os.getpid(),
    )


def _check_data(settings: TrainingSettings, launch: LaunchSettings, communicator: Communicator) -> None:
    """Look at files, energies, split and output folder once, on rank 0, for all ranks."""
    from gan.feeding import Part, split_events
    from gan.runfolder import RunFolder
    from gan.showers import open_showers

    def check() -> None:
        if not launch.data:
            raise InputError("no data given; name HDF5 files with --data, or make some with 'python -m gan simulate'")
        with open_showers(launch.data) as showers:
            showers.energies()
            split = split_events(showers.events, settings)
            Part(
                train=split.train,
                batch_size=settings.batch_size,
                rank=0,
                size=communicator.size,
                seed=settings.seed,
            ).check()
            files = [{"path": str(file.path), "events": file.events} for file in showers.files]
        if not launch.dry_run:
            RunFolder(launch.out).prepare(settings, files, resume=launch.resume)

    on_first(communicator, check)


def _check_local(
    launch: LaunchSettings, allocation: Allocation, host: str, local_rank: int, local_size: int
) -> list[str]:
    """Compare what MPI's ranks found on this host with what the environment and the user said."""
    notes = []
    if allocation.local_rank is not None and allocation.local_size not in (None, local_size):
        notes.append(
            f"{host}: {allocation.source} says {allocation.local_size} workers on this node, "
            f"{local_size} found each other"
        )
    wanted = launch.workers_per_node
    if wanted is not None and local_size > wanted:
        raise LaunchError(
            f"{host}: {local_size} workers were started on this node, --workers-per-node is {wanted}. Start them with "
            f"'mpirun --map-by ppr:{wanted}:node' (Open MPI), 'mpirun -ppn {wanted}' (MPICH, Intel MPI) or "
            f"'srun --ntasks-per-node={wanted}'"
        )
    if wanted is not None and local_size < wanted:
        notes.append(f"{host}: {local_size} workers on this node, --workers-per-node is {wanted}")
    return notes


def _as_found(planned: WorkerPlacement, topology: Topology, mask: frozenset[int]) -> WorkerPlacement:
    cores = [core for core in topology.cores if mask & set(core.cpus)]
    return replace(planned, cpus=tuple(sorted(mask)), cores=max(1, len(cores)))


def _binder(allocation: Allocation, mask: frozenset[int], given: frozenset[int]) -> str:
    if mask == given:
        return "nobody (whole node)"
    return allocation.source if allocation.source != "none" else "who started it"


def _gather(rank: Rank, communicator: Communicator) -> tuple[list[WorkerReport], list[str]]:
    reports = communicator.allgather(report_of(rank))
    notes = communicator.allgather(rank.notes)
    unique = list(dict.fromkeys(note for several in notes for note in several))
    return reports, unique + placement_warnings(reports)


def _tell(communicator: Communicator, rank: Rank, reports: Sequence[WorkerReport], warnings: Sequence[str]) -> None:
    if communicator.rank != 0:
        return
    print(render(reports, warnings))
    print(
        f"Gradients: {communicator.name}; started by: {rank.allocation.source}; {_variables_line(rank.threads)}",
        flush=True,
    )


def _variables_line(threads: ThreadPlan) -> str:
    kept = [f"{variable.name}={variable.value}" for variable in threads.variables if variable.origin == "user"]
    return f"kept from your environment: {' '.join(kept)}" if kept else "threads and environment as planned"


def _threads_record(threads: ThreadPlan) -> Mapping[str, Any]:
    return {
        "inter_op": threads.inter_op,
        "intra_op": threads.intra_op,
        "variables": {v.name: {"value": v.value, "origin": v.origin} for v in threads.variables},
    }
