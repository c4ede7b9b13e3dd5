"""Small trainings for tests that start real ranks: arguments, processes and weights."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gan.run.checkpoint import read_checkpoint
from tests.support.environment import ROOT, mpi_environment

SMALL = ("--filters", "original", "--warmup-epochs", 1, "--validation-fraction", 0.25)


def arguments(files: Path, out: Path, *more: object) -> tuple[object, ...]:
    """Return the arguments of a small training."""
    return ("--data", files / "*.h5", "--out", out, *SMALL, *more)


def weights(run: Path, epoch: int) -> dict[str, np.ndarray]:
    """Return the weights and optimizer states at the end of an epoch, from 1."""
    return dict(read_checkpoint(run / "checkpoints" / f"epoch-{epoch:04d}.npz").arrays)


def gradients(run: Path, epoch: int) -> dict[str, np.ndarray]:
    """Return the norms of the last gradients from RMSprop's mean squares, one row for each network."""
    arrays = weights(run, epoch)
    return {
        network: np.sqrt(np.concatenate([
            values.ravel() for name, values in sorted(arrays.items())
            if name.startswith(f"{network}_optimizer/") and values.ndim
        ]))
        for network in ("generator", "discriminator")
    }  # fmt: skip


def assert_equal_weights(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def start(mpirun: str, ranks: int, *more: object, **environment: str) -> subprocess.Popen[str]:
    """Start `python -m launcher MORE` on some ranks, or without mpirun if `ranks` is 0."""
    starter = [mpirun, "-np", str(ranks), "--oversubscribe"] if ranks else []
    return subprocess.Popen(
        [*starter, sys.executable, "-m", "launcher", *map(str, more)],
        cwd=ROOT, env=mpi_environment(**environment), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str], seconds: float = 600) -> None:
    """Wait until a condition is true. Fail if the process ends before."""
    limit = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "".join(process.communicate())
        assert time.monotonic() < limit, "the run did not get there in time"
        time.sleep(0.05)


def rank_pids(process: subprocess.Popen[str]) -> list[int]:
    """Return the process ids of the ranks that an mpirun started, by rank."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return sorted(int(child) for child in children)
