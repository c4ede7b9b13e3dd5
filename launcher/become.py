"""`launcher exec`: bind a rank, set its threads and environment, print the placement, and start another program.

The program replaces this process. It starts MPI itself, and a process can start MPI only once. So the ranks of a node
exchange their masks through files (`rendezvous`), and each node prints its own report: the node of rank 0 a table, any
other node one line, or a table with warnings.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

from launcher.allocation import Allocation
from launcher.cpulist import format_cpu_list, parse_cpu_list
from launcher.errors import LaunchError
from launcher.heartbeat import start_heartbeat
from launcher.output import write_to
from launcher.rendezvous import Rendezvous
from launcher.report import WorkerReport, placement_warnings, render
from launcher.start import BindSettings, bind_rank, check_local, print_placement, report_of
from launcher.topology import read_topology

__all__ = ["become"]


def become(
    command: Sequence[str], settings: BindSettings, allocation: Allocation, log_folder: Path | None = None
) -> NoReturn:
    """Bind this process, set its environment and replace the process with a program.

    Args:
        command: the program and its arguments.
        log_folder: folder in which every rank but 0 writes its output to a file; None for the console.

    Raises:
        LaunchError: the program does not exist, a rank of the node is missing, or the ranks cannot be placed.
    """
    program = shutil.which(command[0])
    if program is None:
        raise LaunchError(
            f"there is no program {command[0]!r} on PATH; expected one after 'exec --': correct its name", agreed=True
        )
    start_heartbeat(allocation, os.environ)
    host = socket.gethostname()
    node = Rendezvous(allocation, os.environ)
    # Sort by rank, as a training does: Open MPI's own local ranks may have another order.
    ranks = sorted(node.exchange([allocation.rank, format_cpu_list(os.sched_getaffinity(0))]))
    masks = [frozenset(parse_cpu_list(text)) for _, text in ranks]
    local_rank = [number for number, _ in ranks].index(allocation.rank)
    # `launcher tune` measures the training of this project. Its settings do not suit other programs.
    rank = bind_rank(allocation, settings, host, read_topology(), local_rank, masks, tuned=False)
    notes = check_local(settings, allocation, host, node.local_size) + rank.notes
    node.tell({"report": asdict(report_of(rank)), "notes": notes})
    answers = node.hear()
    if answers is not None:
        reports = [_report(each["report"]) for each in answers]
        warnings = list(dict.fromkeys(note for each in answers for note in each["notes"])) + placement_warnings(reports)
        if allocation.rank == 0:
            print_placement(rank, reports, warnings)
        else:
            print(render(reports, warnings) if warnings else _line(reports), flush=True)
    if log_folder is not None and allocation.rank:
        write_to(log_folder / f"{host}-rank-{allocation.rank:04d}.log")
    sys.stdout.flush()
    os.execv(program, list(command))


def _report(values: dict[str, object]) -> WorkerReport:
    """Return a report from its JSON values: lists become tuples again."""
    return WorkerReport(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})  # type: ignore[arg-type]


def _line(reports: Sequence[WorkerReport]) -> str:
    """Return one line with the CPUs of each worker of a node."""
    shares = " | ".join(format_cpu_list(report.cpus) for report in reports)
    return f"Placement on {reports[0].host}: {len(reports)} workers, CPUs {shares}"
