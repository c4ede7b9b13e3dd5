"""The launcher on several nodes under a real Slurm: there is one report, and ranks are bound as in report and plan."""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from launcher.cpulist import format_cpu_list, parse_cpu_list
from launcher.machines import load_machine
from launcher.placement import Placement, place
from launcher.plan import make_plan
from launcher.topology import read_topology, restrict
from scaling.records import read_run
from tests.cluster.bed import MakeBed, SlurmBed
from tests.support.environment import ROOT
from tests.support.mpi_libraries import LIBRARIES, library_folder, srun_environment
from tests.support.rounding import LOSS_TOLERANCE, SMALL_RATE

NODES, PER_NODE = 4, 4
RANKS = NODES * PER_NODE
LAUNCHER = ("python", "-m", "launcher")
STARTERS = {
    "srun": ("srun", f"--ntasks-per-node={PER_NODE}", "--mpi=pmix", "--cpu-bind=none"),
    "mpirun": ("mpirun", "-np", str(RANKS), "--bind-to", "none"),
}
SKX = load_machine("stampede2-skx").topology()


def run_job(bed: SlurmBed, *lines: tuple[object, ...]) -> str:
    """Run command lines one after another on the first node of a job of all nodes, and return their output."""
    script = "\n".join(["#!/bin/bash", "set -e", *(shlex.join(map(str, line)) for line in lines)])
    options = (f"--nodes={NODES}", f"--ntasks-per-node={PER_NODE}", f"--output={bed.jobs_folder}/%j.out")
    job = bed.wait(bed.sbatch(script + "\n", *options, cwd=ROOT), timeout=180)
    assert (job.state, job.exit_code) == ("COMPLETED", 0), job.output
    return job.output


def witness(folder: Path) -> tuple[object, ...]:
    """Return the command line of a rank that writes its CPU masks to a file in `folder`."""
    folder.mkdir()
    return (*LAUNCHER, "exec", "--", "python", "-m", "tests.cluster.witness", folder)


def read_testimonies(folder: Path) -> list[dict[str, Any]]:
    """Return the contents of the ranks' files, in the order of ranks."""
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(len(list(folder.iterdir())))]


def check_report(printed: str, placement: Placement, nodes: int = NODES) -> None:
    """Check that there is one report, that all nodes are equal, and that workers have the CPUs of the placement."""
    assert printed.count("Placement:") == 1, printed
    lines = printed.splitlines()
    heading = next(number for number, line in enumerate(lines) if line.startswith("  local rank "))
    columns = re.split(r"\s{2,}", lines[heading].strip())
    rows = [re.split(r"\s{2,}", line.strip()) for line in lines[heading + 1 : heading + 1 + len(placement.workers)]]
    claimed = [row[columns.index("CPUs")] for row in rows]
    assert claimed == [format_cpu_list(worker.cpus) for worker in placement.workers], printed
    assert f"Placement: {nodes * len(placement.workers)} workers on {nodes} nodes" in printed
    assert f" and {nodes - 1} alike" in lines[heading - 1]


def check_testimonies(ranks: list[dict[str, Any]], placement: Placement, bed: SlurmBed) -> None:
    """Check that each node has consecutive ranks, and that all threads of a rank have only its worker's CPUs."""
    assert [rank["host"] for rank in ranks] == [node for node in bed.nodes for _ in range(PER_NODE)]
    for rank in ranks:
        expected = list(placement.workers[rank["local_rank"]].cpus)
        assert rank["cpus"] == [expected] * len(rank["cpus"])


@pytest.fixture(scope="module")
def here() -> Placement:
    """Placement of four workers on a node with this machine's CPUs."""
    return place(restrict(read_topology(), os.sched_getaffinity(0)), PER_NODE)


@pytest.mark.parametrize("starter", STARTERS)
def test_ranks_on_four_nodes_are_bound_as_planned(bed: SlurmBed, here: Placement, tmp_path: Path, starter: str) -> None:
    start, folder = STARTERS[starter], tmp_path / "ranks"
    printed = run_job(bed, (*start, *LAUNCHER, "--dry-run"), ("echo", "witnesses"), (*start, *witness(folder)))
    check_report(printed.partition("witnesses")[0], here)
    ranks = read_testimonies(folder)
    assert len(ranks) == RANKS
    check_testimonies(ranks, here, bed)
    for rank in ranks:
        assert rank["kernel"] == [kernel_list(here.workers[rank["local_rank"]].cpus)] * len(rank["kernel"])


def kernel_list(cpus: tuple[int, ...]) -> str:
    """Format CPUs as the kernel does: ranges, no strides."""
    runs: list[list[int]] = []
    for cpu in cpus:
        if runs and cpu == runs[-1][-1] + 1:
            runs[-1].append(cpu)
        else:
            runs.append([cpu])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def planned_line(builder: str, program: tuple[object, ...]) -> tuple[str, ...]:
    """Return the command line of a plan for the bed's nodes, for one kind of starter."""
    plan = make_plan(machine="stampede2-skx", nodes=NODES, launch=tuple(map(str, program)))
    return plan.commands[builder].argv


