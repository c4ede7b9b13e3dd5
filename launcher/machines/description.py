"""The description of a machine: its nodes, its partitions and how jobs start there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from launcher.errors import LaunchError
from launcher.topology import Core, Domain, Topology
from scaling.records.wording import count

__all__ = ["Machine", "Node", "Partition"]

DISTANCES = {"self": 10, "package": 12, "far": 21}
"""Usual distances between NUMA domains in Linux: to the domain itself, inside a package, to another package. The
launcher uses only their order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """The shape of a machine's nodes. All NUMA domains have the same number of cores."""

    processor: str
    """Number and names of the processors, as text for users."""
    packages: int
    domains_per_package: int
    cores_per_domain: int
    threads_per_core: int
    numbering: str
    """Order of CPU numbers. interleaved: consecutive numbers alternate between the packages; contiguous: the first
    package has the lowest numbers. In both, second hardware threads come after the first threads of all cores."""
    memory_gib: int
    """Memory of the whole node in GiB, spread equally over its NUMA domains."""

    @property
    def core_count(self) -> int:
        """Number of physical cores of the node."""
        return self.packages * self.domains_per_package * self.cores_per_domain

    def topology(self) -> Topology:
        """Return the node's topology with the CPU numbers that Linux gives."""
        per_package = self.domains_per_package * self.cores_per_domain
        domain_count = self.packages * self.domains_per_package
        cores = []
        for package in range(self.packages):
            for core in range(per_package):
                interleaved = self.numbering == "interleaved"
                first = self.packages * core + package if interleaved else package * per_package + core
                cores.append(
                    Core(
                        package=package,
                        domain=package * self.domains_per_package + core // self.cores_per_domain,
                        cpus=tuple(first + thread * self.core_count for thread in range(self.threads_per_core)),
                    )
                )
        return Topology(tuple(cores), tuple(self._domain(index, domain_count) for index in range(domain_count)))

    def _domain(self, index: int, domain_count: int) -> Domain:
        package = index // self.domains_per_package
        near = [other // self.domains_per_package == package for other in range(domain_count)]
        distances = [DISTANCES["package" if same else "far"] for same in near]
        distances[index] = DISTANCES["self"]
        memory = self.memory_gib * 2**30 // domain_count
        return Domain(id=index, package=package, memory_bytes=memory, distances=tuple(distances))


@dataclass(frozen=True, kw_only=True, slots=True)
class Partition:
    """A partition (queue) of the batch system, with its limits for one job."""

    name: str
    max_nodes: int
    max_hours: int
    min_nodes: int = 1

    def __str__(self) -> str:
        return f"{self.name} ({self.min_nodes}-{self.max_nodes} nodes, {self.max_hours} h)"

    def refusal(self, nodes: int, hours: float = 0.0) -> str:
        """Return the limit that a job violates, as a text for messages; empty if the partition accepts the job."""
        if nodes < self.min_nodes:
            return f"at least {self.min_nodes} nodes a job"
        if nodes > self.max_nodes:
            return f"at most {self.max_nodes} nodes a job"
        return f"at most {self.max_hours} hours a job" if hours > self.max_hours else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """A machine, as its TOML file describes it."""

    name: str
    """Name of the machine: the name of its file without .toml."""
    title: str
    """Name of the machine and its type of node, as text for users."""
    source: str
    """Source of the facts in the file, with its date."""
    launcher: str
    """Starter of the ranks: ibrun, srun or mpirun."""
    workers_per_node: int
    """Default number of workers on a node."""
    network: str = ""
    """Type of the network, as text for users."""
    note: str = ""
    """Warning for users about the description, for example an assumption in it; without a full stop."""
    node: Node | None = None
    """Shape of the nodes; None if the nodes of the site are not known in advance."""
    batch: str = "slurm"
    """Batch system: slurm, or none for a single node on which a shell runs the script."""
    requeue: bool = False
    """Whether a job may put itself back into the queue. If not, the launcher chains jobs."""
    signal: bool = False
    """Whether Slurm accepts --signal there. If not, a run stops by the clock only."""
    modules: tuple[str, ...] = ()
    """Modules that a job loads. MODULES in the environment overrides them."""
    options: tuple[str, ...] = ()
    """Options of sbatch that every job needs."""
    script: str = ""
    """Name of the machine's script in the folder `jobs`; empty for the name of the machine with .sh."""
    file: str = ""
    """Absolute path of a user's own machine file; empty for a machine that comes with the launcher."""
    partitions: tuple[Partition, ...] = ()
    """Partitions, the preferred one first; empty if no limits are known."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables that every job exports."""

    @property
    def reference(self) -> str:
        """Value of `--machine` that selects this machine from any folder."""
        return self.file or self.name

    @property
    def max_workers(self) -> int | None:
        """Largest number of workers on a node, one per core; None if the nodes are not known."""
        return self.node.core_count if self.node else None

    def topology(self) -> Topology:
        """Return the topology of a node.

        Raises:
            LaunchError: the nodes of this machine are not known in advance.
        """
        if self.node is None:
            raise LaunchError(
                f"the nodes of machine {self.name!r} are not known in advance. Expected a snapshot of one: run "
                "'python -m launcher topology --out FILE' on a node, and give the file with --topology. On such a node "
                "itself, leave --machine out"
            )
        return self.node.topology()

    def check_workers(self, workers_per_node: int) -> None:
        """Check a number of workers on a node.

        Raises:
            LaunchError: the number is below 1, or above the number of cores of a node.
        """
        limit = self.max_workers
        if workers_per_node < 1 or (limit and workers_per_node > limit):
            expected = f"1 to {limit}, the cores of a node of machine {self.name}" if limit else "at least 1"
            raise LaunchError(f"{workers_per_node} workers on a node; expected {expected}: change this number")

    def partition_for(self, nodes: int, hours: float = 0.0, name: str = "") -> Partition | None:
        """Return the partition for a job.

        Args:
            nodes: number of nodes of the job.
            hours: time limit of the job; 0 if not known.
            name: name of the partition; empty for the first one that accepts the job.

        Returns:
            The partition, or None if the limits of this machine are not known.

        Raises:
            LaunchError: no partition accepts the job, the named one does not, or the machine has only one node. The
                message gives the limits.
        """
        job = count(nodes, "node") + (f" for {hours:g} hours" if hours else "")
        if self.batch == "none" and nodes > 1:
            raise LaunchError(
                f"{job} on machine {self.name}, which has no batch system; expected 1 node: reduce --nodes"
            )
        if not self.partitions:
            return None
        partitions = ", ".join(map(str, self.partitions))
        if name:
            named = next((partition for partition in self.partitions if partition.name == name), None)
            if named is None:
                raise LaunchError(f"machine {self.name} has no partition {name!r}; it has {partitions}. Choose one")
            if limit := named.refusal(nodes, hours):
                raise LaunchError(
                    f"partition {name} of machine {self.name} takes {limit}, but this job has {job}; change the job, "
                    f"or choose one of {partitions}"
                )
            return named
        for partition in self.partitions:
            if not partition.refusal(nodes, hours):
                return partition
        largest = max(partition.max_nodes for partition in self.partitions)
        limit = f"at most {largest} nodes a job; " if nodes > largest else ""
        raise LaunchError(
            f"machine {self.name} has no partition for {job}: {limit}it has {partitions}. Change the job to fit one"
        )
