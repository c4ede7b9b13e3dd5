"""Fixtures and hooks of all tests: simulated showers, real launcher processes under MPI, markers by folder."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.browser import open_browser
from tests.support.environment import mpi_environment
from tests.support.launching import Launch, make_launch
from tests.support.runs import arguments

TESTS = Path(__file__).parent
MARKED_FOLDERS = ("mpi", "cluster")
"""Folders whose tests all get the marker of the same name. These tests must not run in parallel with other tests."""
EVENTS = 24

# Shells ignore SIGINT in background processes, xdist ignores it in its workers, and nohup ignores SIGHUP. Commands of
# tests would inherit this.
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by their folder."""
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        if folder in MARKED_FOLDERS:
            item.add_marker(folder)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Headless Chromium. Tests that use it are skipped without Chromium, or fail with REQUIRE_BROWSER=1."""
    with open_browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="session")
def mpirun() -> str:
    """Path of this environment's mpirun, or else of the mpirun on PATH."""
    path = shutil.which("mpirun", path=mpi_environment()["PATH"])
    if path is None:
        pytest.skip("no mpirun on PATH and none in this environment; make one with 'make env'")
    return path


@pytest.fixture(scope="session")
def launch(mpirun: str) -> Launch:
    """Run `python -m launcher ARGUMENTS` on some ranks and wait for its end."""
    return make_launch(mpirun)


@pytest.fixture(scope="session")
def shower_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of two small files of simulated showers. Tests must not change it."""
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
    """Folder and output of two deterministic epochs on 2 ranks, for comparison with other runs."""
    out = tmp_path_factory.mktemp("two")
    done = launch(2, *arguments(shower_files, out, "--epochs", 2, "--batch-size", 2, "--deterministic"))
    assert done.returncode == 0, done.stdout + done.stderr
    return out, done.stdout
