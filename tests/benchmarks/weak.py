"""Measure weak scaling on one machine: steps of one rank on one core, and of two ranks with one core each.

Both trainings run at the same time and make steps alternately, so that a slower machine affects both. While the single
rank makes steps, a signal suspends the two ranks: otherwise a waiting rank and Horovod's background thread would use
the other core.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from gan.parallel import Alone, Communicator
from gan.precision.formats import native_bf16
from gan.settings import TrainingSettings
from tests.benchmarks.figures import Figure
from tests.benchmarks.inputs import forget
from tests.benchmarks.process import ROOT, Job, Say, cores, mpirun, python, rank_environment, start_tensorflow
from tests.benchmarks.step import LEARNING_RATE, batches, shower_file

__all__ = ["measure"]

BATCH = 8
STEPS = 3
"""Number of steps in a round."""
ROUNDS = 6
EVENTS = 512


def measure(job: Job, say: Say) -> list[Figure]:
    """Return the events/s of one and two ranks, their ratio by round, and all parts of a step except computing."""
    if cores() < 2:
        return [Figure(name="weak/fp32/ratio", unit="x", note="needs two cores")]
    precisions = ["fp32", *(["bf16"] if native_bf16() else [])]
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        path = shower_file(Path(folder), EVENTS)
        for precision in precisions:
            figures += _of_precision(precision, path, job, say, job.budget / len(precisions))
    return figures


def _of_precision(precision: str, path: Path, job: Job, say: Say, budget: float) -> list[Figure]:
    end = time.monotonic() + budget
    rounds: list[tuple[dict[str, Any], dict[str, Any]]] = []
    rank = python("tests.benchmarks.weak")
    with ExitStack() as held:
        one = held.enter_context(_ranks([*rank, "alone", precision, path]))
        two = held.enter_context(_ranks([*mpirun(2), *rank, "together", precision, path]))
        one.ready()
        pids = two.ready()
        say(f"{precision}: both trainings are ready")
        longest = 0.0
        while len(rounds) < (2 if job.quick else ROUNDS) and (not rounds or time.monotonic() + longest < end):
            began = time.monotonic()
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            try:
                alone = one.steps(STEPS)
            finally:
                for pid in pids:
                    os.kill(pid, signal.SIGCONT)
            forget(path)
            together = two.steps(STEPS)
            longest = max(longest, time.monotonic() - began)
            rounds.append((alone, together))
            say(f"{precision}: a step takes {alone['seconds']:.2f} s alone, {together['seconds']:.2f} s on two ranks")
    rates = [(BATCH / alone["seconds"], 2 * BATCH / together["seconds"]) for alone, together in rounds]
    shares = {
        name: [100 * together[name] / together["seconds"] for _, together in rounds]
        for name in ("exchanged", "shortest", "waited")
    }
    how = f"batch {BATCH}, {STEPS} steps a round, {together['communicator']}"
    return [
        Figure(name=f"weak/{precision}/1-rank", unit="events/s", rounds=[one for one, _ in rates], note=how),
        Figure(name=f"weak/{precision}/2-ranks", unit="events/s", rounds=[two for _, two in rates], note=how),
        Figure(name=f"weak/{precision}/ratio", unit="x", rounds=[two / one for one, two in rates]),
        Figure(
            name=f"weak/{precision}/communication",
            unit="% of the step",
            rounds=shares["exchanged"],
            note="as the step sees it, with the wait for the other rank; mean of the ranks",
        ),
        Figure(
            name=f"weak/{precision}/exchange",
            unit="% of the step",
            rounds=shares["shortest"],
            note="communication of the rank that waits less in each step: an upper limit for the exchange itself",
        ),
        Figure(
            name=f"weak/{precision}/input",
            unit="% of the step",
            rounds=shares["waited"],
            note="wait for events; the file was dropped from the page cache before each round",
        ),
    ]


class _Ranks:
    """Processes that train steps on request."""

    def __init__(self, process: subprocess.Popen[str], commands: TextIO) -> None:
        self._process = process
        self._commands = commands

    def ready(self) -> list[int]:
        """Wait for the first step, which includes compilation, and return the process ids by rank."""
        return self._answer()["pids"]

    def steps(self, number: int) -> dict[str, Any]:
        """Train `number` steps. Return seconds per step: in total, for exchanges, and for waiting for events."""
        self._commands.write(f"{number}\n")
        self._commands.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError(f"the ranks ended with status {self._process.wait()} before their answer; see their output")


@contextmanager
def _ranks(argv: Sequence[object]) -> Iterator[_Ranks]:
    with tempfile.TemporaryDirectory() as folder:
        # Use a named pipe, because not every mpirun forwards standard input. Open it in both directions, so that this
        # never blocks.
        commands = Path(folder, "commands")
        os.mkfifo(commands)
        process = subprocess.Popen(
            [*map(str, argv), str(commands)], cwd=ROOT, env=rank_environment(2), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            with os.fdopen(os.open(commands, os.O_RDWR), "w") as requests:
                yield _Ranks(process, requests)
                requests.write("0\n")
                requests.flush()
                process.wait(timeout=30)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()


def main(arguments: Sequence[str]) -> None:
    """Train as one rank. Rank 0 reads the number of steps of each round from a pipe. The number 0 ends the process."""
    mode, precision, path, commands = arguments
    communicator = _communicator(mode)
    from gan.data.feeding import Feeder
    from gan.data.showers import open_showers
    from gan.ops.draws import position
    from gan.parallel import share_variables
    from gan.training.networks import Networks
    from gan.training.step import TrainingStep

    settings = TrainingSettings(filters="original", precision=precision, batch_size=BATCH)
    networks = Networks(settings, communicator)
    share_variables(communicator, networks.variables())
    step = TrainingStep(networks, settings, communicator)
    feeder, numbers = Feeder(open_showers([path])), count()

    def steps(number: int, seed: int) -> dict[str, Any]:
        exchanged = []
        # Read one more batch before the clock starts, because a training prefetches the first batch of an epoch, too.
        fed = feeder.feed(batches(EVENTS, BATCH, number + 1, seed))
        next(fed)
        feeder.reset()
        communicator.allgather(None)
        began = time.perf_counter()
        for cells, energies in fed:
            exchanged.append(step(cells, energies, position(0, next(numbers)), LEARNING_RATE).exchange_seconds)
        seconds = time.perf_counter() - began
        of_ranks = communicator.allgather((seconds, feeder.waited, exchanged))
        elapsed, waited, exchanges = (np.array(values) for values in zip(*of_ranks, strict=True))
        return {
            "seconds": elapsed.mean() / number,
            "waited": waited.mean() / number,
            "exchanged": exchanges.mean(),
            "shortest": exchanges.min(axis=0).mean(),
            "communicator": communicator.name,
        }

    steps(1, 0)
    pids = communicator.gather(os.getpid())
    if pids is not None:
        print(json.dumps({"pids": pids}), flush=True)
    requests = open(commands) if communicator.rank == 0 else None  # noqa: SIM115 (open until the process ends)
    for turn in count(1):
        number = communicator.broadcast(int(requests.readline() or 0) if requests else None)
        if number == 0:
            return
        done = steps(number, 2 * turn + communicator.rank)
        if communicator.rank == 0:
            print(json.dumps(done), flush=True)


def _communicator(mode: str) -> Communicator:
    """Bind this rank to a separate core and join the other ranks."""
    allowed = sorted(os.sched_getaffinity(0))
    if mode == "alone":
        os.sched_setaffinity(0, {allowed[0]})
        start_tensorflow(1)
        return Alone()
    from mpi4py import MPI

    from launcher.communicator import MpiCommunicator, choose

    os.sched_setaffinity(0, {allowed[MPI.COMM_WORLD.rank]})
    start_tensorflow(1)
    return choose(MpiCommunicator(MPI.COMM_WORLD), "auto")[0]


if __name__ == "__main__":
    main(sys.argv[1:])
