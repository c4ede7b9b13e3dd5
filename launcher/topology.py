"""What a node is made of: packages, NUMA domains, cores, hardware threads, memory; of this node or from a
snapshot.

The rest of the launcher works on this model only, so that a plan for a cluster's node can be made anywhere.
How the kernel's files are read is in `launcher.sysfs`; who gets which core is decided in
`launcher.placement`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from launcher import sysfs
from launcher.cpulist import format_cpu_list, parse_cpu_list
from launcher.errors import LaunchError

__all__ = [
    "Core",
    "Domain",
    "Topology",
    "format_cpu_list",
    "from_json",
    "load_topology",
    "parse_cpu_list",
    "read_topology",
    "restrict",
    "to_json",
]

FORMAT = "launcher topology"
VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Core:
    """A physical core."""

    package: int
    domain: int
    cpus: tuple[int, ...]
    """Its hardware threads, ascending."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Domain:
    """A NUMA domain. It may have no cores (memory only) and it may have no memory."""

    id: int
    package: int | None
    """Package of its cores; None without cores, or when they belong to several packages."""
    memory_bytes: int
    distances: tuple[int, ...] = ()
    """The kernel's relative distances to all domains by ascending id, 10 to itself; empty if unknown."""


@dataclass(frozen=True, slots=True)
class Topology:
    """The cores and domains of one node, kept in ascending order. Raises LaunchError when they do not fit."""

    cores: tuple[Core, ...]
    domains: tuple[Domain, ...]

    def __post_init__(self) -> None:
        in_order = sorted(self.cores, key=lambda core: (core.package, core.domain, core.cpus))
        object.__setattr__(self, "cores", tuple(in_order))
        object.__setattr__(self, "domains", tuple(sorted(self.domains, key=lambda domain: domain.id)))
        ids = [domain.id for domain in self.domains]
        cpus = self.cpus()
        if not all(core.cpus for core in self.cores) or not cpus:
            raise LaunchError("a topology needs at least one core, and every core at least one CPU")
        if len(set(cpus)) != len(cpus):
            raise LaunchError("every CPU of a topology must belong to one core only")
        if len(set(ids)) != len(ids) or not {core.domain for core in self.cores} <= set(ids):
            raise LaunchError(f"every core must belong to one of the NUMA domains, which are {ids}")
        if any(len(domain.distances) not in (0, len(ids)) for domain in self.domains):
            raise LaunchError(f"a NUMA domain needs a distance to each of the {len(ids)} domains, or none at all")

    def cpus(self) -> tuple[int, ...]:
        """All hardware threads, ascending."""
        return tuple(sorted(cpu for core in self.cores for cpu in core.cpus))

    @property
    def core_count(self) -> int:
        return len(self.cores)

    @property
    def cpu_count(self) -> int:
        return sum(len(core.cpus) for core in self.cores)

    @property
    def packages(self) -> tuple[int, ...]:
        return tuple(sorted({core.package for core in self.cores}))

    def cores_of(self, domain: int) -> tuple[Core, ...]:
        """The cores of a domain by package and first CPU; none for a memory-only domain."""
        return tuple(core for core in self.cores if core.domain == domain)


def read_topology(root: str | os.PathLike[str] = "/", affinity: Collection[int] | None = None) -> Topology:
    """Read a node from the kernel's files below `root`, cut down to `affinity` if that is given.

    The real root is also cut down to the cpuset of this process's control group; another root holds a copy
    of some other machine's files, for which that means nothing. Raises LaunchError when nothing is left or
    nothing is there.
    """
    base = Path(root)
    cpus, ids = sysfs.online_cpus(base), sysfs.domain_ids(base)
    domain_of: dict[int, int] = {}
    for domain in ids:
        # Emulated domains list the same CPUs more than once; the first claim counts.
        for cpu in sysfs.domain_cpus(base, domain):
            domain_of.setdefault(cpu, domain)
    unlisted = ids[0] if ids else 0
    cores: dict[tuple[int, ...], Core] = {}
    for cpu in cpus:
        threads = tuple(sorted({cpu, *sysfs.sibling_cpus(base, cpu)} & set(cpus)))
        core = Core(package=sysfs.package_of_cpu(base, cpu), domain=domain_of.get(cpu, unlisted), cpus=threads)
        cores.setdefault(threads, core)
    whole = Topology(tuple(cores.values()), _domains(base, ids, cores.values()))
    limits = (affinity, sysfs.cgroup_cpus(base) if base == Path("/") else None)
    for limit in limits:
        whole = whole if limit is None else restrict(whole, limit)
    return whole


def restrict(topology: Topology, cpus: Collection[int]) -> Topology:
    """The part of a node that may run on `cpus`. Domains keep their memory even where no core is left.

    Raises LaunchError when none of the node's CPUs is among `cpus`.
    """
    allowed = set(cpus)
    kept = (replace(c, cpus=tuple(cpu for cpu in c.cpus if cpu in allowed)) for c in topology.cores)
    cores = tuple(core for core in kept if core.cpus)
    if not cores:
        raise LaunchError(
            f"this process may run on CPUs {format_cpu_list(allowed) or 'none'}, but the node has "
            f"{format_cpu_list(topology.cpus())}; check the affinity mask and the cpuset of the job"
        )
    return Topology(cores, tuple(replace(d, package=_package(cores, d.id)) for d in topology.domains))


def _domains(base: Path, ids: tuple[int, ...], cores: Collection[Core]) -> tuple[Domain, ...]:
    if not ids:
        return (Domain(id=0, package=_package(cores, 0), memory_bytes=sysfs.memory_bytes(base)),)
    found = []
    for domain in ids:
        distances = sysfs.distances(base, domain)
        found.append(
            Domain(
                id=domain,
                package=_package(cores, domain),
                memory_bytes=sysfs.memory_bytes(base, domain),
                distances=distances if len(distances) == len(ids) else (),
            )
        )
    return tuple(found)


def _package(cores: Iterable[Core], domain: int) -> int | None:
    packages = {core.package for core in cores if core.domain == domain}
    return packages.pop() if len(packages) == 1 else None


def to_json(topology: Topology) -> dict[str, Any]:
    """A snapshot that `from_json` reads back: plain values with a version, CPUs as texts like "0,48"."""
    cores = [{"package": c.package, "domain": c.domain, "cpus": format_cpu_list(c.cpus)} for c in topology.cores]
    domains = [
        {"id": d.id, "package": d.package, "memory_bytes": d.memory_bytes, "distances": list(d.distances)}
        for d in topology.domains
    ]
    return {"format": FORMAT, "version": VERSION, "cores": cores, "domains": domains}


def from_json(data: object) -> Topology:
    """The topology of a snapshot. Raises LaunchError for anything that `to_json` did not make."""
    if not isinstance(data, Mapping) or data.get("format") != FORMAT or data.get("version") != VERSION:
        raise LaunchError(f"not a snapshot with format {FORMAT!r} and version {VERSION}; make one on the node")
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
    """The topology of a snapshot file, or of a folder with a copy of another node's `sys` and `proc`.

    Raises LaunchError, naming the path, when it is missing or damaged.
    """
    try:
        if Path(path).is_dir():
            return read_topology(path)
        return from_json(json.loads(Path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise LaunchError(f"cannot read the topology {os.fspath(path)}: {error}") from None
