"""The scripts in jobs/ find data, run folder and Python, and start `launcher run`."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.environment import ROOT
from tests.support.stand_in_venv import stand_in_venv

JOB = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "256", "SLURM_JOB_NAME": "3dgan", "SLURM_NTASKS_PER_NODE": "4"}


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """Environment whose python prints its process id, two variables that machines set, and its arguments."""
    return stand_in_venv(
        tmp_path, 'echo "process $$"; echo "fabric $I_MPI_FABRICS, locks $HDF5_USE_FILE_LOCKING"; echo "$@"'
    )


def start(script: str, *arguments: str, venv: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    base = {"PATH": "/usr/bin:/bin", "VENV": str(venv), "SCRATCH": "/scratch/me", "SLURM_SUBMIT_DIR": str(ROOT)}
    return subprocess.run(
        ["bash", str(ROOT / "jobs" / script), *arguments], env={**base, **environment}, cwd=ROOT, capture_output=True,
        text=True, timeout=30,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("script", "machine"),
    [
        ("stampede2.sh", "stampede2-skx"),
        ("stampede3-skx.sh", "stampede3-skx"),
        ("stampede3-icx.sh", "stampede3-icx"),
        ("stampede3-spr.sh", "stampede3-spr"),
        ("frontera.sh", "frontera-clx"),
        ("lonestar6.sh", "lonestar6-milan"),
        ("slurm.sh", "generic"),
    ],
)
def test_the_submission_decides_size_and_options(script: str, machine: str, venv: Path) -> None:
    done = start(script, "--epochs", "25", venv=venv, **JOB)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == (
        f"-m launcher run --machine {machine} --workers-per-node 4 train --data /scratch/me/showers/*.h5 "
        "--out /scratch/me/3dgan/3dgan-256n-7 --epochs 25"
    )


def test_the_single_node_script_needs_no_slurm_and_reuses_its_run_folder(venv: Path) -> None:
    first, second = (start("single-node.sh", "--epochs", "2", venv=venv) for _ in range(2))
    expected = "--workers-per-node 2 train --data /scratch/me/showers/*.h5 --out /scratch/me/3dgan/3dgan-1n --epochs 2"
    for done in (first, second):
        assert done.stdout.splitlines()[-1] == f"-m launcher run --machine single-node {expected}"
    more = start("single-node.sh", venv=venv, WORKERS_PER_NODE="8")
    assert "--workers-per-node 8" in more.stdout


def test_environment_variables_override_the_machine_file(venv: Path) -> None:
    done = start("stampede2.sh", venv=venv, DATA="/d/a b*.h5", OUT="/o", I_MPI_FABRICS="shm", **JOB)
    assert "--data /d/a b*.h5 --out /o" in done.stdout
    assert "fabric shm, locks FALSE" in done.stdout
    assert "fabric shm:ofi" in start("stampede2.sh", venv=venv, **JOB).stdout


def test_signals_from_slurm_reach_the_run(venv: Path) -> None:
    """Slurm signals the process of the script (--signal=B:), so Python must have replaced the shell."""
    environment = {**os.environ, "VENV": str(venv), "PROJECT": str(ROOT)}
    shell = subprocess.Popen(
        ["bash", str(ROOT / "jobs" / "slurm.sh")], env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    printed = shell.communicate(timeout=30)[0]
    assert f"process {shell.pid}\n" in printed


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"VENV": "/nowhere"}, "/nowhere has no Python; create the environment with 'make env MPI=site' or set VENV"),
        ({"PROJECT": "/nowhere"}, "/nowhere has no folder launcher; submit from the repository or set PROJECT"),
        (
            {"MODULES": "intel"},
            "no command 'module' here; load 'intel' in another way and set MODULES=''",
        ),
    ],
)
def test_a_missing_part_is_one_clear_error(environment: dict[str, str], message: str, venv: Path) -> None:
    folder = Path(environment.get("VENV", venv))
    others = {name: value for name, value in environment.items() if name != "VENV"}
    done = start("frontera.sh", venv=folder, **JOB, **others)
    assert done.returncode == 2
    assert done.stderr.strip() == f"Error: {message}"
