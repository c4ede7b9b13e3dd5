"""One rank from its first line to a bound process with its environment set: find out, agree, bind, prove.

The order matters. MPI comes before TensorFlow, so that a node's ranks can share out its cores; the environment and the
masks come before TensorFlow, because it reads them once; the report comes after its threads have started. What the rank
then does is the business of `train` and `become`.
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
    "report_of",
    "tell",
    "threads_record",
]

MPIRUN_SOURCES = ("Open MPI", "MPICH/Hydra", "Intel MPI")


@dataclass(frozen=True, kw_only=True, slots=True)
class BindSettings:
    """What a user may say about workers, their cores and their threads."""

    workers_per_node: int | None = None
    """Checked against what MPI started; None where the user said nothing."""
    inter_op: int | None = None
    intra_op: int | None = None
    bind: str = "auto"
    """auto, or none to leave cores and memory as they are."""


@dataclass(slots=True)
class Rank:
    """What a rank knows of itself once it is bound."""

    allocation: Allocation
    host: str
    local_rank: int
    topology: Topology
    placement: WorkerPlacement
    bound_by: str
    given: frozenset[int]
    threads: ThreadPlan
    notes: list[str]


def join(allocation: Allocation, choice: str, settings: BindSettings) -> tuple[Rank, Communicator]:
    """Join the other ranks over MPI, agree on the placement of this node and bind this process."""
    host = socket.gethostname()
    topology = read_topology()
    for name, value in mpi_variables(topology.core_count, allocation.local_size or 1).items():
        os.environ.setdefault(name, value)
    communicator = start_mpi(allocation, choice)
    everybody = communicator.allgather((host, format_cpu_list(os.sched_getaffinity(0))))
    node = [number for number, (name, _) in enumerate(everybody) if name == host]
    masks = [frozenset(parse_cpu_list(everybody[number][1])) for number in node]
    rank = bind_rank(allocation, settings, host, topology, node.index(communicator.rank), masks)
    rank.notes[:0] = check_local(settings, allocation, host, rank.local_rank, len(node))
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
        masks: CPUs that the ranks of this node came with, by local rank.
        tuned: whether thread counts that were measured on such nodes are taken (see `tuned`).
    """
    mine = masks[local_rank]
    given = given_cpus(masks, allocation.source in MPIRUN_SOURCES, topology)
    decision = decide(topology, masks, given)
    planned = decision.placement.workers[local_rank]
    notes: list[str] = []
    if settings.bind == "none" or decision.keep:
        placed = _as_found(planned, topology, mine)
        bound_by = _binder(allocation, mine, given)
    else:
        notes += decision.placement.warnings
        placed, bound_by = planned, bind(planned, len(topology.domains))
    found = find_tuned(restrict(topology, given), os.environ) if tuned else None
    if found and found.workers_per_node != len(masks):
        found = None
    threads = plan_threads(placed.cores, os.environ, settings.inter_op, settings.intra_op, found)
    notes += threads.warnings
    if allocation.promised_size > allocation.size:
        notes.append(
            f"the job asks Slurm for {allocation.promised_size} tasks, but this is one process without srun, ibrun or "
            "mpirun: one worker"
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
    """Set the plan's variables. What the user set is in the plan already and stays as it is."""
    for variable in threads.variables:
        environ[variable.name] = variable.value
    environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    environ.setdefault("KERAS_BACKEND", "tensorflow")


def report_of(rank: Rank) -> WorkerReport:
    """Read back from the kernel what this process is allowed now."""
    cpus = frozenset(os.sched_getaffinity(0))
    found = thread_masks()
    cores = [core for core in rank.topology.cores if cpus & set(core.cpus)]
    return WorkerReport(
        rank=rank.allocation.rank,
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


def check_local(
    settings: BindSettings, allocation: Allocation, host: str, local_rank: int, local_size: int
) -> list[str]:
    """Compare what the ranks found on this host with what the environment and the user said.

    Raises LaunchError for more workers than the user wants on a node.
    """
    notes = []
    if allocation.local_rank is not None and allocation.local_size not in (None, local_size):
        notes.append(
            f"{host}: {allocation.source} says {allocation.local_size} workers on this node, "
            f"{local_size} found each other"
        )
    wanted = settings.workers_per_node
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


def gather_reports(rank: Rank, communicator: Communicator) -> tuple[list[WorkerReport], list[str]]:
    """The reports of all workers and what is wrong with them, on rank 0; two empty lists elsewhere."""
    everybody = communicator.gather((report_of(rank), rank.notes))
    if everybody is None:
        return [], []
    reports = [report for report, _ in everybody]
    unique = list(dict.fromkeys(note for _, notes in everybody for note in notes))
    return reports, unique + placement_warnings(reports)


def tell(rank: Rank, reports: Sequence[WorkerReport], warnings: Sequence[str], gradients: str = "") -> None:
    """Print the placement report, on rank 0 alone."""
    if not reports:
        return
    print(render(reports, warnings))
    carried = f"Gradients: {gradients}; " if gradients else ""
    print(f"{carried}started by: {rank.allocation.source}; {_variables_line(rank.threads)}", flush=True)


def threads_record(threads: ThreadPlan) -> Mapping[str, Any]:
    return {
        "inter_op": threads.inter_op,
        "intra_op": threads.intra_op,
        "variables": {v.name: {"value": v.value, "origin": v.origin} for v in threads.variables},
    }


def _variables_line(threads: ThreadPlan) -> str:
    told = []
    for origin, title in (("user", "kept from your environment"), ("tuned", "tuned on such nodes")):
        if found := [f"{each.name}={each.value}" for each in threads.variables if each.origin == origin]:
            told.append(f"{title}: {' '.join(found)}")
    return "; ".join(told) or "threads and environment as planned"
