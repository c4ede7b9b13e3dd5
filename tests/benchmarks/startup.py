"""Measure start times (`launcher plan`, a rank until MPI and until its first step) and the memory of a worker."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.figures import Figure
from tests.benchmarks.process import ROOT, Job, Say, mpirun, python, rank_environment, start_tensorflow
from tests.benchmarks.step import our_step, shower_file
from tests.benchmarks.timing import elapsed

__all__ = ["HEAVY", "measure"]

PLAN = python("launcher", "plan", "--machine", "stampede2-skx", "--nodes", 128)
HEAVY = ("tensorflow", "mpi4py", "pandas")
"""Modules that a plan must not load."""
STEPS = 4
"""Number of steps before the memory of a worker is read."""

# Run the launcher like `python -m launcher`, and record the time when it imports MPI and after the first step.
WATCH = """
import json, sys, time
where, began, times = sys.argv.pop(1), float(sys.argv.pop(1)), {}
def note(name):
    times.setdefault(name, time.time() - began)
    with open(where, "w") as out:
        json.dump(times, out)
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "mpi4py.MPI":
            note("before-mpi")
        if name == "gan.training.loop":
            sys.meta_path.remove(self)
            import gan.training.step
            step = gan.training.step.TrainingStep.__call__
            def watched(*arguments, **options):
                result = step(*arguments, **options)
                note("first-step")
                return result
            gan.training.step.TrainingStep.__call__ = watched
note("python")
sys.meta_path.insert(0, Watch())
import runpy
runpy.run_module("launcher", run_name="__main__", alter_sys=True)
"""


def measure(job: Job, say: Say) -> list[Figure]:
    """Return start times in seconds from the start of the processes, and memory in MB."""
    say("launcher plan")
    run_plan = elapsed(lambda: subprocess.run(PLAN, cwd=ROOT, capture_output=True, check=True))
    run_plan()
    figures = [Figure(name="startup/plan", unit="s", rounds=[run_plan() for _ in range(5)])]
    modules = imported_by_plan()
    heavy = sorted(set(HEAVY) & modules)
    figures += [
        Figure(name="startup/plan-modules", unit="modules", rounds=[len(modules)], note="including Python's own"),
        Figure(
            name="startup/plan-heavy",
            unit="modules",
            rounds=[len(heavy)],
            note=f"{', '.join(heavy) or 'none'} of {', '.join(HEAVY)}",
        ),
    ]
    times: dict[str, list[float]] = {}
    for number in range(1 if job.quick else 2):
        say(f"a rank from its start to its first step, round {number + 1}")
        for name, seconds in _start_rank().items():
            times.setdefault(name, []).append(seconds)
    note = "from the start of mpirun; one rank, batch 8, original filters"
    figures += [Figure(name=f"startup/{name}", unit="s", rounds=seconds, note=note) for name, seconds in times.items()]
    for filters in ("original",) if job.quick else ("original", "16"):
        say(f"memory of a worker, filters {filters}")
        figures.append(_memory(filters))
    return figures


def imported_by_plan() -> set[str]:
    """Return the names of all modules that `launcher plan` loads."""
    argv = [PLAN[0], "-X", "importtime", *PLAN[1:]]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
    return set(re.findall(r"^import time:\s+\d+ \|\s+\d+ \|\s+(\S+)$", done.stderr, re.MULTILINE))


def _start_rank() -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = shower_file(folder, 16)
        options = ["--filters", "original", "--epochs", "1", "--validation-fraction", "0", "--communicator", "mpi"]
        argv = ["--data", str(path), "--out", str(folder / "run"), "--events", "8", "--bind", "none", *options]
        watched = [sys.executable, "-c", WATCH, str(folder / "times.json"), str(time.time()), "train", *argv]
        done = subprocess.run(
            [*mpirun(1), *watched], cwd=ROOT, env=rank_environment(1), capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"the rank ended with status {done.returncode}:\n{done.stderr[-2000:]}")
        return json.loads((folder / "times.json").read_text())


def _memory(filters: str) -> Figure:
    """Measure the memory of a worker in a new process, because memory of earlier work is not freed."""
    argv = python("tests.benchmarks.startup", filters)
    done = subprocess.run(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    before, after = json.loads(done.stdout)
    return Figure(
        name=f"memory/{filters}",
        unit="MB",
        rounds=[after - before],
        note=f"largest after {STEPS} steps of batch 8, without TensorFlow's own {before:.0f} MB; no events cached",
    )


def main(arguments: Sequence[str]) -> None:
    """Print the largest resident memory in MB after the start of TensorFlow, and after some training steps."""
    start_tensorflow()
    before = _highest_mb()
    step = our_step(arguments[0], "fp32", 8)
    for _ in range(STEPS):
        step()
    print(json.dumps([before, _highest_mb()]))


def _highest_mb() -> float:
    status = Path(f"/proc/{os.getpid()}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    if found is None:
        raise RuntimeError("/proc/PID/status has no VmHWM, the largest memory of a process; expected Linux")
    return int(found[1]) / 1024


if __name__ == "__main__":
    main(sys.argv[1:])
