"""Decides which worker of a node gets which cores and whose memory. Pure: it reads nothing and binds nothing.

The rule: every worker gets the same number of physical cores, the largest for which all workers fit inside
NUMA domains, and none crosses from one domain into another. Only when there are more workers than cores do
they get hardware threads, and only when there are more workers than those do they share them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from launcher.errors import LaunchError
from launcher.topology import Core, Topology
from scaling.records.wording import count

__all__ = ["Placement", "WorkerPlacement", "place"]


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerPlacement:
    """What one worker of a node gets."""

    local_rank: int
    domain: int
    """Id of the NUMA domain of its cores."""
    memory_domain: int | None
    """Id of the domain its memory should come from: its own, or the nearest that has any; None if unknown."""
    cpus: tuple[int, ...]
    """Its affinity mask, ascending: all hardware threads of its cores, unless it has only some of them."""
    cores: int
    """Number of physical cores its CPUs belong to."""
    shared: bool = False
    """Whether another worker runs on one of these cores too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """The workers of a node by local rank, and what the placement could not give them."""

    workers: tuple[WorkerPlacement, ...]
    warnings: tuple[str, ...] = ()
    """Each says what is lost, in numbers, and what would mend it; none where nothing is lost."""


def place(topology: Topology, workers: int) -> Placement:
    """Place a number of workers on a node.

    Local ranks go to the domains in blocks (0 and 1 to the first domain, 2 and 3 to the second), domains are
    filled evenly for their size, and cores are taken in ascending order. Raises LaunchError below one worker.
    """
    if workers < 1:
        raise LaunchError(f"{workers} workers on a node; expected at least 1")
    domains = [domain.id for domain in topology.domains if topology.cores_of(domain.id)]
    cores = [topology.cores_of(domain) for domain in domains]
    counts = [len(in_domain) for in_domain in cores]
    packages = [in_domain[0].package for in_domain in cores]
    # A worker takes `share` units of its domain: whole cores, or one hardware thread where cores run out.
    if workers <= topology.core_count:
        share = _largest_share(counts, workers)
        units = [[core.cpus for core in in_domain] for in_domain in cores]
        rooms = [count // share for count in counts]
        held = _fill(rooms, rooms, packages, workers)
    else:
        share = 1
        units = [_threads_by_depth(in_domain) for in_domain in cores]
        held = _fill([len(in_domain) for in_domain in units], counts, packages, workers)
    masks = []
    for domain, in_domain, here in zip(domains, units, held, strict=True):
        for index in range(here):
            first = index * share % len(in_domain)
            mask = tuple(sorted(cpu for unit in in_domain[first : first + share] for cpu in unit))
            masks.append((domain, mask))
    return _describe(topology, masks, share)


def _largest_share(counts: Sequence[int], workers: int) -> int:
    """The largest number of cores that every worker can get; there must be no more workers than cores."""
    shares = range(sum(counts) // workers, 0, -1)
    return next(share for share in shares if sum(count // share for count in counts) >= workers)


def _threads_by_depth(cores: Sequence[Core]) -> list[tuple[int, ...]]:
    """The threads of a domain, first threads of all cores first so that few workers share a core."""
    depth = max(len(core.cpus) for core in cores)
    return [(core.cpus[i],) for i in range(depth) for core in cores if i < len(core.cpus)]


def _fill(rooms: Sequence[int], weights: Sequence[int], packages: Sequence[int], workers: int) -> list[int]:
    """Workers for each domain: each goes where fewest are for the weight, while there is room anywhere.

    Of equally empty domains the one in the emptier package is taken, for the sake of its caches and memory
    channels.
    """
    held = [0] * len(rooms)
    in_package = dict.fromkeys(packages, 0)
    for worker in range(workers):
        full = worker >= sum(rooms)
        open_to = (i for i, room in enumerate(rooms) if full or held[i] < room)
        # Beyond all rooms every hardware thread gets a second worker before any gets a third.
        scale = rooms if full else weights
        emptiest = min(open_to, key=lambda i: (held[i] / scale[i], in_package[packages[i]], i))
        held[emptiest] += 1
        in_package[packages[emptiest]] += 1
    return held


def _describe(topology: Topology, masks: Sequence[tuple[int, tuple[int, ...]]], share: int) -> Placement:
    core_of = {cpu: index for index, core in enumerate(topology.cores) for cpu in core.cpus}
    touched = [{core_of[cpu] for cpu in mask} for _, mask in masks]
    users = [0] * topology.core_count
    for cores in touched:
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
        for rank, ((domain, mask), cores) in enumerate(zip(masks, touched, strict=True))
    )
    warnings = [
        _crowded(topology, len(workers)) if any(worker.shared for worker in workers) else "",
        _idle(topology, len(workers), share, users.count(0)) if 0 in users else "",
        *_foreign_memory(workers),
    ]
    return Placement(workers=workers, warnings=tuple(filter(None, warnings)))


def _crowded(topology: Topology, workers: int) -> str:
    cores, threads = topology.core_count, topology.cpu_count
    if workers <= threads:
        return (
            f"{workers} workers share {cores} physical cores by hardware threads; "
            f"at most {count(cores, 'worker')} can have cores of their own"
        )
    return (
        f"{workers} workers share {count(threads, 'hardware thread')} of {count(cores, 'core')} and will "
        f"wait for each other; at most {count(cores, 'worker')} can have cores of their own"
    )


def _idle(topology: Topology, workers: int, share: int, idle: int) -> str:
    cores = topology.core_count
    counts = [len(topology.cores_of(domain.id)) for domain in topology.domains]
    nearest_first = sorted(range(1, cores + 1), key=lambda n: (abs(n - workers), n))
    perfect = (n for n in nearest_first if n * _largest_share(counts, n) == cores)
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


def _foreign_memory(workers: Sequence[WorkerPlacement]) -> list[str]:
    warnings = []
    for domain in sorted({worker.domain for worker in workers}):
        inside = [worker for worker in workers if worker.domain == domain]
        memory = inside[0].memory_domain
        if memory is not None and memory != domain:
            warnings.append(
                f"NUMA domain {domain} has no memory: {count(len(inside), 'worker')} there "
                f"must use that of domain {memory}, which is slower; fit memory to domain {domain}"
            )
    return warnings


def _memory_domain(topology: Topology, domain: int) -> int | None:
    own = next(d for d in topology.domains if d.id == domain)
    if own.memory_bytes:
        return domain
    distances = own.distances or (0,) * len(topology.domains)
    having = [
        (distance, other.id) for distance, other in zip(distances, topology.domains, strict=True) if other.memory_bytes
    ]
    return min(having)[1] if having else None
