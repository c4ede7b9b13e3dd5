"""Render a plan as text, without side effects."""

from __future__ import annotations

import shlex
from textwrap import fill

from launcher.commands import Command
from launcher.cpulist import format_cpu_list
from launcher.plan import Plan
from scaling.records.wording import count

__all__ = ["WIDTH", "render"]

WIDTH = 100
"""Number of columns of the text. A line is longer only if a single argument is longer."""

MARKS = "0123456789abcdefghijklmnopqrstuvwxyz"
"""Marks of the workers in the drawing of a node, by local rank."""

ORIGINS = {
    "plan": "",
    "tuned": "  (tuned)",
    "user": "  (from your environment)",
    "option": "  (from the command line)",
}
"""Remarks on a variable, by its origin."""


def render(plan: Plan) -> str:
    """Return the plan as text of at most 100 columns, except for single arguments that are longer."""
    parts = [_head(plan), _node(plan), _threads(plan)]
    if plan.environment:
        exports = (f"  export {name}={shlex.quote(value)}" for name, value in plan.environment.items())
        parts.append("\n".join(["Environment of the job", *exports]))
    parts.append("\n".join(["Start it with one of these", *(_command(each) for each in plan.commands.values())]))
    if plan.warnings:
        parts.append("\n".join(_wrapped(f"Warning: {warning}", "") for warning in plan.warnings))
    return "\n\n".join(parts)


def _head(plan: Plan) -> str:
    lines = [plan.title]
    if plan.machine and plan.machine.note:
        lines.append(_wrapped(f"Note: {plan.machine.note}.", "  "))
    lines.append(
        f"  {count(plan.workers, 'worker')}: {count(plan.nodes, 'node')} x {plan.workers_per_node:,}; "
        f"batch {plan.batch_size:,} per worker, {plan.global_batch_size:,} in total"
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
    return "\n".join([f"Each node: {shape}, {_gib(memory)}", *_drawing(plan), *_table(plan)])


def _drawing(plan: Plan) -> list[str]:
    """Draw one mark for each core of each domain: its worker, `.` for no worker, `*` for several workers."""
    users: dict[int, set[int]] = {}
    for worker in plan.placement.workers:
        for cpu in worker.cpus:
            users.setdefault(cpu, set()).add(worker.local_rank)
    lines = []
    for domain in plan.topology.domains:
        marks = []
        for core in plan.topology.cores_of(domain.id):
            of_core = set().union(*(users.get(cpu, set()) for cpu in core.cpus))
            # After 36 workers the marks repeat. Workers with the same mark are far apart, so the drawing stays clear.
            marks.append("*" if len(of_core) > 1 else MARKS[min(of_core) % len(MARKS)] if of_core else ".")
        package = f"package {domain.package} " if domain.package is not None else ""
        lead = f"  {package}domain {domain.id}, {_gib(domain.memory_bytes)}  "
        room = WIDTH - len(lead) - 2
        chunks = ["".join(marks[i : i + room]) for i in range(0, len(marks), room)] or ["no cores"]
        lines += [(lead if i == 0 else " " * len(lead)) + f"[{chunk}]" for i, chunk in enumerate(chunks)]
    return lines


def _table(plan: Plan) -> list[str]:
    """Lay out one line for each worker of a node. Only its last column, the CPUs, may need several lines."""
    rows = [("worker", "domain", "memory of", "cores", "CPUs")]
    for worker in plan.placement.workers:
        memory = "unknown" if worker.memory_domain is None else f"domain {worker.memory_domain}"
        cores = f"{worker.cores}{' shared' if worker.shared else ''}"
        rows.append((str(worker.local_rank), str(worker.domain), memory, cores, format_cpu_list(worker.cpus)))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return [
        _wrapped("  ".join([*(cell.rjust(width) for cell, width in zip(row, widths, strict=False)), row[4]]), "  ")
        for row in rows
    ]


def _threads(plan: Plan) -> str:
    threads = plan.threads
    head = (
        f"Each worker: inter-op {threads.inter_op}, intra-op {threads.intra_op}; "
        "the launcher sets these variables in every rank"
    )
    return "\n".join([head, *(f"  {each.name}={each.value}{ORIGINS[each.origin]}" for each in threads.variables)])


def _command(command: Command) -> str:
    """Lay out a command line so that a shell can run it: comment, variables, arguments, continued lines."""
    binder = "this line binds the ranks" if command.binds else "the launcher binds the ranks"
    head = f"# {command.starter}: {binder}" + (f"; {command.note}" if command.note else "")
    words = [f"{name}={shlex.quote(value)}" for name, value in command.environment.items()]
    words += [shlex.quote(word) for word in command.argv]
    lines, line = [], " "
    for word in words:
        # Keep room for the backslash that continues the line in a shell.
        if len(line) > 4 and len(line) + len(word) + 3 > WIDTH:
            lines.append(line + " \\")
            line = "   "
        line += " " + word
    return "\n".join([_wrapped(head, "  ").replace("\n    ", "\n  #   "), *lines, line])


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
    return f"{memory / 2**30:.0f} GiB" if memory else "memory unknown"
