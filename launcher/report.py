"""The placement report: where every worker really runs, what is wrong with it, and how that is shown.

Reports come from `binding`'s readings on every rank; the functions here are pure.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from launcher.cpulist import format_cpu_list

__all__ = ["WorkerReport", "placement_warnings", "render"]


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerReport:
    """What one worker found out about itself after its threads had started."""

    rank: int
    local_rank: int
    host: str
    cpus: tuple[int, ...]
    """The CPUs that the worker's main thread may use."""
    cores: int
    """Physical cores among them."""
    domains: tuple[int, ...]
    """NUMA domains that these CPUs belong to."""
    memory: str
    """Memory policy, as the kernel tells it."""
    threads: int
    """Threads of the process."""
    threads_outside: int
    """Threads that may run on CPUs that are not the worker's."""
    inter_op: int
    intra_op: int
    bound_by: str
    """launcher, the MPI or Slurm that did it before, or nobody."""
    node_cpus: tuple[int, ...]
    """CPUs the job has on this node."""
    pid: int = 0

    def as_dict(self) -> dict[str, Any]:
        values = dataclasses.asdict(self)
        values["cpus"] = format_cpu_list(self.cpus)
        values["node_cpus"] = format_cpu_list(self.node_cpus)
        return values

    @property
    def name(self) -> str:
        return f"rank {self.rank} on {self.host}"


def placement_warnings(reports: Sequence[WorkerReport]) -> list[str]:
    """What is wrong, each sentence with the name of the worker it is about.

    Overlap between workers, CPUs outside one domain, threads that left their worker's CPUs, more compute threads than
    cores, and cores that nobody uses. Nodes that suffer from the same are named once, with their number.
    """
    found: dict[str, list[str]] = defaultdict(list)
    for workers in _by_host(reports).values():
        for text in _node_warnings(workers):
            found[text].append(workers[0].host)
    return [
        text.format(host=hosts[0] if len(hosts) == 1 else f"{hosts[0]} and {len(hosts) - 1} nodes like it")
        for text, hosts in found.items()
    ]


def render(reports: Sequence[WorkerReport], warnings: Iterable[str] = ()) -> str:
    """A table of the workers of each kind of node; nodes that are alike are shown once."""
    nodes = _by_host(reports)
    alike: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for host, workers in nodes.items():
        alike[tuple(_shape(worker) for worker in workers)].append(host)
    lines = [f"Placement: {len(reports)} worker{'s' * (len(reports) > 1)} on {len(nodes)} node{'s' * (len(nodes) > 1)}"]
    for hosts in alike.values():
        workers = nodes[hosts[0]]
        like = f" and {len(hosts) - 1} alike: {_shorten(hosts[1:])}" if len(hosts) > 1 else ""
        lines.append(f"{hosts[0]}{like}")
        lines += _table([_columns(worker, many=len(hosts) > 1) for worker in workers])
    lines += [f"Warning: {text}" for text in warnings]
    return "\n".join(lines)


def _node_warnings(workers: Sequence[WorkerReport]) -> list[str]:
    texts = []
    for one, other in combinations(workers, 2):
        common = set(one.cpus) & set(other.cpus)
        if common:
            texts.append(
                f"{_worker(one)} and local rank {other.local_rank} share {len(common)} CPUs ({format_cpu_list(common)})"
            )
            break  # one pair tells the story; every further pair says the same
    for worker in workers:
        if len(worker.domains) > 1:
            texts.append(f"{_worker(worker)} reaches over NUMA domains {', '.join(map(str, worker.domains))}")
        if worker.threads_outside:
            texts.append(
                f"{_worker(worker)}: {worker.threads_outside} of {worker.threads} threads may leave its CPUs "
                f"({format_cpu_list(worker.cpus)})"
            )
        if worker.intra_op > worker.cores:
            texts.append(f"{_worker(worker)} runs {worker.intra_op} compute threads on {worker.cores} cores")
    used = set().union(*(worker.cpus for worker in workers))
    idle = set(workers[0].node_cpus) - used
    if idle:
        texts.append(f"{{host}}: CPUs {format_cpu_list(idle)} of the job's {len(workers[0].node_cpus)} are idle")
    return texts


def _worker(worker: WorkerReport) -> str:
    return f"{{host}}: local rank {worker.local_rank}"


def _by_host(reports: Sequence[WorkerReport]) -> dict[str, list[WorkerReport]]:
    hosts: dict[str, list[WorkerReport]] = defaultdict(list)
    for report in sorted(reports, key=lambda report: report.rank):
        hosts[report.host].append(report)
    return hosts


def _shape(worker: WorkerReport) -> tuple[Any, ...]:
    return tuple(
        getattr(worker, field.name)
        for field in dataclasses.fields(worker)
        if field.name not in ("rank", "host", "pid", "threads")
    )


def _columns(worker: WorkerReport, *, many: bool) -> Mapping[str, str]:
    outside = f", {worker.threads_outside} outside" if worker.threads_outside else ""
    return {
        "local rank" if many else "rank": str(worker.local_rank if many else worker.rank),
        "domain": ",".join(map(str, worker.domains)),
        "cores": str(worker.cores),
        "CPUs": format_cpu_list(worker.cpus),
        "memory": worker.memory,
        "inter/intra": f"{worker.inter_op}/{worker.intra_op}",
        "threads": f"{worker.threads}{outside}",
        "bound by": worker.bound_by,
    }


def _table(rows: Sequence[Mapping[str, str]]) -> list[str]:
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in rows[0]}
    heading = "  ".join(name.ljust(width) for name, width in widths.items())
    return [f"  {heading}".rstrip()] + [
        ("  " + "  ".join(row[name].ljust(width) for name, width in widths.items())).rstrip() for row in rows
    ]


def _shorten(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f", ... {names[-1]}" if len(names) > most else "")
