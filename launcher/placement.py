"""Decide which cores and which memory each worker of a node gets. This module only computes and changes nothing.

All workers get the same number of physical cores: the largest number for which every worker fits inside one NUMA
domain. If there are more workers than cores, each worker gets one hardware thread instead. If there are more workers
than hardware threads, workers share them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from launcher.cpulist import MAX_CPUS
from launcher.errors import LaunchError
from launcher.topology import Core, Topology
from scaling.records.wording import count

__all__ = ["Placement", "WorkerPlacement", "place"]


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerPlacement:
    """The cores and the memory of one worker."""

    local_rank: int
    """Number of the worker on its node, from 0."""
    domain: int
    """Id of the NUMA domain of its cores."""
    memory_domain: int | None
    """Id of the NUMA domain for its memory: its own, or the nearest one with memory; None if no memory is known."""
    cpus: tuple[int, ...]
    """Hardware threads that it may run on, ascending: all threads of its cores, or one if there are too few cores."""
    cores: int
    """Number of physical cores to which these hardware threads belong."""
    shared: bool = False
    """True if another worker runs on one of these cores too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """The placement of all workers of a node."""

    workers: tuple[WorkerPlacement, ...]
    """One entry per worker, by local rank."""
    warnings: tuple[str, ...] = ()
    """One text for each loss (shared cores, idle cores, slow memory), with its size and what to do."""

    @property
    def shared(self) -> bool:
        """True if any two workers share a core."""
        return any(worker.shared for worker in self.workers)


