"""Drawings of the CPUs of a node with their workers, from the placement report in a run.jsonl.

The report gives the CPUs and NUMA domains of every worker, and the CPUs that the job has on the node. It does not give
the domain of a CPU. A CPU is drawn in a domain if it belongs to a worker with CPUs in only this domain. The other CPUs
are drawn in separate rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from scaling.plots.describe import Cells
from scaling.records.wording import count

__all__ = ["placement_plots"]

_WIDEST = 24
"""Largest number of CPUs in a row: the cores of one socket of a Stampede2 node."""
_MOST_KINDS = 2
"""Largest number of different nodes to draw."""
_MOST_CPUS = 1024
"""Largest number of CPUs in a drawing."""


def placement_plots(placement: Sequence[Mapping[str, Any]]) -> list[Cells]:
    """Return a drawing for each group of nodes with the same placement, the largest group first.

    Nodes with unreadable CPU lists are left out.

    Args:
        placement: a mapping for each rank with host, local_rank, domains, and cpus and node_cpus such as `0-11,48`.
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
    """Return the drawing of one node, or None if its CPUs cannot be read.

    Args:
        names: names of all nodes with this placement.
        workers: rows of the placement report for the first of these nodes.
        number: index of the drawing.
    """
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
        # The domain of idle CPUs is known only if the workers use a single one.
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
    sentences = ["Each cell is a CPU (hardware thread) with its number and the local rank of its worker."]
    if shared:
        sentences.append(f"{count(shared, 'CPU')} {'is' if shared == 1 else 'are'} shared by several workers (+).")
    if idle:
        sentences.append(f"{count(len(idle), 'CPU')} of the job {'is' if len(idle) == 1 else 'are'} idle (-).")
    others = f" and {count(len(names) - 1, 'node')} like it" if len(names) > 1 else ""
    return Cells(
        name="placement" if number == 0 else f"placement-{number + 1}",
        title=f"Placement of {count(len(workers), 'worker')} on {names[0]}{others}",
        rows=[[*row, *([None] * (width - len(row)))] for row in rows],
        labels=labels,
        caption=" ".join(sentences),
    )


def _cpus(text: str) -> list[int]:
    """Return the CPUs of a list such as `0-11,48`. Raise ValueError for other texts and long lists."""
    cpus: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        low, high = int(first), int(last or first)
        if not 0 <= low <= high < 2**16 or len(cpus) + high - low >= _MOST_CPUS:
            raise ValueError(text)
        cpus += range(low, high + 1)
    return cpus
