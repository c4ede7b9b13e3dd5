"""Shared by all tests: a few simulated showers, and real launcher processes under a real MPI."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.support.environment import ROOT, mpi_environment

EVENTS = 24

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So a shell starts what it puts into the background, and the commands that tests interrupt would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def mpirun() -> str:
    found = shutil.which("mpirun", path=mpi_environment()["PATH"])
    if found is None:
        pytest.skip("no mpirun on PATH and none in this environment")
    return found


Launch = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def launch(mpirun: str) -> Launch:
    """Run `python -m launcher ARGUMENTS` on some ranks and wait for its end."""

    def run(
        ranks: int,
        *arguments: object,
        mpi_options: Sequence[str] = (),
        timeout: float = 800,
        **environment: str,
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "launcher", *map(str, arguments)]
        if ranks:
            command = [mpirun, "-np", str(ranks), "--oversubscribe", *mpi_options, *command]
        return subprocess.run(
            command,
            cwd=ROOT,
            env=mpi_environment(**environment),
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run


@pytest.fixture(scope="session")
def shower_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small files of simulated showers; returns their folder."""
    from gan.data.writing import write_showers
    from gan.simulation.gflash import simulate

    folder = tmp_path_factory.mktemp("showers")
    energies = np.linspace(20.0, 480.0, EVENTS, dtype=np.float32)
    cells = simulate(energies, seed=3, first_event=0)
    for number, part in enumerate((slice(0, 9), slice(9, EVENTS))):
        write_showers(folder / f"EleEscan_1_{number}.h5", cells[part], energies[part], {})
    return folder


@pytest.fixture(scope="session")
def two_ranks(launch: Launch, shower_files: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Two epochs on 2 ranks, deterministic: the run that others are compared with. Folder and output."""
    from tests.support.runs import arguments

    out = tmp_path_factory.mktemp("two")
    done = launch(2, *arguments(shower_files, out, "--epochs", 2, "--batch-size", 2, "--deterministic"))
    assert done.returncode == 0, done.stdout + done.stderr
    return out, done.stdout
