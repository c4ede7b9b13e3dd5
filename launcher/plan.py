"""The plan of a run: who gets what on a node, threads, environment and the exact lines that start it.

Made of a machine's description, a snapshot or this node, without MPI or TensorFlow, and nothing is run. The
parts are decided in `placement`, `threads` and `commands`; here they are put together and shown.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from textwrap import fill
from typing import Any

from launcher.commands import LAUNCH, STARTERS, Command
from launcher.cpulist import format_cpu_list
from launcher.errors import LaunchError
from launcher.machines import Machine, Partition, load_machine
from launcher.placement import Placement, place
from launcher.threads import ThreadPlan, plan_threads
from launcher.topology import Topology, load_topology, read_topology
from launcher.tuned import Tuned, find_tuned
from scaling.records.wording import count

__all__ = ["Plan", "make_plan", "render", "to_json"]

WIDTH = 100
"""Columns of the rendered plan; only a single argument longer than that may exceed it."""

DEFAULT_WORKERS = 4
MARKS = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """All that is decided before a run starts."""

    title: str
    topology: Topology
    """Of every node: they are taken to be alike."""
    nodes: int
    workers_per_node: int
    batch_size: int
    """Events per worker and step."""
    placement: Placement
    threads: ThreadPlan
    """Of the worker with the fewest cores, which is every worker unless cores are shared."""
    environment: Mapping[str, str]
    """What the machine wants exported before the ranks start."""
    commands: Mapping[str, Command]
    """By builder, the machine's own way first."""
    machine: Machine | None = None
    partition: Partition | None = None
    tuned: Tuned | None = None
    """What was measured on nodes like this one with as many workers."""
    warnings: tuple[str, ...] = ()

    @property
    def workers(self) -> int:
        return self.nodes * self.workers_per_node

    @property
    def global_batch_size(self) -> int:
        """Events per step over all workers."""
        return self.workers * self.batch_size


def make_plan(
    *,
    machine: str | None = None,
    topology_file: str | os.PathLike[str] | None = None,
    nodes: int = 1,
    workers_per_node: int | None = None,
    batch_size: int = 8,
    inter_op: int | None = None,
    intra_op: int | None = None,
    environ: Mapping[str, str] | None = None,
    launch: Sequence[str] = LAUNCH,
) -> Plan:
    """Plan a run on a machine, on nodes like a snapshot, or on nodes like this one.

    Args:
        machine: a known machine's name or the path of a machine file.
        topology_file: a snapshot, or a folder with a node's `sys` and `proc`; it wins over the machine's own node.
        workers_per_node: where it is not given the machine's default, or what was measured on nodes like this one
            (`launcher tune`), or 4.
        environ: variables the ranks will find; thread counts in it are kept.
        launch: the command that every rank runs.

    Raises LaunchError for what cannot be read and for more nodes than the machine gives to a job.
    """
    if nodes < 1 or batch_size < 1:
        raise LaunchError(f"{nodes} nodes with a batch of {batch_size}; expected at least 1 of each")
    known = None if machine is None else load_machine(machine)
    if topology_file is not None:
        topology = load_topology(topology_file)
    else:
        topology = known.topology() if known else read_topology(affinity=os.sched_getaffinity(0))
    tuned = None if known or topology_file is not None else find_tuned(topology, environ or {})
    if workers_per_node is None:
        found = known or tuned
        workers_per_node = found.workers_per_node if found else DEFAULT_WORKERS
    if tuned and tuned.workers_per_node != workers_per_node:
        tuned = None
    placement = place(topology, workers_per_node)
    cores = min(worker.cores for worker in placement.workers)
    threads = plan_threads(cores, environ or {}, inter_op, intra_op, tuned)
    builders = sorted(STARTERS, key=lambda name: name != _own_builder(known))
    return Plan(
        title=known.title if known else ("this node" if topology_file is None else os.fspath(topology_file)),
        topology=topology,
        nodes=nodes,
        workers_per_node=workers_per_node,
        batch_size=batch_size,
        placement=placement,
        threads=threads,
        environment=dict(known.environment) if known else {},
        commands={name: STARTERS[name](topology, placement, nodes, tuple(launch)) for name in builders},
        machine=known,
        partition=known.partition_for(nodes) if known else None,
        tuned=tuned,
        warnings=placement.warnings + threads.warnings,
    )


def _own_builder(machine: Machine | None) -> str:
    wanted = machine.launcher if machine else "mpirun"
    return wanted if wanted in STARTERS else "open_mpi"


def to_json(plan: Plan) -> dict[str, Any]:
    """The plan as plain values; CPUs as lists of numbers, commands as argument lists."""
    return {
        "title": plan.title,
        "machine": plan.machine.name if plan.machine else None,
        "partition": plan.partition.name if plan.partition else None,
        "tuned": asdict(plan.tuned) if plan.tuned else None,
        "nodes": plan.nodes,
        "workers_per_node": plan.workers_per_node,
        "workers": plan.workers,
        "batch_size": plan.batch_size,
        "global_batch_size": plan.global_batch_size,
        "node": {
            "packages": len(plan.topology.packages),
            "domains": [asdict(domain) for domain in plan.topology.domains],
            "cores": plan.topology.core_count,
            "cpus": plan.topology.cpu_count,
        },
        "placement": [asdict(worker) for worker in plan.placement.workers],
        "threads": {
            "inter_op": plan.threads.inter_op,
            "intra_op": plan.threads.intra_op,
            "variables": [asdict(variable) for variable in plan.threads.variables],
        },
        "environment": dict(plan.environment),
        "commands": {name: _command_json(command) for name, command in plan.commands.items()},
        "warnings": list(plan.warnings),
    }


