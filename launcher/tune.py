"""`launcher tune`: measures which workers per node and threads are fastest here, with the training's own step.

Candidates are few: the plan's defaults, and others that keep workers inside NUMA domains. For each, its workers run
side by side as plain processes, bound as the plan binds them and without MPI, since the exchange is a hundredth of a
step. Where the winner is kept is told in `tuned`; placement and threads are decided in `placement` and `threads`.

The module is also the program of such a worker: `python -m launcher.tune`, its task on standard input.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from launcher.binding import bind
from launcher.errors import LaunchError
from launcher.placement import WorkerPlacement, place
from launcher.threads import ThreadPlan, plan_threads
from launcher.topology import Topology
from launcher.tuned import Tuned

__all__ = ["Candidate", "Result", "Task", "candidates", "measure", "render", "tune", "winner"]

ROOT = Path(__file__).resolve().parent.parent
WORTH = 1.05
"""A candidate must be faster than the plan's defaults by so much, twice: less is noise."""
SHARE_OF_STEPS = 0.25
"""Of the time for a candidate; the rest goes into starting its workers and compiling the step."""
LEAST_STEPS = 3.0
"""Seconds of steps: a large batch on few cores takes a second each."""


@dataclass(frozen=True, slots=True, order=True)
class Candidate:
    """Settings to be tried on a node."""

    workers: int
    inter_op: int
    intra_op: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What a candidate's workers achieved together."""

    candidate: Candidate
    cores: int
    """Of a worker."""
    events_per_second: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What is trained while it is measured."""

    filters: str = "16"
    batch_size: int = 8
    precision: str = "fp32"

    def __str__(self) -> str:
        return f"filters {self.filters}, batch {self.batch_size}, {self.precision}"


def candidates(topology: Topology, default_workers: int) -> list[Candidate]:
    """The plan's defaults first, then from what is likeliest to be faster; each once.

    Workers: the default number, and one, two and four for each NUMA domain; threads: the plan's, one operation at a
    time on all cores, and two at a time on all cores.
    """
    domains = sum(1 for domain in topology.domains if topology.cores_of(domain.id))
    counts = [n * domains for n in (1, 2, 4) if n * domains <= topology.core_count]
    nearest = sorted(counts, key=lambda count: (abs(count - default_workers), count))
    found: dict[Candidate, None] = {}
    plain: list[Candidate] = []
    for workers in dict.fromkeys([default_workers, *nearest]):
        cores = _cores(topology, workers)
        planned = plan_threads(cores, {})
        found[Candidate(workers, planned.inter_op, planned.intra_op)] = None
        plain += [Candidate(workers, inter, cores) for inter in (1, 2)]
    return list(found | dict.fromkeys(plain))


def _cores(topology: Topology, workers: int) -> int:
    return min(worker.cores for worker in place(topology, workers).workers)


def tune(
    topology: Topology,
    environ: Mapping[str, str],
    task: Task,
    seconds: float,
    default_workers: int,
    say: Callable[[str], None] = lambda text: None,
) -> list[Result]:
    """Measure candidates, the plan's defaults first, until the time is used; two of them in any case.

    Where another than the defaults is the fastest, both are measured again: the machine may have been disturbed once.

    Raises LaunchError where a worker fails.
    """
    tried = candidates(topology, default_workers)
    window = max(LEAST_STEPS, SHARE_OF_STEPS * seconds / len(tried))
    end = time.monotonic() + seconds
    results: list[Result] = []
    costs: list[float] = []
    for number, candidate in enumerate(tried):
        if number >= 2 and time.monotonic() + max(costs) > end:
            needed = (len(tried) + 1) * max(costs)
            say(f"The time is used after {number} of {len(tried)} settings; --seconds {needed:.0f} would do for all.")
            break
        began = time.monotonic()
        results.append(measure(topology, candidate, environ, task, window))
        costs.append(time.monotonic() - began)
        say(_line(results[-1], results[0]))
    best = max(range(len(results)), key=lambda number: results[number].events_per_second)
    # The best of many is the luckiest as well: it and the defaults run once more, and the worse of its two counts
    # against the better of theirs.
    for number, choice in ((0, max), (best, min)) if best else ():
        again = measure(topology, tried[number], environ, task, window)
        say(f"{_line(again, results[0])}  again")
        results[number] = choice(results[number], again, key=lambda result: result.events_per_second)
    return results


def winner(results: Sequence[Result], task: Task) -> Tuned:
    """The fastest, or the plan's defaults (the first) where no other is faster by more than noise."""
    default = results[0]
    best = max(results, key=lambda result: result.events_per_second)
    if best.events_per_second < WORTH * default.events_per_second:
        best = default
    return Tuned(
        workers_per_node=best.candidate.workers,
        inter_op=best.candidate.inter_op,
        intra_op=best.candidate.intra_op,
        ratio=round(best.events_per_second / default.events_per_second, 3),
        measured=f"{date.today().isoformat()}, {task}",
    )


