"""Job scripts do what they say with the commands they find; real Slurm comes with the cluster tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "jobs" / "stampede2.sh"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of commands that print how they were called, as the only ones besides the system's."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "python").symlink_to(sys.executable)
    return tools


def command(folder: Path, name: str, says: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{says}\n")
    path.chmod(0o755)


def submit(site: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    job = {
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NUM_NODES": "128",
        "SLURM_NTASKS_PER_NODE": "4",
        "SLURM_SUBMIT_DIR": str(ROOT),
    }
    base = {
        "PATH": f"{site}{os.pathsep}/usr/bin{os.pathsep}/bin",
        "VENV": str(site.parent / "venv"),
        "SCRATCH": "/scratch/me",
    }
    return subprocess.run(
        ["bash", str(SCRIPT), *arguments],
        env={**base, **job, **environment},
        capture_output=True,
        text=True,
        timeout=30,
    )


@pytest.mark.parametrize(
    ("version", "starter", "expected"),
    [
        ("mpirun (Open MPI) 5.0.11", "ibrun", "python"),
        ("mpirun (Open MPI) 5.0.11", "srun", "--ntasks=512 --ntasks-per-node=4 --mpi=pmix"),
        ("Intel(R) MPI Library for Linux* OS", "srun", "--ntasks=512 --ntasks-per-node=4 --mpi=pmi2"),
        ("mpirun (Open MPI) 5.0.11", "mpirun", "-np 512 --map-by ppr:4:node --bind-to none"),
        ("Intel(R) MPI Library for Linux* OS", "mpirun", "-np 512 -ppn 4"),
    ],
)
def test_starts_four_workers_a_node_with_what_the_site_has(
    site: Path, version: str, starter: str, expected: str
) -> None:
    command(site, "mpirun", f'[ "$1" = --version ] && echo "{version}" || echo "mpirun $@"')
    if starter != "mpirun":
        command(site, starter, f'echo "{starter} $@"')
    done = submit(site, "--epochs", "10", RANK_STARTER=starter)
    assert done.returncode == 0, done.stderr
    line = done.stdout.splitlines()[-1]
    assert line.startswith(f"{starter} {expected}")
    assert line.endswith(
        "python -m launcher train --workers-per-node 4 --data /scratch/me/showers/*.h5 "
        "--out /scratch/me/3dgan/3dgan-128n-7 --epochs 10"
    )


def test_environment_overrides_data_and_output(site: Path) -> None:
    command(site, "ibrun", 'echo "ibrun $@"; echo "pinning $I_MPI_PIN, fabric $I_MPI_FABRICS"')
    done = submit(site, DATA="/d/*.h5", OUT="/o", I_MPI_FABRICS="shm")
    assert "--data /d/*.h5 --out /o" in done.stdout
    assert "pinning off, fabric shm" in done.stdout


def test_missing_environment_is_one_clear_error(site: Path) -> None:
    done = submit(site, VENV="/nowhere")
    assert done.returncode == 2
    assert (
        done.stderr.strip() == "Error: no Python environment in /nowhere; make it with 'make env MPI=site' or set VENV"
    )