def test_workers_on_two_by_24_cores_bind_themselves_as_planned(skx_bed: SlurmBed, tmp_path: Path) -> None:
    start, placement = STARTERS["srun"], place(SKX, PER_NODE)
    printed = run_job(
        skx_bed,
        (*start, *LAUNCHER, "--dry-run"),
        ("echo", "witnesses"),
        (*start, *witness(tmp_path / "srun")),
        (*STARTERS["mpirun"], *witness(tmp_path / "mpirun")),
    )
    check_report(printed.partition("witnesses")[0], placement)
    for folder in ("srun", "mpirun"):
        ranks = read_testimonies(tmp_path / folder)
        assert len(ranks) == RANKS
        check_testimonies(ranks, placement, skx_bed)
        domains = [placement.workers[rank["local_rank"]].memory_domain for rank in ranks]
        assert [rank["memory"] for rank in ranks] == [f"preferred:{domain}" for domain in domains]


@pytest.mark.parametrize("builder", ["srun", "open_mpi"])
def test_lines_of_the_plan_bind_as_planned(skx_bed: SlurmBed, tmp_path: Path, builder: str) -> None:
    """Slurm and Open MPI bind as planned, and the launcher keeps their masks."""
    placement = place(SKX, PER_NODE)
    printed = run_job(skx_bed, planned_line(builder, witness(tmp_path / "ranks")))
    ranks = read_testimonies(tmp_path / "ranks")
    assert len(ranks) == RANKS
    check_testimonies(ranks, placement, skx_bed)
    assert {"srun": "Slurm", "open_mpi": "Open MPI"}[builder] in printed
    assert "Warning" not in printed
    if builder == "srun":
        assert [rank["memory"] for rank in ranks[:PER_NODE]] == ["bind:0", "bind:0", "bind:1", "bind:1"]


def test_wrong_pmi_is_one_error(bed: SlurmBed) -> None:
    """Open MPI does not support PMI-2, so every rank finds no other ranks and would train alone."""
    done = bed.run(["srun", "--nodes=2", "--ntasks=2", "--mpi=pmi2", *LAUNCHER, "--dry-run"], cwd=ROOT)
    assert done.returncode != 0
    assert done.stderr.count("finds itself alone") == 1
    assert "--mpi=pmix (Open MPI)" in done.stderr
    assert "Placement" not in done.stdout


@pytest.mark.slow
def test_the_same_training_under_srun_with_every_mpi_library(
    make_bed: MakeBed, shower_files: Path, tmp_path: Path
) -> None:
    bed = make_bed(2, shared=[library_folder(name) for name in LIBRARIES])
    losses = {}
    planned = place(restrict(read_topology(), os.sched_getaffinity(0)), 2)
    for name, library in LIBRARIES.items():
        start = ("srun", "--nodes=2", "--ntasks-per-node=2", f"--mpi={library.srun_mpi}", "--cpu-bind=none")
        environment = {**bed.environment, **srun_environment(name)}
        folder = tmp_path / name
        options = (
            *("--data", shower_files / "*.h5", "--out", folder, "--epochs", 1, "--batch-size", 1, "--events", 10),
            *("--filters", "original", "--communicator", "mpi", "--learning-rate", SMALL_RATE),
            *("--shape-weight", 0),  # the shape term needs two showers in a batch
        )
        done = bed.run([*start, *LAUNCHER, *options], env=environment, cwd=ROOT, timeout=400)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        run = read_run(folder)
        assert library.vendor in run.header.versions["mpi"]
        assert (run.header.nodes, run.header.workers) == (2, 4)
        own = [frozenset(parse_cpu_list(str(row["cpus"]))) for row in run.header.placement]
        assert own == [frozenset(worker.cpus) for worker in planned.workers] * 2
        losses[name] = [list(epoch.losses.values()) for epoch in run.epochs]
    # Every library adds the numbers of four ranks in another order. Losses are means over the ranks, so an error in one
    # rank's part would change them by much more.
    for name in ("mpich", "impi"):
        assert losses[name] == [pytest.approx(row, rel=LOSS_TOLERANCE) for row in losses["openmpi"]]


SMALL_BUFFERS = {
    "FI_TCP_MAX_RX_SIZE": "256",
    "FI_TCP_RX_SIZE": "64",
    "FI_TCP_TX_SIZE": "64",
    "FI_TCP_STAGING_SBUF_SIZE": "0",
    "FI_TCP_PREFETCH_RBUF_SIZE": "0",
    "OPENBLAS_NUM_THREADS": "1",
}
"""Variables with which a rank of MPICH over TCP needs 11 MB instead of 27."""
MEMORY_OF_512_RANKS = 16e9
"""Memory in bytes that 512 ranks and the daemons of 128 nodes need."""


def available_memory() -> int:
    """Return the bytes of memory that new processes can use without swapping."""
    words = Path("/proc/meminfo").read_text().split()
    return int(words[words.index("MemAvailable:") + 1]) * 1024


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_512_ranks_on_128_nodes_print_one_report(make_bed: MakeBed, here: Placement) -> None:
    """MPICH starts 512 ranks under srun without more threads or daemons.

    On two cores this takes about 2 minutes and 15 GB: half a second and 28 MB per rank.
    """
    available = available_memory()
    if available < MEMORY_OF_512_RANKS:
        pytest.skip(f"{available / 1e9:.0f} GB of memory are free; 512 ranks need {MEMORY_OF_512_RANKS / 1e9:.0f} GB")
    bed = make_bed(128, shared=[library_folder("mpich")])
    start = ("srun", "--nodes=128", "--ntasks-per-node=4", f"--mpi={LIBRARIES['mpich'].srun_mpi}", "--cpu-bind=none")
    done = bed.run([*start, *LAUNCHER, "--dry-run"], env={**srun_environment("mpich"), **SMALL_BUFFERS}, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    check_report(done.stdout, here, nodes=128)
