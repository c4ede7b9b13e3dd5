"""Values of all ranks arrive on rank 0 unchanged, in the order of ranks, and along a tree."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.benchmarks.launch_cost import messages_to_rank_0
from tests.support.environment import ROOT
from tests.support.mpi_libraries import LIBRARIES, library_environment, mpirun

PROGRAM = """
import json, os, sys
from launcher.allocation import Allocation
from launcher.communicator import start_mpi
us = start_mpi(Allocation.from_environment(os.environ), "mpi")
mine = {"rank": us.rank, "text": "x" * (us.rank * 4000)}
gathered, everywhere = us.gather(mine), us.allgather([us.rank, mine["text"]])
assert (gathered is None) == (us.rank > 0)
everybody_has_it = us.allgather(everywhere == [[rank, "x" * (rank * 4000)] for rank in range(us.size)])
if us.rank == 0:
    print(json.dumps([[each["rank"], len(each["text"])] for each in gathered] + everybody_has_it))
"""


@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.parametrize("ranks", [2, 5, 8])
def test_values_arrive_whole_and_in_the_order_of_ranks(name: str, ranks: int) -> None:
    python, environment = library_environment(name)
    done = subprocess.run(
        [*mpirun(name, ranks), python, "-c", PROGRAM],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[rank, rank * 4000] for rank in range(ranks)] + [True] * ranks


@pytest.mark.slow
def test_dry_run_sends_few_more_messages_to_rank_0_with_four_times_the_ranks() -> None:
    """Rank 0 would get 48 more messages if every rank sent one to it. A tree adds two messages per gather."""
    few, many = messages_to_rank_0(16), messages_to_rank_0(64)
    assert 0 < few < many
    assert many - few < 48
