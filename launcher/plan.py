"""Plan a run: the placement on a node, the threads, the environment and the command lines that start the ranks.

A plan is for a described machine, for nodes like a snapshot, or for this node. It needs neither MPI nor TensorFlow and
runs nothing. `placement`, `threads` and `commands` decide the parts; `plan_text` prints a plan.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from launcher.commands import LAUNCH, STARTERS, Command
from launcher.errors import LaunchError
from launcher.machines import Machine, Partition, load_machine
from launcher.placement import Placement, place
from launcher.threads import ThreadPlan, plan_threads
from launcher.topology import Topology, load_topology, read_topology
from launcher.tuned import Tuned, find_tuned
from launcher.workers import usual_workers_per_node

__all__ = ["Plan", "make_plan", "to_json"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Everything that is decided before a run starts."""

    title: str
    """Title of the machine, path of the snapshot, or `this node`."""
    topology: Topology
    """Topology of each node. All nodes are assumed to be equal."""
    nodes: int
    workers_per_node: int
    batch_size: int
    """Events per worker and step."""
    placement: Placement
    threads: ThreadPlan
    """Threads of the worker with the fewest cores. All workers have this number of threads, unless they share cores."""
    environment: Mapping[str, str]
    """Variables that the machine needs before the ranks start."""
    commands: Mapping[str, Command]
    """Command lines by the name of their builder in `commands.STARTERS`. The machine's own starter comes first."""
    machine: Machine | None = None
    partition: Partition | None = None
    tuned: Tuned | None = None
    """Settings that `launcher tune` measured on nodes like this one with the same number of workers, if any."""
    warnings: tuple[str, ...] = ()

    @property
    def workers(self) -> int:
        return self.nodes * self.workers_per_node

    @property
    def global_batch_size(self) -> int:
        """Events per step of all workers together."""
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
        machine: name of a known machine or path of a machine file.
        topology_file: a snapshot, or a folder with a copy of a node's `sys` and `proc`. It has priority over `machine`.
        nodes: number of nodes.
        workers_per_node: number of workers on each node. By default the machine's number, else the number that
            `launcher tune` measured on nodes like this one, else 4.
        batch_size: events per worker and step.
        inter_op: TensorFlow operations at the same time in a worker; see `plan_threads` for the default.
        intra_op: threads that share one operation; see `plan_threads` for the default.
        environ: environment of the ranks. Thread counts in it are kept.
        launch: command that every rank runs.

    Raises:
        LaunchError: a machine or snapshot cannot be read, the machine has no partition for a job of this size, or a
            number is below 1.
    """
    if nodes < 1 or batch_size < 1:
        raise LaunchError(
            f"{nodes} nodes with a batch of {batch_size}; expected at least 1 for --nodes and --batch-size: "
            "change the option"
        )
    known = None if machine is None else load_machine(machine)
    if topology_file is not None:
        topology = load_topology(topology_file)
    else:
        topology = known.topology() if known else read_topology(affinity=os.sched_getaffinity(0))
    tuned = None if known or topology_file is not None else find_tuned(topology, environ or {})
    if workers_per_node is None:
        workers_per_node = usual_workers_per_node(known, tuned)
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
    starter = machine.launcher if machine else "mpirun"
    return starter if starter in STARTERS else "open_mpi"


def to_json(plan: Plan) -> dict[str, Any]:
    """Return the plan as values that JSON can hold: CPUs are lists of numbers, commands are lists of arguments."""
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
