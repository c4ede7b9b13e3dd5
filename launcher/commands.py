"""Builds the command lines that start the ranks, one function for each MPI or batch system. Pure: nothing
is run.

Every line starts the same number of workers on every node. Where a starter can express the placement, its
line binds the ranks as the placement says; where it cannot, the line asks it not to bind and the launcher,
which each rank runs, does it. Threads and their variables are not on the lines either, for the same reason.
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
"""What every rank runs; options of the training follow it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """A command line and what must be in the environment when it is run."""

    starter: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    binds: bool
    """Whether this line binds the ranks to the placement's cores; if not, the launcher does."""
    note: str = ""
    """What the line needs around it."""

    def text(self) -> str:
        """The line for a shell, with its variables before it."""
        return shlex.join((*(f"{name}={value}" for name, value in self.environment.items()), *self.argv))


def open_mpi(topology: Topology, placement: Placement, nodes: int, launch: Sequence[str] = LAUNCH) -> Command:
    """mpirun of Open MPI 4 and 5, which can give every NUMA domain the same number of ranks with whole cores.

    Any other placement is left to the launcher.
    """
    per_node = len(placement.workers)
    start = ("mpirun", "-np", str(nodes * per_node), "--map-by")
    in_domain = Counter(worker.domain for worker in placement.workers)
    counts, shares = set(in_domain.values()), {worker.cores for worker in placement.workers}
    even = len(in_domain) == len(topology.domains) and len(counts) == len(shares) == 1
    if even and not _shared(placement):
        mapping = f"ppr:{counts.pop()}:numa:pe={shares.pop()}"
        return Command(starter="Open MPI", argv=(*start, mapping, "--bind-to", "core", *launch), binds=True)
    # One slot a core is the default: more ranks than that are refused unless it is allowed.
    crowd = ":oversubscribe" if per_node > topology.core_count else ""
    argv = (*start, f"ppr:{per_node}:node{crowd}", "--bind-to", "none", *launch)
    return Command(starter="Open MPI", argv=argv, binds=False)


def intel_mpi(topology: Topology, placement: Placement, nodes: int, launch: Sequence[str] = LAUNCH) -> Command:
    """mpirun of Intel MPI with one explicit mask per local rank.

    Rank i of a node gets the i-th mask whatever I_MPI_PIN_ORDER says, and masks need their 0x: seen with impi-rt 2021.
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
    """mpirun of MPICH (Hydra). It could bind to lists of single CPUs only, unreadably long: the launcher binds."""
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
    """Slurm's srun with one mask per local rank; `mpi` is pmix for Open MPI, pmi2 for MPICH and Intel MPI."""
    per_node = len(placement.workers)
    argv = ["srun", f"--nodes={nodes}", f"--ntasks={nodes * per_node}", f"--ntasks-per-node={per_node}"]
    # A rank that dies would else leave the others waiting for it.
    argv.append("--kill-on-bad-exit=1")
    if _shared(placement):
        return Command(starter="Slurm", argv=(*argv, "--cpu-bind=none", f"--mpi={mpi}", *launch), binds=False)
    # A count gives the step just so many CPUs; unless they make up the node, masks might name others.
    sizes = [len(worker.cpus) for worker in placement.workers]
    if len(set(sizes)) == 1 and sum(sizes) == topology.cpu_count:
        argv.append(f"--cpus-per-task={sizes[0]}")
    argv += [f"--cpu-bind=mask_cpu:{','.join(_masks(placement))}", "--distribution=block:block"]
    # Without memory of its own a domain has no local memory to bind to.
    if all(worker.memory_domain == worker.domain for worker in placement.workers):
        argv.append("--mem-bind=local")
    note = "--mpi=pmix is for Open MPI; MPICH and Intel MPI take --mpi=pmi2" if mpi == "pmix" else ""
    return Command(starter="Slurm", argv=(*argv, f"--mpi={mpi}", *launch), binds=True, note=note)


def ibrun(topology: Topology, placement: Placement, nodes: int, launch: Sequence[str] = LAUNCH) -> Command:
    """TACC's ibrun. It takes nodes and ranks from the job; its own -n goes only together with an offset."""
    ranks = nodes * len(placement.workers)
    note = f"in a job with #SBATCH -N {nodes} -n {ranks}"
    return Command(starter="TACC", argv=("ibrun", *launch), binds=False, note=note)


STARTERS: dict[str, Callable[[Topology, Placement, int, Sequence[str]], Command]] = {
    "open_mpi": open_mpi,
    "intel_mpi": intel_mpi,
    "mpich": mpich,
    "srun": srun,
    "ibrun": ibrun,
}
"""All builders, called with topology and placement of a node, the number of nodes and a rank's command."""


def _masks(placement: Placement) -> list[str]:
    """Affinity masks in hexadecimal, by local rank."""
    return [hex(sum(1 << cpu for cpu in worker.cpus)) for worker in placement.workers]


def _shared(placement: Placement) -> bool:
    return any(worker.shared for worker in placement.workers)
