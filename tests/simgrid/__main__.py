"""Compare the communication term of `scaling.models` with SimGrid's SMPI: `python -m tests.simgrid`.

This needs SimGrid (make test-packages GROUP=simgrid). Rings of 512 ranks and more are simulated only with --large: a
ring of p ranks sends 2 p (p - 1) messages, and each simulation takes minutes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.simgrid.simulation import Case, SimulationError, compile_program, missing, simulate

SIZES = (64 * 1024, 4 * 1024 * 1024)
"""Bytes of a message whose time is mostly latency, and of the gradients of a million parameters."""
RANKS = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
LARGEST_RING = 256
LIMITS = (0.75, 1.2)
"""Smallest and largest accepted ratio of simulated to computed time. The formula uses the latency of the longest path
for all messages, but a tree's first exchanges are within one leaf switch."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simgrid", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--large", action="store_true", help=f"also rings of more than {LARGEST_RING} ranks (default: no)"
    )
    options = parser.parse_args()
    began = time.monotonic()
    worst: list[float] = []
    try:
        if lacking := missing():
            raise SimulationError(lacking)
        with tempfile.TemporaryDirectory() as folder:
            program = compile_program(Path(folder))
            print(_line("algorithm", "ranks", "a node", "KiB", "SimGrid ms", "formula ms", "ratio"))
            for case in _cases(options.large):
                for result in simulate(case, SIZES, program, timeout=1800):
                    size = (case.algorithm, case.ranks, case.ranks_per_node, result.message_bytes // 1024)
                    times = (f"{1000 * seconds:.4f}" for seconds in (result.simulated, result.formula))
                    print(_line(*size, *times, f"{result.ratio:.3f}"), flush=True)
                    worst.append(result.ratio)
    except SimulationError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    passed = LIMITS[0] <= min(worst) and max(worst) <= LIMITS[1]
    print(f"Ratios from {min(worst):.3f} to {max(worst):.3f}, {'within' if passed else 'NOT within'} {LIMITS}.")
    print(f"{len(worst)} allreduces in {time.monotonic() - began:.0f} s.")
    return 0 if passed else 1


def _line(algorithm: str, *values: object) -> str:
    return f"{algorithm:<9}" + "".join(f"{value!s:>11}" for value in values)


def _cases(large: bool) -> list[Case]:
    """Return cases with one rank per node on up to 256 nodes, and with four per node."""
    return [
        Case(algorithm=algorithm, ranks=ranks, ranks_per_node=per_node)
        for algorithm in ("ring", "tree")
        for per_node, sizes in ((1, RANKS[:8]), (4, RANKS[2:]))
        for ranks in sizes
        if large or algorithm != "ring" or ranks <= LARGEST_RING
    ]


if __name__ == "__main__":
    sys.exit(main())