def _command_json(command: Command) -> dict[str, Any]:
    return {
        "argv": list(command.argv),
        "environment": dict(command.environment),
        "binds": command.binds,
        "note": command.note,
    }


def render(plan: Plan) -> str:
    """The plan as text of at most 100 columns, save for single arguments that are longer."""
    parts = [_head(plan), _node(plan), _threads(plan)]
    if plan.environment:
        exports = (f"  export {name}={shlex.quote(value)}" for name, value in plan.environment.items())
        parts.append("\n".join(["Environment of the job", *exports]))
    parts.append("\n".join(["Start it with one of", *(_command(c) for c in plan.commands.values())]))
    if plan.warnings:
        parts.append("\n".join(_wrapped(f"Warning: {warning}", "") for warning in plan.warnings))
    return "\n\n".join(parts)


def _head(plan: Plan) -> str:
    lines = [plan.title]
    if plan.machine and plan.machine.note:
        lines.append(_wrapped(f"Note: {plan.machine.note}.", "  "))
    lines.append(
        f"  {count(plan.workers, 'worker')}: {count(plan.nodes, 'node')} "
        f"x {plan.workers_per_node:,}; batch {plan.batch_size:,} a worker, {plan.global_batch_size:,} in all"
    )
    if plan.partition:
        lines.append(f"  partition {plan.partition}")
    if plan.tuned:
        gain = f"{plan.tuned.ratio:.2f}x the events/s of the untuned plan"
        lines.append(_wrapped(f"workers and threads tuned on nodes like this: {gain} ({plan.tuned.measured})", "  "))
    return "\n".join(lines)


def _node(plan: Plan) -> str:
    topology = plan.topology
    memory = sum(domain.memory_bytes for domain in topology.domains)
    shape = ", ".join(
        count(number, noun)
        for number, noun in (
            (len(topology.packages), "package"),
            (len(topology.domains), "NUMA domain"),
            (topology.core_count, "core"),
            (topology.cpu_count, "hardware thread"),
        )
    )
    rows = [("worker", "domain", "memory of", "cores", "CPUs")]
    for worker in plan.placement.workers:
        of = "unknown" if worker.memory_domain is None else f"domain {worker.memory_domain}"
        cores = f"{worker.cores}{' shared' if worker.shared else ''}"
        rows.append((str(worker.local_rank), str(worker.domain), of, cores, format_cpu_list(worker.cpus)))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    table = [
        _wrapped(
            "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=False)) + f"  {row[4]}",
            "  ",
        )
        for row in rows
    ]
    head = f"Each node: {shape}, {_gib(memory)}"
    return "\n".join([head, *_drawing(plan), *table])


def _drawing(plan: Plan) -> list[str]:
    """One mark a core, in the order of the domain's cores: the worker that has it, . for none, * for several."""
    users: dict[int, set[int]] = {}
    for worker in plan.placement.workers:
        for cpu in worker.cpus:
            users.setdefault(cpu, set()).add(worker.local_rank)
    lines = []
    for domain in plan.topology.domains:
        marks = []
        for core in plan.topology.cores_of(domain.id):
            of_core = set().union(*(users.get(cpu, set()) for cpu in core.cpus))
            # Beyond the 36 marks they start anew, which neighbours still tell apart.
            marks.append("*" if len(of_core) > 1 else MARKS[min(of_core) % len(MARKS)] if of_core else ".")
        where = f"package {domain.package} " if domain.package is not None else ""
        lead = f"  {where}domain {domain.id}, {_gib(domain.memory_bytes)}  "
        room = WIDTH - len(lead) - 2
        chunks = ["".join(marks[i : i + room]) for i in range(0, len(marks), room)] or ["no cores"]
        lines += [(lead if i == 0 else " " * len(lead)) + f"[{chunk}]" for i, chunk in enumerate(chunks)]
    return lines


def _threads(plan: Plan) -> str:
    threads = plan.threads
    head = f"Each worker: inter-op {threads.inter_op}, intra-op {threads.intra_op}; the launcher sets in every rank"
    origins = {
        "plan": "",
        "tuned": "  (tuned)",
        "user": "  (from your environment)",
        "option": "  (from the command line)",
    }
    lines = [f"  {v.name}={v.value}{origins[v.origin]}" for v in threads.variables]
    return "\n".join([head, *lines])


def _command(command: Command) -> str:
    who = "this line binds the ranks" if command.binds else "the launcher binds the ranks"
    head = f"  # {command.starter}: {who}" + (f"; {command.note}" if command.note else "")
    words = [f"{name}={shlex.quote(value)}" for name, value in command.environment.items()]
    words += [shlex.quote(word) for word in command.argv]
    lines, line = [], " "
    for word in words:
        # Room for the backslash that continues the line in a shell.
        if len(line) > 4 and len(line) + len(word) + 3 > WIDTH:
            lines.append(line + " \\")
            line = "   "
        line += " " + word
    return "\n".join([_wrapped(head.strip(), "  ").replace("\n    ", "\n  #   "), *lines, line])


def _wrapped(text: str, indent: str) -> str:
    return fill(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent + "  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _gib(memory: int) -> str:
    return f"{memory / 2**30:.0f} GiB" if memory else "no memory known"
