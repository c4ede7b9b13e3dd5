"""The topology of a node: its packages, NUMA domains, cores, hardware threads and memory.

A topology is read from this node, from a copy of another node's files, or from a snapshot. The rest of the launcher
works on this model only, so a plan for a cluster's node can be made on any machine. `launcher.sysfs` reads the kernel's
files; `launcher.placement` decides which worker gets which cores.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from launcher import sysfs
from launcher.cpulist import format_cpu_list, parse_cpu_list
from launcher.errors import LaunchError
from scaling.records.documents import read_json
from scaling.records.wording import count

__all__ = [
    "Core",
    "Domain",
    "Topology",
    "from_json",
    "load_topology",
    "read_topology",
    "restrict",
    "to_json",
]

FORMAT = "launcher topology"
"""Value of `format` in a snapshot."""

VERSION = 1
"""Value of `version` in a snapshot: the version of its format."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Core:
    """A physical core."""

    package: int
    """Number of its package (processor socket)."""
    domain: int
    """Id of its NUMA domain."""
    cpus: tuple[int, ...]
    """CPU numbers of its hardware threads, ascending."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Domain:
    """A NUMA domain. It may have no cores (memory only), or no memory."""

    id: int
    package: int | None
    """Package of its cores; None if it has no cores, or cores of several packages."""
    memory_bytes: int
    """Size of its memory in bytes; 0 if it has no memory or the size is unknown."""
    distances: tuple[int, ...] = ()
    """The kernel's relative distances to all domains, by ascending id; 10 to itself. Empty if unknown."""


@dataclass(frozen=True, slots=True)
class Topology:
    """The cores and NUMA domains of one node, in ascending order.

    Raises:
        LaunchError: there is no core, a core has no CPU, a CPU belongs to two cores, a core belongs to no domain, or a
            domain has some of its distances but not all.
    """

    cores: tuple[Core, ...]
    domains: tuple[Domain, ...]

    def __post_init__(self) -> None:
        in_order = sorted(self.cores, key=lambda core: (core.package, core.domain, core.cpus))
        object.__setattr__(self, "cores", tuple(in_order))
        object.__setattr__(self, "domains", tuple(sorted(self.domains, key=lambda domain: domain.id)))
        ids = [domain.id for domain in self.domains]
        cpus = self.cpus()
        empty_cores = sum(not core.cpus for core in self.cores)
        if empty_cores or not cpus:
            raise LaunchError(
                f"the topology has {count(len(self.cores), 'core')}, {empty_cores} of them without a CPU; "
                "expected at least one core, and at least one CPU in every core"
            )
        if repeated := [cpu for cpu, cores in Counter(cpus).items() if cores > 1]:
            raise LaunchError(f"CPUs {format_cpu_list(repeated)} belong to several cores; expected one core for a CPU")
        if len(set(ids)) != len(ids) or not {core.domain for core in self.cores} <= set(ids):
            used = sorted({core.domain for core in self.cores})
            raise LaunchError(
                f"the cores belong to NUMA domains {used}, and the node has domains {ids}; "
                "expected every domain once, and a domain for every core"
            )
        if partial := [domain.id for domain in self.domains if len(domain.distances) not in (0, len(ids))]:
            raise LaunchError(
                f"NUMA domains {partial} have some distances only; expected a distance to each of the {len(ids)} "
                "domains, or none"
            )

    def cpus(self) -> tuple[int, ...]:
        """Return the numbers of all hardware threads, ascending."""
        return tuple(sorted(cpu for core in self.cores for cpu in core.cpus))

    @property
    def core_count(self) -> int:
        """Number of physical cores."""
        return len(self.cores)

    @property
    def cpu_count(self) -> int:
        """Number of hardware threads."""
        return sum(len(core.cpus) for core in self.cores)

    @property
    def packages(self) -> tuple[int, ...]:
        """Numbers of the packages that have cores, ascending."""
        return tuple(sorted({core.package for core in self.cores}))

    def cores_of(self, domain: int) -> tuple[Core, ...]:
        """Return the cores of a domain, ordered by package and first CPU; none for a memory-only domain."""
        return tuple(core for core in self.cores if core.domain == domain)


