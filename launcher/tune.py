"""Measure which numbers of workers and threads are fastest on this node, with the step of the training itself.

There are few candidates: the defaults of the plan, and others that keep each worker inside a NUMA domain. The workers
of a candidate run at the same time as plain processes, bound as in a training. They run without MPI, because the
exchange of gradients takes only about 1% of a step. `tuned` stores the winner.

`tune_worker` is the program of such a worker.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from launcher.errors import LaunchError
from launcher.placement import WorkerPlacement, place
from launcher.threads import ThreadPlan, plan_threads
from launcher.topology import Topology
from launcher.tune_worker import Task
from launcher.tuned import Tuned

__all__ = ["Candidate", "Result", "candidates", "measure", "render", "tune", "winner"]

ROOT = Path(__file__).resolve().parent.parent
LEAST_GAIN = 1.05
"""A candidate must be faster than the defaults of the plan by this factor, in two measurements. Smaller gains are
noise."""
SHARE_OF_STEPS = 0.25
"""Fraction of a candidate's time for measured steps. The start of its workers and the compilation take the rest."""
LEAST_SECONDS = 3.0
"""Shortest measurement of a candidate in seconds. One step of a large batch on few cores takes a second."""


@dataclass(frozen=True, slots=True, order=True)
class Candidate:
    """Settings to measure on a node."""

    workers: int
    """Workers on the node."""
    inter_op: int
    """TensorFlow operations at the same time in a worker."""
    intra_op: int
    """Threads that share one operation."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """Speed of a candidate."""

    candidate: Candidate
    cores: int
    """Physical cores of each worker."""
    events_per_second: float
    """Events per second of all its workers together."""


def candidates(topology: Topology, default_workers: int) -> list[Candidate]:
    """Return the candidates for a node, each once: the defaults of the plan, then the most promising ones first.

    The numbers of workers are the default, and one, two and four per NUMA domain. For each there are three choices of
    threads: as in the plan, one operation at a time on all cores of a worker, and two operations at a time on all
    cores.
    """
    domains = sum(1 for domain in topology.domains if topology.cores_of(domain.id))
    counts = [n * domains for n in (1, 2, 4) if n * domains <= topology.core_count]
    nearest = sorted(counts, key=lambda count: (abs(count - default_workers), count))
    planned: list[Candidate] = []
    plain: list[Candidate] = []
    for workers in dict.fromkeys([default_workers, *nearest]):
        cores = _cores(topology, workers)
        threads = plan_threads(cores, {})
        planned.append(Candidate(workers, threads.inter_op, threads.intra_op))
        plain += [Candidate(workers, inter, cores) for inter in (1, 2)]
    return list(dict.fromkeys(planned + plain))


def _cores(topology: Topology, workers: int) -> int:
    """Return the number of physical cores of the worker with the fewest cores."""
    return min(worker.cores for worker in place(topology, workers).workers)


def tune(
    topology: Topology,
    environ: Mapping[str, str],
    task: Task,
    seconds: float,
    default_workers: int,
    say: Callable[[str], None] = lambda text: None,
) -> list[Result]:
    """Measure candidates until the time is over, but at least two. The defaults of the plan come first.

    If another candidate than the defaults is the fastest, both are measured a second time, because something else on
    the machine may have disturbed the first measurement.

    Args:
        topology: the node, or the part of it that may be used.
        environ: environment of the workers. Thread counts in it are ignored.
        task: the step to measure.
        seconds: time for all candidates, approximately.
        default_workers: workers per node of the first candidate.
        say: function that prints a line for the user.

    Raises:
        LaunchError: a worker failed.
    """
    every = candidates(topology, default_workers)
    window = max(LEAST_SECONDS, SHARE_OF_STEPS * seconds / len(every))
    end = time.monotonic() + seconds
    results: list[Result] = []
    costs: list[float] = []
    for number, candidate in enumerate(every):
        if number >= 2 and time.monotonic() + max(costs) > end:
            needed = (len(every) + 1) * max(costs)
            say(f"Time is over after {number} of {len(every)} settings; for all of them give --seconds {needed:.0f}.")
            break
        began = time.monotonic()
        results.append(measure(topology, candidate, environ, task, window))
        costs.append(time.monotonic() - began)
        say(_line(results[-1], results[0]))
    best = max(range(len(results)), key=lambda number: results[number].events_per_second)
    # The best of many results is partly luck. So the winner and the defaults are measured again. The slower result of
    # the winner and the faster result of the defaults count.
    for number, choice in ((0, max), (best, min)) if best else ():
        again = measure(topology, every[number], environ, task, window)
        say(f"{_line(again, results[0])}  again")
        results[number] = choice(results[number], again, key=lambda result: result.events_per_second)
    return results


def winner(results: Sequence[Result], task: Task) -> Tuned:
    """Return the fastest settings, or the defaults (the first result) if no other is faster by more than noise."""
    default = results[0]
    best = max(results, key=lambda result: result.events_per_second)
    if best.events_per_second < LEAST_GAIN * default.events_per_second:
        best = default
    return Tuned(
        workers_per_node=best.candidate.workers,
        inter_op=best.candidate.inter_op,
        intra_op=best.candidate.intra_op,
        ratio=round(best.events_per_second / default.events_per_second, 3),
        measured=f"{date.today().isoformat()}, {task}",
    )


HEAD = "workers  cores each  inter-op  intra-op  events/s  vs. the default"
"""Heading of the table of results."""


def _line(result: Result, default: Result) -> str:
    candidate = result.candidate
    return (
        f"{candidate.workers:7}  {result.cores:10}  {candidate.inter_op:8}  {candidate.intra_op:8}  "
        f"{result.events_per_second:8.2f}  {result.events_per_second / default.events_per_second:15.2f}"
    )


def render(results: Sequence[Result], chosen: Tuned) -> str:
    """Return the table of results, fastest first, with an arrow at the chosen settings."""
    rows = sorted(results, key=lambda result: -result.events_per_second)
    choice = Candidate(chosen.workers_per_node, chosen.inter_op, chosen.intra_op)
    return "\n".join([HEAD, *(_line(row, results[0]) + ("  <-" if row.candidate == choice else "") for row in rows)])


def measure(topology: Topology, candidate: Candidate, environ: Mapping[str, str], task: Task, seconds: float) -> Result:
    """Start the workers of a candidate, wait until all are ready, and sum their events/s over the same seconds."""
    placement = place(topology, candidate.workers)
    # Thread counts in the environment would have priority over the candidate's.
    clean = {name: value for name, value in environ.items() if not name.endswith("_THREADS")}
    with _workers(topology, placement.workers, candidate, clean, task) as workers:
        for worker in workers:
            _answer(worker, "ready")
        for worker in workers:
            assert worker.stdin is not None
            print(seconds, file=worker.stdin, flush=True)
        rates = [float(_answer(worker, "events_per_second")) for worker in workers]
    return Result(candidate=candidate, cores=_cores(topology, candidate.workers), events_per_second=sum(rates))


@contextmanager
def _workers(
    topology: Topology,
    placements: Sequence[WorkerPlacement],
    candidate: Candidate,
    environ: Mapping[str, str],
    task: Task,
) -> Iterator[list[subprocess.Popen[str]]]:
    """Start the workers and send each of them its task. Kill them at the end."""
    started: list[subprocess.Popen[str]] = []
    try:
        for placed in placements:
            threads = plan_threads(placed.cores, environ, candidate.inter_op, candidate.intra_op)
            worker = subprocess.Popen(
                [sys.executable, "-m", "launcher.tune_worker"],
                cwd=ROOT,
                env={**environ, **_variables(threads)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            started.append(worker)
            assert worker.stdin is not None
            order = {"placement": asdict(placed), "domains": len(topology.domains), "task": asdict(task)}
            print(json.dumps(order), file=worker.stdin, flush=True)
        yield started
    finally:
        for worker in started:
            worker.kill()
            worker.communicate()


def _variables(threads: ThreadPlan) -> dict[str, str]:
    chosen = {variable.name: variable.value for variable in threads.variables}
    return {**chosen, "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}


def _answer(worker: subprocess.Popen[str], key: str) -> Any:
    """Read the output of a worker up to the JSON line that has this key, and return the value.

    Raises:
        LaunchError: the worker ended before it printed such a line.
    """
    assert worker.stdout is not None
    for line in worker.stdout:
        if line.startswith("{") and key in (answer := json.loads(line)):
            return answer[key]
    _, errors = worker.communicate()
    last = errors.strip().splitlines()[-1:] or [f"status {worker.returncode}"]
    raise LaunchError(f"a worker failed during the measurement ({last[0]}). Run 'python -m launcher doctor'")
