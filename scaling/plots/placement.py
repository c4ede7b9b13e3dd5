"""The placement of workers on a node, from the placement report in a run's record: which worker has which CPUs.

A record tells the CPUs and NUMA domains of every worker, and the CPUs that the job has on the node. A CPU belongs to a
domain here if a worker has it whose CPUs all are of that one domain; others are drawn in rows of their own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from scaling.plots.describe import Cells

__all__ = ["placement_plots"]

_WIDEST = 24
"""CPUs in a row: half a node of Stampede2."""
_MOST_KINDS = 2
_MOST_CPUS = 1024


def placement_plots(placement: Sequence[Mapping[str, Any]]) -> list[Cells]:
    """A drawing for each kind of node, the most frequent first; none where the record tells no CPUs.

    Args:
        placement: a mapping for each rank with host, local_rank, cpus and node_cpus (as `0-11,48`) and domains.
    """
    hosts: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for worker in placement:
        hosts[str(worker.get("host", "?"))].append(worker)
    alike: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for host, workers in hosts.items():
        shape = tuple(
            (str(w.get("local_rank")), str(w.get("cpus")), str(w.get("domains")), str(w.get("node_cpus")))
            for w in workers
        )
        alike[shape].append(host)
    kinds = sorted(alike.values(), key=len, reverse=True)
    drawn = (_node(names, hosts[names[0]], number) for number, names in enumerate(kinds[:_MOST_KINDS]))
    return [cells for cells in drawn if cells is not None]


def _node(names: Sequence[str], workers: Sequence[Mapping[str, Any]], number: int) -> Cells | None:
    owners: dict[int, list[int]] = defaultdict(list)
    domain_of: dict[int, str] = {}
    try:
        for worker in workers:
            rank, domains = int(worker["local_rank"]), [int(d) for d in worker["domains"]]
            for cpu in _cpus(worker["cpus"]):
                owners[cpu].append(rank)
                if len(domains) == 1:
                    domain_of[cpu] = f"NUMA {domains[0]}"
                else:
                    domain_of.setdefault(cpu, f"NUMA {', '.join(map(str, domains))}")
        idle = set(_cpus(workers[0].get("node_cpus", ""))) - set(owners)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    if not owners or len(owners) + len(idle) > _MOST_CPUS:
        return None
    groups: dict[str, list[int]] = defaultdict(list)
    for cpu in sorted(owners):
        groups[domain_of[cpu]].append(cpu)
    if idle:
        # Of one domain only, it is known where the others are.
        only = next(iter(groups)) if len(groups) == 1 else "idle"
        groups[only] = sorted([*groups.get(only, []), *idle])
    rows: list[list[tuple[int, tuple[int, ...]] | None]] = []
    labels: list[str] = []
    for name, cpus in sorted(groups.items()):
        for start in range(0, len(cpus), _WIDEST):
            rows.append([(cpu, tuple(sorted(owners.get(cpu, ())))) for cpu in cpus[start : start + _WIDEST]])
            labels.append(name if start == 0 else "")
    width = max(map(len, rows))
    shared = sum(len(ranks) > 1 for ranks in owners.values())
    said = ["A cell is a CPU (hardware thread) with its number and the local rank of the worker that may run on it."]
    said += [f"{shared} CPUs are shared by several workers, marked +."] if shared else []
    said += [f"{len(idle)} CPUs of the job are idle."] if idle else []
    like = f" and {len(names) - 1} node{'s' * (len(names) > 2)} like it" if len(names) > 1 else ""
    return Cells(
        name="placement" if number == 0 else f"placement-{number + 1}",
        title=f"Placement of {len(workers)} worker{'s' * (len(workers) > 1)} on {names[0]}{like}",
        rows=[[*row, *([None] * (width - len(row)))] for row in rows],
        labels=labels,
        caption=" ".join(said),
    )


def _cpus(text: str) -> list[int]:
    """The CPUs of a list such as `0-11,48`. Raises ValueError for anything else."""
    found: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        low, high = int(first), int(last or first)
        if not 0 <= low <= high < 2**16:
            raise ValueError(text)
        found += range(low, high + 1)
    return found
