"""Build the command lines that start the ranks, with one function for each MPI or batch system.

This module runs nothing. Every line starts the same number of workers on every node. If a starter can express the
placement, its line binds the ranks. Otherwise the line turns the starter's binding off, and the launcher in each rank
binds itself. The launcher also sets the variables for threads, because not every starter can.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from launcher.placement import Placement
from launcher.topology import Topology

__all__ = ["LAUNCH", "STARTERS", "Command", "ibrun", "intel_mpi", "mpich", "open_mpi", "srun"]

LAUNCH = ("python", "-m", "launcher")
"""Command of every rank. The options of the training follow it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """A command line that starts the ranks."""

    starter: str
    """Name of the MPI or batch system, as users see it."""
    argv: tuple[str, ...]
    """Words of the command line."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables that the command line needs."""
    binds: bool
    """True if this line binds the ranks to the placement's cores; otherwise the launcher does."""
    note: str = ""
    """Hint for users, such as a condition of the line; empty if there is none."""

    def text(self) -> str:
        """Return the line as one text for a shell, with the variables in front."""
        return shlex.join((*(f"{name}={value}" for name, value in self.environment.items()), *self.argv))


def open_mpi(topology: Topology, placement: Placement, nodes: int, launch: Sequence[str] = LAUNCH) -> Command:
    """Return an mpirun line for Open MPI 4 and 5.

    Open MPI can bind the ranks if every NUMA domain has the same number of ranks, all with the same number of whole
    cores. For any other placement the launcher binds.
    """
    per_node = len(placement.workers)
    start = ("mpirun", "-np", str(nodes * per_node), "--map-by")
    in_domain = Counter(worker.domain for worker in placement.workers)
    rank_counts, shares = set(in_domain.values()), {worker.cores for worker in placement.workers}
    even = len(in_domain) == len(topology.domains) and len(rank_counts) == len(shares) == 1
    if even and not placement.shared:
        mapping = f"ppr:{rank_counts.pop()}:numa:pe={shares.pop()}"
        return Command(starter="Open MPI", argv=(*start, mapping, "--bind-to", "core", *launch), binds=True)
    # Without ":oversubscribe" Open MPI refuses to start more ranks than cores.
    extra = ":oversubscribe" if per_node > topology.core_count else ""
    argv = (*start, f"ppr:{per_node}:node{extra}", "--bind-to", "none", *launch)
    return Command(starter="Open MPI", argv=argv, binds=False)


def intel_mpi(topology: Topology, placement: Placement, nodes: int, launch: Sequence[str] = LAUNCH) -> Command:
    """Return an mpirun line for Intel MPI, with an explicit mask for each local rank.

    Tests with impi-rt 2021 showed that local rank i gets mask i for any I_MPI_PIN_ORDER, and that masks need the prefix
    0x.
    """
    per_node = len(placement.workers)
    masks = ",".join(_masks(placement))
    return Command(
        starter="Intel MPI",
        argv=("mpirun", "-n", str(nodes * per_node), "-ppn", str(per_node), *launch),
        environment={"I_MPI_PIN": "1", "I_MPI_PIN_DOMAIN": f"[{masks}]"},
        binds=True,
    )


def mpich(topology: Topology, placement: Placement, nodes: int, launch: Sequence[str] = LAUNCH) -> Command:
    """Return an mpirun line for MPICH (Hydra). The launcher binds: Hydra would need an unreadably long list of CPUs."""
    per_node = len(placement.workers)
    argv = ("mpirun", "-n", str(nodes * per_node), "-ppn", str(per_node), "-bind-to", "none", *launch)
    return Command(starter="MPICH", argv=argv, binds=False)


def srun(
    topology: Topology,
    placement: Placement,
    nodes: int,
    launch: Sequence[str] = LAUNCH,
    mpi: str = "pmix",
) -> Command:
    """Return an srun line for Slurm, with an explicit mask for each local rank.

    Args:
        topology: topology of a node.
        placement: placement of the workers on a node.
        nodes: number of nodes.
        launch: command of every rank.
        mpi: interface between Slurm and the MPI: pmix for Open MPI, pmi2 for MPICH and Intel MPI.
    """
    per_node = len(placement.workers)
    argv = ["srun", f"--nodes={nodes}", f"--ntasks={nodes * per_node}", f"--ntasks-per-node={per_node}"]
    # Without this option the other ranks wait for a rank that has died.
    argv.append("--kill-on-bad-exit=1")
    if placement.shared:
        return Command(starter="Slurm", argv=(*argv, "--cpu-bind=none", f"--mpi={mpi}", *launch), binds=False)
    # With this option the step gets only this number of CPUs. On a part of a node, a mask may name a CPU that the step
    # does not have.
    sizes = [len(worker.cpus) for worker in placement.workers]
    if len(set(sizes)) == 1 and sum(sizes) == topology.cpu_count:
        argv.append(f"--cpus-per-task={sizes[0]}")
    argv += [f"--cpu-bind=mask_cpu:{','.join(_masks(placement))}", "--distribution=block:block"]
    # A worker in a domain without memory has no local memory.
    if all(worker.memory_domain == worker.domain for worker in placement.workers):
        argv.append("--mem-bind=local")
    note = "--mpi=pmix is for Open MPI; use --mpi=pmi2 for MPICH and Intel MPI" if mpi == "pmix" else ""
    return Command(starter="Slurm", argv=(*argv, f"--mpi={mpi}", *launch), binds=True, note=note)


def ibrun(topology: Topology, placement: Placement, nodes: int, launch: Sequence[str] = LAUNCH) -> Command:
    """Return an ibrun line, for TACC. ibrun takes the numbers of nodes and ranks from the job.

    The line has no -n, because ibrun accepts that option only together with an offset (-o).
    """
    ranks = nodes * len(placement.workers)
    note = f"run it in a job with #SBATCH -N {nodes} -n {ranks}"
    return Command(starter="TACC", argv=("ibrun", *launch), binds=False, note=note)


STARTERS: dict[str, Callable[[Topology, Placement, int, Sequence[str]], Command]] = {
    "open_mpi": open_mpi,
    "intel_mpi": intel_mpi,
    "mpich": mpich,
    "srun": srun,
    "ibrun": ibrun,
}
"""All builders by name. The arguments are topology and placement of a node, number of nodes, command of every rank."""


def _masks(placement: Placement) -> list[str]:
    """Return the CPU mask of each worker in hexadecimal, by local rank."""
    return [hex(sum(1 << cpu for cpu in worker.cpus)) for worker in placement.workers]
