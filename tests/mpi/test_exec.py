"""`launcher exec`: ranks divide the node without MPI, print a report, and start another program in their place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.support.environment import ROOT, mpi_environment
from tests.support.launching import Launch

SHOW = """
import json, os
print("SAW", json.dumps({
    "rank": os.environ.get("OMPI_COMM_WORLD_RANK"), "cpus": sorted(os.sched_getaffinity(0)),
    "intra": os.environ["TF_NUM_INTRAOP_THREADS"], "argv": __import__("sys").argv[1:],
}))
"""


def seen(output: str) -> list[dict[str, object]]:
    return [json.loads(line.split("SAW ", 1)[1]) for line in output.splitlines() if "SAW " in line]


def test_ranks_share_the_node_and_become_the_program(launch: Launch) -> None:
    done = launch(2, "exec", "--", sys.executable, "-c", SHOW, "--its-own", "option")
    assert done.returncode == 0, done.stderr
    assert "Placement: 2 workers on 1 node" in done.stdout
    ranks = sorted(seen(done.stdout), key=lambda rank: str(rank["rank"]))
    assert [rank["rank"] for rank in ranks] == ["0", "1"]
    assert all(rank["argv"] == ["--its-own", "option"] for rank in ranks)
    if len(os.sched_getaffinity(0)) > 1:
        assert not set(ranks[0]["cpus"]) & set(ranks[1]["cpus"])  # type: ignore[call-overload]


def test_the_program_joins_mpi_itself(launch: Launch) -> None:
    program = "from mpi4py import MPI; w = MPI.COMM_WORLD; print('SUM', w.allreduce(w.rank + 1), 'of', w.size)"
    done = launch(2, "exec", "--", sys.executable, "-c", program)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("SUM 3 of 2") == 2


def test_other_ranks_write_to_files_named_by_host_and_rank(launch: Launch, tmp_path: Path) -> None:
    done = launch(2, "exec", "--log-folder", tmp_path / "logs", "--", "sh", "-c", "echo out; echo err >&2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines().count("out") == 1
    path = tmp_path / "logs" / f"{os.uname().nodename}-rank-0001.log"
    assert path.read_text() == "out\nerr\n"


def test_a_program_that_is_not_there_is_one_error(launch: Launch) -> None:
    done = launch(2, "exec", "--", "no-such-program")
    assert done.returncode == 2
    assert done.stderr.count("Error: there is no program 'no-such-program'") == 1


def test_without_a_starter_it_is_one_worker() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "launcher", "exec", "--", sys.executable, "-c", SHOW],
        cwd=ROOT, env=mpi_environment(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Placement: 1 worker on 1 node" in done.stdout
    assert len(seen(done.stdout)) == 1
