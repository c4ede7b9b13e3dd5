"""The placement report: the CPUs and memory of every worker, and the faults of the placement.

`start.report_of` makes a report on every rank, from what `binding` reads from the kernel.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from launcher.cpulist import format_cpu_list
from scaling.records.wording import count

__all__ = ["WorkerReport", "placement_warnings", "render"]


REMOTE_SHARE = 0.05
"""Share of a worker's memory on other NUMA domains above which the report warns."""
REMOTE_BYTES = 64 << 20
"""It does not warn below so many bytes: the interpreter starts before it is bound."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerReport:
    """Placement of one worker, read from the kernel after the worker has started its threads."""

    rank: int
    local_rank: int
    host: str
    cpus: tuple[int, ...]
    """CPUs that the main thread of the worker may use."""
    cores: int
    """Number of physical cores with these CPUs."""
    domains: tuple[int, ...]
    """NUMA domains with these CPUs."""
    memory: str
    """Memory policy of the kernel, such as `preferred:1`."""
    threads: int
    """Number of threads of the process."""
    threads_outside: int
    """Number of threads that may run on other CPUs than `cpus`."""
    inter_op: int
    """TensorFlow operations at the same time."""
    intra_op: int
    """Threads that share one operation."""
    bound_by: str
    """Binder of the worker: the launcher, or MPI or Slurm before the launcher started, or nobody."""
    node_cpus: tuple[int, ...]
    """CPUs that the job has on this node."""
    pid: int = 0
    memory_bytes: int = 0
    """Memory of the process, without files; 0 if the kernel does not say."""
    remote_bytes: int = 0
    """Part of it on other NUMA domains than `domains`."""

    def as_dict(self) -> dict[str, Any]:
        """Return the report as values for the record of a run, with CPUs as texts such as `0-3,8`."""
        values = dataclasses.asdict(self)
        values["cpus"] = format_cpu_list(self.cpus)
        values["node_cpus"] = format_cpu_list(self.node_cpus)
        return values

    @property
    def remote_share(self) -> float:
        """Share of the memory on other NUMA domains."""
        return self.remote_bytes / self.memory_bytes if self.memory_bytes else 0.0

    @property
    def name(self) -> str:
        return f"rank {self.rank} on {self.host}"


def placement_warnings(reports: Sequence[WorkerReport]) -> list[str]:
    """Return the faults of the placement, one sentence for each, with the host and the worker.

    Faults are: workers that share CPUs, workers on several NUMA domains, threads that may leave the CPUs of their
    worker, more compute threads than cores, memory on other NUMA domains, and idle CPUs. If several nodes have the same
    fault, one sentence gives their number.
    """
    hosts_by_text: dict[str, list[str]] = defaultdict(list)
    for workers in _by_host(reports).values():
        for text in _node_warnings(workers):
            hosts_by_text[text].append(workers[0].host)
    return [
        text.format(host=hosts[0] if len(hosts) == 1 else f"{hosts[0]} and {len(hosts) - 1} nodes like it")
        for text, hosts in hosts_by_text.items()
    ]


def render(reports: Sequence[WorkerReport], warnings: Iterable[str] = ()) -> str:
    """Return a table of the workers of each node, then the warnings. Equal nodes are shown once."""
    nodes = _by_host(reports)
    alike: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for host, workers in nodes.items():
        alike[tuple(_shape(worker) for worker in workers)].append(host)
    lines = [f"Placement: {count(len(reports), 'worker')} on {count(len(nodes), 'node')}"]
    for hosts in alike.values():
        workers = nodes[hosts[0]]
        others = f" and {len(hosts) - 1} alike: {_shorten(hosts[1:])}" if len(hosts) > 1 else ""
        lines.append(f"{hosts[0]}{others}")
        lines += _table([_columns(worker, many=len(hosts) > 1) for worker in workers])
    lines += [f"Warning: {text}" for text in warnings]
    return "\n".join(lines)


def _node_warnings(workers: Sequence[WorkerReport]) -> list[str]:
    """Return the faults of one node, with `{host}` in place of its name."""
    texts = []
    for one, other in combinations(workers, 2):
        common = set(one.cpus) & set(other.cpus)
        if common:
            texts.append(
                f"{_worker(one)} and local rank {other.local_rank} share {len(common)} CPUs ({format_cpu_list(common)})"
            )
            break  # further pairs have the same cause
    for worker in workers:
        if len(worker.domains) > 1:
            texts.append(f"{_worker(worker)} runs on several NUMA domains: {', '.join(map(str, worker.domains))}")
        if worker.threads_outside:
            texts.append(
                f"{_worker(worker)}: {worker.threads_outside} of {worker.threads} threads may leave its CPUs "
                f"({format_cpu_list(worker.cpus)})"
            )
        if worker.intra_op > worker.cores:
            texts.append(f"{_worker(worker)} runs {worker.intra_op} compute threads on {worker.cores} cores")
        if worker.remote_share > REMOTE_SHARE and worker.remote_bytes > REMOTE_BYTES:
            texts.append(
                f"{_worker(worker)} has {worker.remote_share:.0%} of its {worker.memory_bytes / 2**30:.1f} GiB of "
                "memory on other NUMA domains: its own is full, or the memory is from before the binding"
            )
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
    """Return the values that must be equal for the same local rank on nodes that count as equal."""
    return tuple(
        getattr(worker, field.name)
        for field in dataclasses.fields(worker)
        if field.name not in ("rank", "host", "pid", "threads", "memory_bytes", "remote_bytes")
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
    """List the first names and the last one."""
    return ", ".join(names[:most]) + (f", ... {names[-1]}" if len(names) > most else "")
