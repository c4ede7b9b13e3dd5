"""Join the ranks over MPI, bind this one, set its environment and report its placement.

The order matters. MPI starts before TensorFlow, so that the ranks of a node can divide its cores. The environment and
the CPU masks are set before TensorFlow is loaded, because it reads them only once. The report is made after TensorFlow
has started its threads, so that it shows their masks too. `train` and `become` call these functions.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gan.parallel import Communicator
from launcher.allocation import Allocation
from launcher.binding import bind, decide, given_cpus, memory_policy, thread_masks
from launcher.communicator import start_mpi
from launcher.cpulist import format_cpu_list, parse_cpu_list
from launcher.errors import LaunchError
from launcher.placement import WorkerPlacement
from launcher.report import WorkerReport, placement_warnings, render
from launcher.residency import memory_by_domain
from launcher.threads import ThreadPlan, mpi_variables, plan_threads
from launcher.topology import Topology, read_topology, restrict
from launcher.tuned import find_tuned

__all__ = [
    "BindSettings",
    "Rank",
    "bind_rank",
    "check_local",
    "gather_reports",
    "join",
    "print_placement",
    "report_of",
    "threads_record",
]

MPIRUN_SOURCES = ("Open MPI", "MPICH/Hydra", "Intel MPI")
"""Values of `Allocation.source` for ranks that an mpirun started."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BindSettings:
    """Options of the user for workers, their cores and their threads. None means that the option is not given."""

    workers_per_node: int | None = None
    """Number of workers that MPI or Slurm should have started on each node."""
    inter_op: int | None = None
    """TensorFlow operations at the same time in a worker."""
    intra_op: int | None = None
    """Threads that share one operation."""
    bind: str = "auto"
    """auto to bind the workers, or none to change no binding."""


@dataclass(slots=True)
class Rank:
    """A rank after it is bound."""

    allocation: Allocation
    host: str
    local_rank: int
    """Number of this rank on its node, from 0, in the order of ranks."""
    topology: Topology
    """Topology of the whole node."""
    placement: WorkerPlacement
    bound_by: str
    """Binder of the rank: the launcher, or MPI or Slurm before the launcher started, or nobody."""
    given: frozenset[int]
    """CPUs that the job has on this node."""
    threads: ThreadPlan
    notes: list[str]
    """Warnings for the report."""


def join(allocation: Allocation, choice: str, settings: BindSettings) -> tuple[Rank, Communicator]:
    """Join the other ranks over MPI, place the workers of this node and bind this process.

    Args:
        choice: library that averages gradients, from `--communicator`.

    Raises:
        LaunchError: MPI cannot be used, or the options for the placement cannot be met.
    """
    host = socket.gethostname()
    topology = read_topology()
    for name, value in mpi_variables(topology.core_count, allocation.local_size or 1).items():
        os.environ.setdefault(name, value)
    communicator = start_mpi(allocation, choice)
    ranks = communicator.allgather((host, format_cpu_list(os.sched_getaffinity(0))))
    node = [number for number, (name, _) in enumerate(ranks) if name == host]
    masks = [frozenset(parse_cpu_list(ranks[number][1])) for number in node]
    rank = bind_rank(allocation, settings, host, topology, node.index(communicator.rank), masks)
    rank.notes[:0] = check_local(settings, allocation, host, len(node))
    return rank, communicator


