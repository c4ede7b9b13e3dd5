"""The same launcher and training under Open MPI, MPICH and Intel MPI, and errors if libraries are mixed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np
import pytest

from launcher.cpulist import format_cpu_list
from launcher.placement import Placement, place
from launcher.topology import read_topology, restrict
from scaling.records import Run, read_run
from tests.support.environment import ROOT
from tests.support.mpi_libraries import LIBRARIES, library_environment, mpirun

pytestmark = pytest.mark.skipif(
    os.uname().machine != "x86_64", reason="this compares three MPI libraries, and Intel MPI runs on x86_64 only"
)

ALL_CPUS = sorted(os.sched_getaffinity(0))

# Program that replaces a rank: it prints the kernel's CPU masks of all its threads.
WITNESS = """
import json, re
from pathlib import Path
from launcher.allocation import Allocation
import os
masks = {re.search(r"Cpus_allowed_list:\\s*(\\S+)", p.read_text())[1] for p in Path("/proc/self/task").glob("*/status")}
print(json.dumps({"rank": Allocation.from_environment(os.environ).rank, "masks": sorted(masks)}), flush=True)
"""


def run(
    name: str, ranks: int, *command: object, cpus: Collection[int] = ALL_CPUS, libmpi: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a command on some ranks of one MPI and some CPUs. With `libmpi` the ranks load the library of another MPI."""
    _, environment = library_environment(name)
    if libmpi:
        for variable in ("PYTHONPATH", "MPI4PY_LIBMPI"):
            environment[variable] = library_environment(libmpi)[1][variable]
    return subprocess.run(
        [*mpirun(name, ranks), *map(str, command)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        preexec_fn=lambda: os.sched_setaffinity(0, cpus),
    )


def launcher(*arguments: object) -> tuple[object, ...]:
    return (sys.executable, "-m", "launcher", *arguments)


def planned(ranks: int, cpus: Collection[int]) -> Placement:
    return place(restrict(read_topology(), cpus), ranks)


def claimed(printed: str) -> dict[int, str]:
    """Return the CPUs of every rank according to a printed placement report."""
    lines = printed.splitlines()
    heading = next(number for number, line in enumerate(lines) if line.startswith("  rank "))
    columns = re.split(r"\s{2,}", lines[heading].strip())
    rows = [re.split(r"\s{2,}", line.strip()) for line in lines[heading + 1 :] if re.match(r"  \d", line)]
    return {int(row[columns.index("rank")]): row[columns.index("CPUs")] for row in rows}


@pytest.mark.parametrize("cpus", [ALL_CPUS, ALL_CPUS[-1:]], ids=["all CPUs", "one CPU"])
@pytest.mark.parametrize("name", LIBRARIES)
def test_claims_plan_and_kernel_agree_on_every_rank(name: str, cpus: Sequence[int]) -> None:
    plan = {n: format_cpu_list(worker.cpus) for n, worker in enumerate(planned(4, cpus).workers)}
    dry = run(name, 4, *launcher("train", "--dry-run"), cpus=cpus)
    assert dry.returncode == 0, dry.stdout + dry.stderr
    assert f"started by: {LIBRARIES[name].source};" in dry.stdout
    assert claimed(dry.stdout) == plan
    become = run(name, 4, *launcher("exec", "--", sys.executable, "-c", WITNESS), cpus=cpus)
    assert become.returncode == 0, become.stdout + become.stderr
    assert claimed(become.stdout) == plan
    # The output of two ranks may be on one line.
    told = [json.loads(text) for text in re.findall(r"\{.*?\}", become.stdout)]
    assert {each["rank"]: each["masks"] for each in told} == {rank: [mask] for rank, mask in plan.items()}


@pytest.fixture(scope="module")
def trained(shower_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """Return the record of one epoch on two ranks under a library. Each library trains only once."""
    runs: dict[str, Run] = {}

    def train(name: str) -> Run:
        if name not in runs:
            out = tmp_path_factory.mktemp(name)
            small = ("--filters", "original", "--batch-size", 2, "--events", 8, "--epochs", 1, "--warmup-epochs", 1)
            chosen = ("--communicator", "mpi", "--deterministic", "--seed", 11)
            done = run(name, 2, *launcher("--data", shower_files / "*.h5", "--out", out, *small, *chosen))
            assert done.returncode == 0, done.stdout + done.stderr
            runs[name] = read_run(out)
        return runs[name]

    return train


@pytest.mark.slow
@pytest.mark.parametrize("name", LIBRARIES)
def test_training_runs_where_planned_and_says_under_which_mpi(name: str, trained: Callable[[str], Run]) -> None:
    record = trained(name)
    assert record.complete
    assert record.header.versions["mpi"].startswith(LIBRARIES[name].vendor)
    plan = planned(2, ALL_CPUS)
    rows = record.header.placement
    assert [row["rank"] for row in rows] == [0, 1]
    assert [row["cpus"] for row in rows] == [format_cpu_list(worker.cpus) for worker in plan.workers]
    assert [row["cores"] for row in rows] == [worker.cores for worker in plan.workers]
    assert [row["threads_outside"] for row in rows] == [0, 0]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in LIBRARIES if name != "openmpi"])
def test_training_is_the_same_under_every_mpi(name: str, trained: Callable[[str], Run]) -> None:
    ours, other = (trained(library).epochs[0].losses for library in ("openmpi", name))
    assert ours.keys() == other.keys()
    assert all(np.isfinite(list(ours.values())))
    # A sum over two ranks has only one order.
    assert other == ours


MIXED = [("openmpi", "mpich"), ("openmpi", "impi"), ("mpich", "openmpi"), ("impi", "openmpi")]
# Under Open MPI's PMIx, MPICH 5 ends its process in MPI_Init with its own message. The launcher cannot prevent that.
CAUGHT = [pair for pair in MIXED if pair != ("openmpi", "mpich")]


@pytest.mark.parametrize(("starter", "loaded"), CAUGHT)
def test_mpirun_of_another_mpi_is_one_error(starter: str, loaded: str) -> None:
    """MPICH and Intel MPI can start each other's ranks, because they use the same protocol."""
    done = run(starter, 4, *launcher("train", "--dry-run"), libmpi=loaded)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.count("Error:") == 1, done.stderr
    assert LIBRARIES[starter].source in done.stderr
    assert LIBRARIES[loaded].vendor in done.stderr
    assert "mpirun of the same MPI" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Placement" not in done.stdout


@pytest.mark.parametrize(("starter", "loaded"), CAUGHT[::2])
def test_every_rank_ends_with_status_2_under_mpirun_of_another_mpi(starter: str, loaded: str) -> None:
    # mpirun ends all ranks as soon as one fails. With a shell around each rank, mpirun sees no failure.
    told = ("sh", "-c", '"$@"; echo "ended with $?"', "sh")
    done = run(starter, 4, *told, *launcher("train", "--dry-run"), libmpi=loaded)
    assert re.findall(r"ended with (\d+)", done.stdout) == ["2"] * 4, done.stdout + done.stderr
    assert done.stderr.count("Error:") == 1, done.stderr
