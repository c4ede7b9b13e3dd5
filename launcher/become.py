"""`launcher exec`: binds a rank, sets threads and environment, reports, and becomes any other program.

MPI is left to that program. So the ranks of a node agree among themselves (`rendezvous`), and each node speaks for
itself: rank 0's shows its table, another one a line, or its table too where something is wrong with it.
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
from launcher.start import BindSettings, bind_rank, check_local, report_of, tell
from launcher.topology import read_topology

__all__ = ["become"]


def become(
    command: Sequence[str], settings: BindSettings, allocation: Allocation, log_folder: Path | None = None
) -> NoReturn:
    """Replace this process by a program, bound and with its environment set.

    Args:
        log_folder: where ranks other than 0 write their output; the console where it is None.

    Raises:
        LaunchError: the program does not exist, or the ranks of the node cannot be placed.
    """
    program = shutil.which(command[0])
    if program is None:
        raise LaunchError(f"there is no program {command[0]!r} on PATH; expected one after 'exec --'", agreed=True)
    start_heartbeat(allocation, os.environ)
    host = socket.gethostname()
    node = Rendezvous(allocation, os.environ)
    # In the order of ranks, as a training has it: Open MPI's own local ranks may follow another.
    told = sorted(node.exchange([allocation.rank, format_cpu_list(os.sched_getaffinity(0))]))
    masks = [frozenset(parse_cpu_list(text)) for _, text in told]
    local_rank = [number for number, _ in told].index(allocation.rank)
    # What `launcher tune` found holds for the step of this project's training.
    rank = bind_rank(allocation, settings, host, read_topology(), local_rank, masks, tuned=False)
    notes = check_local(settings, allocation, host, local_rank, node.local_size) + rank.notes
    node.tell({"report": asdict(report_of(rank)), "notes": notes})
    heard = node.hear()
    if heard is not None:
        reports = [_report(each["report"]) for each in heard]
        warnings = list(dict.fromkeys(note for each in heard for note in each["notes"])) + placement_warnings(reports)
        if allocation.rank == 0:
            tell(rank, reports, warnings)
        else:
            print(render(reports, warnings) if warnings else _line(reports), flush=True)
    if log_folder is not None and allocation.rank:
        write_to(log_folder / f"{host}-rank-{allocation.rank:04d}.log")
    sys.stdout.flush()
    os.execv(program, list(command))


def _report(values: dict[str, object]) -> WorkerReport:
    return WorkerReport(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})  # type: ignore[arg-type]


def _line(reports: Sequence[WorkerReport]) -> str:
    shares = " | ".join(format_cpu_list(report.cpus) for report in reports)
    return f"Placement on {reports[0].host}: {len(reports)} workers, CPUs {shares}"