def read_topology(root: str | os.PathLike[str] = "/", affinity: Collection[int] | None = None) -> Topology:
    """Read a node's topology from the kernel's files.

    Args:
        root: folder that holds `sys` and `proc`. With "/" the result is limited to the cpuset of this process's control
            group. Any other folder is a copy of another machine's files, to which that cpuset does not apply.
        affinity: CPUs to which the result is limited; None for no limit.

    Raises:
        LaunchError: the files list no CPU, or no CPU is within the limits.
    """
    base = Path(root)
    cpus, ids = sysfs.online_cpus(base), sysfs.domain_ids(base)
    domain_of: dict[int, int] = {}
    for domain in ids:
        # Emulated NUMA domains can list the same CPU several times: the first domain gets it.
        for cpu in sysfs.domain_cpus(base, domain):
            domain_of.setdefault(cpu, domain)
    unlisted = ids[0] if ids else 0
    cores: dict[tuple[int, ...], Core] = {}
    for cpu in cpus:
        threads = tuple(sorted({cpu, *sysfs.sibling_cpus(base, cpu)} & set(cpus)))
        core = Core(package=sysfs.package_of_cpu(base, cpu), domain=domain_of.get(cpu, unlisted), cpus=threads)
        cores.setdefault(threads, core)
    topology = Topology(tuple(cores.values()), _domains(base, ids, cores.values()))
    limits = (affinity, sysfs.cgroup_cpus(base) if base == Path("/") else None)
    for limit in limits:
        topology = topology if limit is None else restrict(topology, limit)
    return topology


def restrict(topology: Topology, cpus: Collection[int]) -> Topology:
    """Return the topology without the CPUs that are not in `cpus`. A domain keeps its memory even without cores.

    Raises:
        LaunchError: the node has none of these CPUs.
    """
    allowed = set(cpus)
    remaining = (replace(c, cpus=tuple(cpu for cpu in c.cpus if cpu in allowed)) for c in topology.cores)
    cores = tuple(core for core in remaining if core.cpus)
    if not cores:
        raise LaunchError(
            f"this process may run on CPUs {format_cpu_list(allowed) or 'none'}, but the node has "
            f"{format_cpu_list(topology.cpus())}. Expected at least one CPU in both: check the affinity mask and the "
            "cpuset of the job"
        )
    return Topology(cores, tuple(replace(d, package=_package(cores, d.id)) for d in topology.domains))


def _domains(base: Path, ids: tuple[int, ...], cores: Collection[Core]) -> tuple[Domain, ...]:
    if not ids:
        return (Domain(id=0, package=_package(cores, 0), memory_bytes=sysfs.memory_bytes(base)),)
    domains = []
    for domain in ids:
        distances = sysfs.distances(base, domain)
        domains.append(
            Domain(
                id=domain,
                package=_package(cores, domain),
                memory_bytes=sysfs.memory_bytes(base, domain),
                distances=distances if len(distances) == len(ids) else (),
            )
        )
    return tuple(domains)


def _package(cores: Iterable[Core], domain: int) -> int | None:
    """Return the package of a domain's cores; None if it has no cores, or cores of several packages."""
    packages = {core.package for core in cores if core.domain == domain}
    return packages.pop() if len(packages) == 1 else None


def to_json(topology: Topology) -> dict[str, Any]:
    """Return a snapshot for `from_json`: plain values with a format version. CPUs are texts such as "0,48"."""
    cores = [{"package": c.package, "domain": c.domain, "cpus": format_cpu_list(c.cpus)} for c in topology.cores]
    domains = [
        {"id": d.id, "package": d.package, "memory_bytes": d.memory_bytes, "distances": list(d.distances)}
        for d in topology.domains
    ]
    return {"format": FORMAT, "version": VERSION, "cores": cores, "domains": domains}


def from_json(data: object) -> Topology:
    """Return the topology of a snapshot that `to_json` made.

    Raises:
        LaunchError: the value is not such a snapshot.
    """
    if not isinstance(data, Mapping) or data.get("format") != FORMAT or data.get("version") != VERSION:
        raise LaunchError(f"this is not a snapshot with format {FORMAT!r} and version {VERSION}")
    try:
        cores = tuple(
            Core(package=_whole(c["package"]), domain=_whole(c["domain"]), cpus=parse_cpu_list(c["cpus"]))
            for c in data["cores"]
        )
        domains = tuple(
            Domain(
                id=_whole(d["id"]),
                package=None if d["package"] is None else _whole(d["package"]),
                memory_bytes=_whole(d["memory_bytes"]),
                distances=tuple(_whole(n) for n in d["distances"]),
            )
            for d in data["domains"]
        )
    except KeyError as error:
        raise LaunchError(f"a core or NUMA domain of the snapshot has no {error}") from None
    except (TypeError, AttributeError) as error:
        raise LaunchError(f"the snapshot has a value of the wrong type: {error}") from None
    return Topology(cores, domains)


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise TypeError(f"{value!r} is not a whole number of at least 0")
    return value


def load_topology(path: str | os.PathLike[str]) -> Topology:
    """Read the topology of a snapshot file, or of a folder with a copy of another node's `sys` and `proc`.

    Raises:
        LaunchError: the path is missing or damaged. The message gives the path.
    """
    try:
        if Path(path).is_dir():
            return read_topology(path)
        return from_json(read_json(Path(path)))
    except (OSError, ValueError) as error:
        raise LaunchError(
            f"cannot read the topology {os.fspath(path)}: {error}. Expected a file from 'python -m launcher topology "
            "--out FILE', or a folder with a copy of a node's sys and proc: make one on the node"
        ) from None
