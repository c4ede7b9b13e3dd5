"""Measure the exchange of one network's gradients between ranks of this machine, by transport.

`plain` is MPI_Allreduce between two NumPy buffers. `mpi` and `horovod` are the launcher's communicators, called as the
step calls them. `gloo` is Horovod without MPI. Each transport has its own ranks, since Horovod's background thread
slows other work on its core.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from tests.benchmarks.figures import Figure
from tests.benchmarks.process import ROOT, Job, Say, cores, mpirun, python, rank_environment, start_tensorflow

__all__ = ["SIZES", "measure"]

SIZES = {"generator": 872_948, "discriminator": 73_450}
"""Number of values in the gradients of an update, for the original filters."""
EXTRA = 5
"""Number of values in the same message as the gradients: the losses and the request to stop."""
EXCHANGES = 25
PASSES = ((2, 2), (4, 1))
"""Numbers of ranks, and how many times they are started, because the time differs between starts."""
Exchange = Callable[[], object]


def measure(job: Job, say: Say) -> list[Figure]:
    """Return the milliseconds on rank 0 from a barrier to the mean."""
    figures = []
    for ranks, passes in ((2, 1),) if job.quick else PASSES:
        crowded = f"{ranks} ranks on {cores()} cores" if ranks > cores() else ""
        found: dict[str, list[float]] = {}
        for turn in range(passes):
            transports = ["plain", "mpi", "horovod"]
            missing = "Horovod does not load"
            for transport in transports:
                say(f"{transport}, {ranks} ranks, pass {turn + 1}")
                try:
                    times, remark = _run(transport, ranks)
                except RuntimeError as error:
                    # mpirun sometimes fails to start on a busy machine.
                    say(f"trying again after an error: {error}")
                    times, remark = _run(transport, ranks)
                for name, values in times.items():
                    found.setdefault(f"{name}/{transport}", []).extend(values)
                if transport == "horovod":
                    missing = remark
                    transports += [] if remark else ["gloo"]
        figures += [
            Figure(name=f"allreduce/{ranks}/{name}", unit="ms", rounds=values, note=crowded)
            for name, values in found.items()
        ]
        if missing:
            figures.append(Figure(name=f"allreduce/{ranks}/generator/gloo", unit="ms", note=missing))
    return figures


def _run(transport: str, ranks: int) -> tuple[dict[str, list[float]], str]:
    """Return milliseconds by network, and the reason if Horovod has no Gloo. Only a rank with Horovod can find out."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "times.json")
        start = mpirun(ranks)
        if transport == "gloo":
            start = [str(Path(sys.executable).with_name("horovodrun")), "--gloo", "-np", str(ranks)]
            start += ["-H", f"localhost:{ranks}"]
        done = subprocess.run(
            [*start, *python("tests.benchmarks.allreduce", transport, ranks, out)],
            cwd=ROOT, env=rank_environment(ranks), capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(
                f"{transport} on {ranks} ranks ended with status {done.returncode}:\n{done.stderr[-2000:]}"
            )
        times = json.loads(out.read_text())
        return times, times.pop("without_gloo")


def main(arguments: Sequence[str]) -> None:
    """Measure as one rank. The arguments are transport, number of ranks and output file."""
    transport, ranks, out = arguments[0], int(arguments[1]), Path(arguments[2])
    rank, wait, exchange_of = _transport(transport, max(1, cores() // ranks))
    times: dict[str, list[float]] = {}
    for name, size in SIZES.items():
        values = np.random.default_rng(rank).normal(scale=1e-3, size=size + EXTRA).astype(np.float32)
        exchange = exchange_of(values)
        exchange()
        times[name] = []
        for _ in range(EXCHANGES):
            wait()
            began = time.perf_counter()
            exchange()
            times[name].append(1000 * (time.perf_counter() - began))
    if rank == 0:
        horovod = sys.modules.get("horovod.tensorflow")
        without = "" if horovod and horovod.gloo_built() else "this Horovod was built without Gloo"
        out.write_text(json.dumps({**times, "without_gloo": without}))


def _transport(name: str, threads: int) -> tuple[int, Exchange, Callable[[np.ndarray], Exchange]]:
    """Return this rank's number, a barrier, and a function that returns the exchange of some values."""
    if name == "gloo":
        return _gloo(threads)
    from mpi4py import MPI

    world = MPI.COMM_WORLD
    if name == "plain":

        def plain(values: np.ndarray) -> Exchange:
            mean = np.empty_like(values)
            return lambda: world.Allreduce(values, mean)

        return world.rank, world.Barrier, plain
    from launcher.communicator import MpiCommunicator, choose

    start_tensorflow(threads)
    communicator, _ = choose(MpiCommunicator(world), name)
    return world.rank, world.Barrier, lambda values: _in_graph(communicator.mean, values)


def _gloo(threads: int) -> tuple[int, Exchange, Callable[[np.ndarray], Exchange]]:
    start_tensorflow(threads)
    import horovod.tensorflow as horovod

    horovod.init()
    wait = _in_graph(horovod.allreduce, np.zeros(1, np.float32))
    return horovod.rank(), wait, lambda values: _in_graph(horovod.allreduce, values)


def _in_graph(mean: Callable[[object], object], values: np.ndarray) -> Exchange:
    import tensorflow as tf

    tensor, compiled = tf.constant(values), tf.function(mean)
    return lambda: compiled(tensor)


if __name__ == "__main__":
    main(sys.argv[1:])