def bind_rank(
    allocation: Allocation,
    settings: BindSettings,
    host: str,
    topology: Topology,
    local_rank: int,
    masks: Sequence[frozenset[int]],
    *,
    tuned: bool = True,
) -> Rank:
    """Bind this process to its share of the node and set its environment.

    Args:
        topology: topology of the whole node.
        local_rank: number of this rank on its node, from 0.
        masks: CPUs on which MPI or Slurm started each rank of the node, by local rank.
        tuned: whether to use the thread counts that `launcher tune` measured on such nodes.
    """
    mine = masks[local_rank]
    given = given_cpus(masks, allocation.source in MPIRUN_SOURCES, topology)
    decision = decide(topology, masks, given)
    planned = decision.placement.workers[local_rank]
    notes: list[str] = []
    if settings.bind == "none" or decision.keep:
        placed = _unchanged(planned, topology, mine)
        bound_by = _binder(allocation, mine, given)
    else:
        notes += decision.placement.warnings
        placed, bound_by = planned, bind(planned, len(topology.domains))
    stored = find_tuned(restrict(topology, given), os.environ) if tuned else None
    if stored and stored.workers_per_node != len(masks):
        stored = None
    threads = plan_threads(placed.cores, os.environ, settings.inter_op, settings.intra_op, stored)
    notes += threads.warnings
    if allocation.promised_size > allocation.size:
        notes.append(
            f"the Slurm job has {allocation.promised_size} tasks, but only one worker was started. Start the ranks "
            "with srun, ibrun or mpirun"
        )
    apply_environment(threads, os.environ)
    return Rank(
        allocation=allocation,
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
    """Set the variables of the plan. The plan contains the values that the user set, so they do not change."""
    for variable in threads.variables:
        environ[variable.name] = variable.value
    environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    environ.setdefault("KERAS_BACKEND", "tensorflow")


def report_of(rank: Rank) -> WorkerReport:
    """Make the placement report of this process: read from the kernel where the process and its threads may run now."""
    cpus = frozenset(os.sched_getaffinity(0))
    threads = thread_masks()
    cores = [core for core in rank.topology.cores if cpus & set(core.cpus)]
    domains = tuple(sorted({core.domain for core in cores}))
    memory = memory_by_domain()
    return WorkerReport(
        rank=rank.allocation.rank,
        local_rank=rank.local_rank,
        host=rank.host,
        cpus=tuple(sorted(cpus)),
        cores=len(cores),
        domains=domains,
        memory=memory_policy(),
        threads=len(threads.masks),
        threads_outside=threads.outside(cpus),
        inter_op=rank.threads.inter_op,
        intra_op=rank.threads.intra_op,
        bound_by=rank.bound_by,
        node_cpus=tuple(sorted(rank.given)),
        pid=os.getpid(),
        memory_bytes=sum(memory.values()),
        remote_bytes=sum(size for domain, size in memory.items() if domain not in domains),
    )


def check_local(settings: BindSettings, allocation: Allocation, host: str, local_size: int) -> list[str]:
    """Compare the number of ranks on this host with the environment and with --workers-per-node, and return warnings.

    Raises:
        LaunchError: there are more workers on this node than --workers-per-node.
    """
    notes = []
    if allocation.local_rank is not None and allocation.local_size not in (None, local_size):
        notes.append(
            f"{host}: {allocation.source} says that this node has {allocation.local_size} workers, but "
            f"{local_size} joined"
        )
    wanted = settings.workers_per_node
    if wanted is not None and local_size > wanted:
        raise LaunchError(
            f"{host}: {local_size} workers were started on this node, but --workers-per-node is {wanted}. Start them "
            f"with 'mpirun --map-by ppr:{wanted}:node' (Open MPI), 'mpirun -ppn {wanted}' (MPICH, Intel MPI) or "
            f"'srun --ntasks-per-node={wanted}'"
        )
    if wanted is not None and local_size < wanted:
        notes.append(f"{host}: {local_size} workers were started on this node, but --workers-per-node is {wanted}")
    return notes


def _unchanged(planned: WorkerPlacement, topology: Topology, mask: frozenset[int]) -> WorkerPlacement:
    """Return the placement of a rank that stays on the CPUs of its mask."""
    cores = [core for core in topology.cores if mask & set(core.cpus)]
    return replace(planned, cpus=tuple(sorted(mask)), cores=max(1, len(cores)))


def _binder(allocation: Allocation, mask: frozenset[int], given: frozenset[int]) -> str:
    """Return the name of what bound a rank, for a rank whose binding the launcher does not change."""
    if mask == given:
        return "nobody (whole node)"
    return allocation.source if allocation.source != "none" else "its parent process"


def gather_reports(rank: Rank, communicator: Communicator) -> tuple[list[WorkerReport], list[str]]:
    """Return the reports of all workers and the warnings about them on rank 0, and two empty lists elsewhere."""
    ranks = communicator.gather((report_of(rank), rank.notes))
    if ranks is None:
        return [], []
    reports = [report for report, _ in ranks]
    unique = list(dict.fromkeys(note for _, notes in ranks for note in notes))
    return reports, unique + placement_warnings(reports)


def print_placement(rank: Rank, reports: Sequence[WorkerReport], warnings: Sequence[str], gradients: str = "") -> None:
    """Print the placement report. Without reports, as on ranks other than 0, print nothing.

    Args:
        gradients: name of the library that averages gradients; empty without a training.
    """
    if not reports:
        return
    print(render(reports, warnings))
    exchange = f"Gradients: {gradients}; " if gradients else ""
    print(f"{exchange}started by: {rank.allocation.source}; {_variables_line(rank.threads)}", flush=True)


def threads_record(threads: ThreadPlan) -> Mapping[str, Any]:
    """Return the threads and their variables as values for the record of a run."""
    return {
        "inter_op": threads.inter_op,
        "intra_op": threads.intra_op,
        "variables": {v.name: {"value": v.value, "origin": v.origin} for v in threads.variables},
    }


def _variables_line(threads: ThreadPlan) -> str:
    """Return a text that names the variables from the environment or from `launcher tune`."""
    parts = []
    for origin, title in (("user", "kept from your environment"), ("tuned", "tuned on such nodes")):
        if values := [f"{each.name}={each.value}" for each in threads.variables if each.origin == origin]:
            parts.append(f"{title}: {' '.join(values)}")
    return "; ".join(parts) or "threads and environment as planned"