def place(topology: Topology, workers: int) -> Placement:
    """Place workers on a node.

    The first local ranks go to the first NUMA domain, the next ones to the second domain, and so on. Larger domains get
    more workers, in proportion to their size. Within a domain, cores are taken in ascending order.

    Raises:
        LaunchError: `workers` is below 1, or larger than any node could start.
    """
    if not 1 <= workers <= MAX_CPUS:
        raise LaunchError(f"{workers} workers on a node; expected 1 to {MAX_CPUS}: change this number")
    domains = [domain.id for domain in topology.domains if topology.cores_of(domain.id)]
    cores = [topology.cores_of(domain) for domain in domains]
    core_counts = [len(domain_cores) for domain_cores in cores]
    packages = [domain_cores[0].package for domain_cores in cores]
    # A unit is a whole core, or one hardware thread if there are too few cores. A worker takes `share` units.
    if workers <= topology.core_count:
        share = _largest_share(core_counts, workers)
        units = [[core.cpus for core in domain_cores] for domain_cores in cores]
        capacities = [number // share for number in core_counts]
        worker_counts = _spread(workers, capacities, capacities, packages)
    else:
        share = 1
        units = [_threads_by_depth(domain_cores) for domain_cores in cores]
        worker_counts = _spread(workers, [len(domain_units) for domain_units in units], core_counts, packages)
    masks = []
    for domain, domain_units, domain_workers in zip(domains, units, worker_counts, strict=True):
        for index in range(domain_workers):
            first = index * share % len(domain_units)
            mask = tuple(sorted(cpu for unit in domain_units[first : first + share] for cpu in unit))
            masks.append((domain, mask))
    return _describe(topology, masks, share)


def _largest_share(core_counts: Sequence[int], workers: int) -> int:
    """Return the largest number of cores that every worker can get inside one domain.

    Args:
        core_counts: number of cores in each domain.
        workers: number of workers, at most the number of all cores.
    """
    shares = range(sum(core_counts) // workers, 0, -1)
    return next(share for share in shares if sum(cores // share for cores in core_counts) >= workers)


def _threads_by_depth(cores: Sequence[Core]) -> list[tuple[int, ...]]:
    """Return the hardware threads of a domain: the first thread of every core, then the second ones, and so on.

    With this order, as few workers as possible share a core.
    """
    depth = max(len(core.cpus) for core in cores)
    return [(core.cpus[i],) for i in range(depth) for core in cores if i < len(core.cpus)]


def _spread(workers: int, capacities: Sequence[int], weights: Sequence[int], packages: Sequence[int]) -> list[int]:
    """Return the number of workers in each domain.

    Each worker goes to the domain that has the fewest workers relative to its weight. A full domain gets more workers
    only when all domains are full. In a tie the domain in the package with fewer workers gets the worker, so that more
    caches and memory channels are used.

    Args:
        workers: number of workers to spread.
        capacities: number of workers that fill each domain.
        weights: size of each domain.
        packages: package of each domain.
    """
    worker_counts = [0] * len(capacities)
    in_package = dict.fromkeys(packages, 0)
    for worker in range(workers):
        all_full = worker >= sum(capacities)
        candidates = (i for i, capacity in enumerate(capacities) if all_full or worker_counts[i] < capacity)
        # When all are full, every hardware thread gets a second worker before any thread gets a third one.
        sizes = capacities if all_full else weights
        emptiest = min(candidates, key=lambda i: (worker_counts[i] / sizes[i], in_package[packages[i]], i))
        worker_counts[emptiest] += 1
        in_package[packages[emptiest]] += 1
    return worker_counts


def _describe(topology: Topology, masks: Sequence[tuple[int, tuple[int, ...]]], share: int) -> Placement:
    """Return the placement for the workers' domains and CPUs, with its warnings.

    Args:
        topology: topology of the node.
        masks: NUMA domain and CPUs of each worker, by local rank.
        share: number of cores or hardware threads of each worker.
    """
    core_of = {cpu: index for index, core in enumerate(topology.cores) for cpu in core.cpus}
    cores_of_workers = [{core_of[cpu] for cpu in mask} for _, mask in masks]
    users = [0] * topology.core_count
    for cores in cores_of_workers:
        for core in cores:
            users[core] += 1
    workers = tuple(
        WorkerPlacement(
            local_rank=rank,
            domain=domain,
            memory_domain=_memory_domain(topology, domain),
            cpus=mask,
            cores=len(cores),
            shared=any(users[core] > 1 for core in cores),
        )
        for rank, ((domain, mask), cores) in enumerate(zip(masks, cores_of_workers, strict=True))
    )
    warnings = [
        _sharing_warning(topology, len(workers)) if max(users) > 1 else "",
        _idle_warning(topology, len(workers), share, users.count(0)) if 0 in users else "",
        *_memory_warnings(workers),
    ]
    return Placement(workers=workers, warnings=tuple(filter(None, warnings)))


def _sharing_warning(topology: Topology, workers: int) -> str:
    cores, threads = topology.core_count, topology.cpu_count
    if workers <= threads:
        problem = f"{workers} workers share {count(cores, 'physical core')}: each runs on one hardware thread"
    else:
        problem = (
            f"{workers} workers share {count(threads, 'hardware thread')} of {count(cores, 'core')}, "
            "so workers will wait for each other"
        )
    return f"{problem}; start at most {count(cores, 'worker')} on a node to give each its own cores"


def _idle_warning(topology: Topology, workers: int, share: int, idle: int) -> str:
    cores = topology.core_count
    core_counts = [len(topology.cores_of(domain.id)) for domain in topology.domains]
    nearest_first = sorted(range(1, cores + 1), key=lambda n: (abs(n - workers), n))
    perfect = (n for n in nearest_first if n * _largest_share(core_counts, n) == cores)
    better = " or ".join(str(n) for n in sorted(islice(perfect, 2)))
    reason = (
        "1 worker stays inside one NUMA domain"
        if workers == 1
        else f"{workers} workers get equal shares of {count(share, 'core')}, each inside one NUMA domain"
    )
    return (
        f"{idle} of {cores} cores idle: {reason}; "
        f"{better} {'worker' if better == '1' else 'workers'} would use them all"
    )


def _memory_warnings(workers: Sequence[WorkerPlacement]) -> list[str]:
    warnings = []
    for domain in sorted({worker.domain for worker in workers}):
        inside = [worker for worker in workers if worker.domain == domain]
        memory = inside[0].memory_domain
        if memory is not None and memory != domain:
            warnings.append(
                f"NUMA domain {domain} has no memory: {count(len(inside), 'worker')} there must use the memory of "
                f"domain {memory}, which is slower; install memory in domain {domain}"
            )
    return warnings


def _memory_domain(topology: Topology, domain: int) -> int | None:
    """Return the domain for the memory of workers in `domain`: itself, or the nearest with memory; None if unknown."""
    own = next(d for d in topology.domains if d.id == domain)
    if own.memory_bytes:
        return domain
    distances = own.distances or (0,) * len(topology.domains)
    alternatives = [
        (distance, other.id) for distance, other in zip(distances, topology.domains, strict=True) if other.memory_bytes
    ]
    return min(alternatives)[1] if alternatives else None