HEAD = "workers  cores each  inter-op  intra-op  events/s  over the plan's"


def _line(result: Result, default: Result) -> str:
    candidate = result.candidate
    return (
        f"{candidate.workers:7}  {result.cores:10}  {candidate.inter_op:8}  {candidate.intra_op:8}  "
        f"{result.events_per_second:8.2f}  {result.events_per_second / default.events_per_second:15.2f}"
    )


def render(results: Sequence[Result], chosen: Tuned) -> str:
    """The table, fastest first, the chosen one marked."""
    rows = sorted(results, key=lambda result: -result.events_per_second)
    taken = Candidate(chosen.workers_per_node, chosen.inter_op, chosen.intra_op)
    return "\n".join([HEAD, *(_line(row, results[0]) + ("  <-" if row.candidate == taken else "") for row in rows)])


def measure(topology: Topology, candidate: Candidate, environ: Mapping[str, str], task: Task, seconds: float) -> Result:
    """Start a candidate's workers, let them all get ready, and add up their events/s over the same seconds."""
    placement = place(topology, candidate.workers)
    # Counts in the environment are not for the candidates: they would all be the same.
    clean = {name: value for name, value in environ.items() if not name.endswith("_THREADS")}
    with _workers(topology, placement.workers, candidate, clean, task) as workers:
        for worker in workers:
            _heard(worker, "ready")
        for worker in workers:
            assert worker.stdin is not None
            print(seconds, file=worker.stdin, flush=True)
        rates = [float(_heard(worker, "events_per_second")) for worker in workers]
    return Result(candidate=candidate, cores=_cores(topology, candidate.workers), events_per_second=sum(rates))


@contextmanager
def _workers(
    topology: Topology,
    placements: Sequence[WorkerPlacement],
    candidate: Candidate,
    environ: Mapping[str, str],
    task: Task,
) -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    try:
        for placed in placements:
            threads = plan_threads(placed.cores, environ, candidate.inter_op, candidate.intra_op)
            worker = subprocess.Popen(
                [sys.executable, "-m", "launcher.tune"],
                cwd=ROOT,
                env={**environ, **_variables(threads)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            started.append(worker)
            assert worker.stdin is not None
            told = {"placement": asdict(placed), "domains": len(topology.domains), "task": asdict(task)}
            print(json.dumps(told), file=worker.stdin, flush=True)
        yield started
    finally:
        for worker in started:
            worker.kill()
            worker.communicate()


def _variables(threads: ThreadPlan) -> dict[str, str]:
    planned = {variable.name: variable.value for variable in threads.variables}
    return {**planned, "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}


def _heard(worker: subprocess.Popen[str], key: str) -> Any:
    """The value in the next line of a worker that has one."""
    assert worker.stdout is not None
    for line in worker.stdout:
        if line.startswith("{") and key in (told := json.loads(line)):
            return told[key]
    _, complaint = worker.communicate()
    last = complaint.strip().splitlines()[-1:] or [f"status {worker.returncode}"]
    raise LaunchError(f"a worker failed while it was measured ({last[0]}); see what 'python -m launcher doctor' finds")


def work() -> None:
    """A worker: bind, build the networks, say `ready`, wait for the seconds, take steps, tell events per second."""
    told = json.loads(sys.stdin.readline())
    placed = {**told["placement"], "cpus": tuple(told["placement"]["cpus"])}
    bind(WorkerPlacement(**placed), told["domains"])
    step, events = _step(Task(**told["task"]))
    step()
    print(json.dumps({"ready": True}), flush=True)
    seconds = float(sys.stdin.readline())
    began = time.perf_counter()
    steps = 0
    while (elapsed := time.perf_counter() - began) < seconds or not steps:
        step()
        steps += 1
    elapsed = time.perf_counter() - began
    print(json.dumps({"events_per_second": steps * events / elapsed}), flush=True)


def _step(task: Task) -> tuple[Callable[[], object], int]:
    """The training's step on simulated showers, and its events."""
    from launcher.train import start_tensorflow

    threads = plan_threads(len(os.sched_getaffinity(0)), os.environ)
    start_tensorflow(threads)
    import numpy as np

    from gan.ops.draws import position
    from gan.parallel import Alone
    from gan.settings import TrainingSettings
    from gan.simulation.gflash import simulate
    from gan.training.step import Networks, TrainingStep

    settings = TrainingSettings(filters=task.filters, batch_size=task.batch_size, precision=task.precision)
    train = TrainingStep(Networks(settings, Alone()), settings, Alone())
    energies = np.linspace(20, 480, task.batch_size, dtype=np.float32)
    cells = simulate(energies, seed=1)
    number = iter(range(2**32))
    return lambda: train(cells, energies, position(0, next(number)), settings.learning_rate), task.batch_size


if __name__ == "__main__":
    work()
