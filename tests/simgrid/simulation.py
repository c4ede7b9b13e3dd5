"""Simulate allreduces on a fat tree with SimGrid's SMPI and compute the same times with `allreduce_seconds`.

The platform is `fat_tree.xml`, and the constants below repeat its numbers. Network model CM02 leaves out SMPI's
factors, which were measured on an Ethernet cluster. The traffic of acknowledgements is off, too. The formula contains
neither.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scaling.models import allreduce_seconds
from tests.support.packages import install_hint

__all__ = ["LATENCIES", "Case", "Result", "SimulationError", "compile_program", "missing", "simulate"]

HERE = Path(__file__).parent
NODES, NODES_PER_LEAF = 256, 16
BANDWIDTH, MEMORY_BANDWIDTH = 12.5e9, 50e9
LATENCIES = {"leaf": 2 * 500e-9, "tree": 4 * 500e-9}
"""Latency between two nodes in seconds: of 2 links within one leaf switch, of 4 links otherwise."""
SELECTORS = {"ring": "lr", "tree": "rab"}
"""SMPI's names of the algorithms: logical ring and Rabenseifner."""


class SimulationError(RuntimeError):
    """SimGrid is missing, or a simulation failed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """Algorithm and ranks of one simulation."""

    algorithm: str
    """Algorithm of the allreduce, one of `scaling.models.ALGORITHMS`."""
    ranks: int
    ranks_per_node: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """Times of one allreduce."""

    case: Case
    message_bytes: int
    simulated: float
    """Seconds of the allreduce in SimGrid's simulation."""
    formula: float
    """Seconds of the allreduce from `allreduce_seconds`."""

    @property
    def ratio(self) -> float:
        return self.simulated / self.formula


def missing() -> str:
    """Return what is missing on this machine for a simulation, and how to install it; empty if nothing is missing."""
    lacking = [name for name in ("smpicc", "smpirun") if shutil.which(name) is None]
    return f"SimGrid's {' and '.join(lacking)} not found on PATH; {install_hint('simgrid')}" if lacking else ""


def compile_program(folder: Path) -> Path:
    """Compile `allreduce.c` into `folder`, and return the path of the program."""
    program = folder / "allreduce"
    _output(["smpicc", "-O2", str(HERE / "allreduce.c"), "-o", str(program)], timeout=120)
    return program


def simulate(case: Case, sizes: Sequence[int], program: Path, timeout: float = 600) -> list[Result]:
    """Simulate allreduces of `sizes` bytes, one after another.

    Raises:
        SimulationError: there are too many ranks for the platform, SimGrid failed, or it took more than `timeout`
            seconds.
    """
    nodes = -(-case.ranks // case.ranks_per_node)
    if nodes > NODES:
        raise SimulationError(f"{case.ranks} ranks need {nodes} nodes; the platform has {NODES}")
    hosts = program.with_name(f"hosts.{case.ranks_per_node}.{case.ranks}")
    hosts.write_text("".join(f"n{rank // case.ranks_per_node}\n" for rank in range(case.ranks)))
    output = _output(
        [
            *("smpirun", "-np", str(case.ranks), "-platform", str(HERE / "fat_tree.xml"), "-hostfile", str(hosts)),
            *("--log=root.thresh:critical", "--cfg=smpi/simulate-computation:no", "--cfg=smpi/host-speed:1Gf"),
            *("--cfg=network/model:CM02", "--cfg=network/crosstraffic:0"),
            *(f"--cfg=smpi/allreduce:{SELECTORS[case.algorithm]}", str(program), *map(str, sizes)),
        ],
        timeout=timeout,
    )
    lines = [line.split() for line in output.splitlines()]
    if [(line[0], line[1]) for line in lines] != [(str(case.ranks), str(size)) for size in sizes]:
        raise SimulationError(f"{case}: expected a line for each of {list(sizes)} bytes, got {output!r}")
    latency = LATENCIES["leaf" if nodes <= NODES_PER_LEAF else "tree"]
    return [
        Result(
            case=case,
            message_bytes=size,
            simulated=float(line[2]),
            formula=float(
                allreduce_seconds(
                    size,
                    np.array([case.ranks]),
                    latency=latency,
                    bandwidth=BANDWIDTH,
                    memory_bandwidth=MEMORY_BANDWIDTH,
                    workers_per_node=case.ranks_per_node,
                    algorithm=case.algorithm,
                )[0]
            ),
        )
        for size, line in zip(sizes, lines, strict=True)
    ]


def _output(command: Sequence[str], timeout: float) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired as error:
        raise SimulationError(f"{command[0]} took more than {timeout:.0f} s; give fewer ranks") from error
    if done.returncode:
        raise SimulationError(f"{' '.join(command)} failed with status {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout
