"""Run Slurm's commands: sbatch, squeue, sacct, scontrol and scancel.

Pure functions parse the output of the commands. The state of a job comes from squeue. If the controller has forgotten
the job, the state comes from the accounting (sacct), which not every site has. A job that both do not know has the
state UNKNOWN; this is not an error.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Mapping
from datetime import datetime

from launcher.errors import LaunchError

__all__ = [
    "FINISHED",
    "Slurm",
    "SlurmError",
    "dependents_of",
    "parse_dependencies",
    "parse_end_time",
    "parse_job_id",
    "parse_states",
]

UNKNOWN = "UNKNOWN"
FINISHED = frozenset(
    {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"}
    | {"REVOKED", "TIMEOUT", UNKNOWN}
)
"""States of jobs that have ended. UNKNOWN is one of them, because the controller knows every job that may run."""
TIMEOUT = 120.0
"""Seconds to wait for a command. A busy controller may take a minute."""


class SlurmError(LaunchError):
    """Slurm refused a command. The message contains Slurm's own message."""


class Slurm:
    """The Slurm of this machine."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        """Args: environ: environment of Slurm's commands; by default the environment of this process."""
        source = os.environ if environ is None else environ
        # A user's own output formats for squeue and sacct would break the parsers.
        self._environ = {n: v for n, v in source.items() if not n.startswith(("SQUEUE_", "SACCT_"))}
        self._environ["SLURM_TIME_FORMAT"] = "standard"

    def submit(self, script: str, *options: str) -> int:
        """Submit a job script and return the number of the job.

        Args:
            script: text of the script.
            options: options of sbatch; they override the #SBATCH lines of the script.

        Raises:
            SlurmError: Slurm refuses the job.
        """
        return parse_job_id(self._run("sbatch", "--parsable", *options, stdin=script))

    def states(self, jobs: Iterable[int]) -> dict[int, str]:
        """Return the state of every job in Slurm's words, such as PENDING, RUNNING, COMPLETED or TIMEOUT.

        Raises:
            SlurmError: the controller does not answer.
        """
        wanted = sorted(set(jobs))
        if not wanted:
            return {}
        numbers = ",".join(map(str, wanted))
        states = parse_states(self._squeue("--states=all", f"--jobs={numbers}", "--format=%i %T"))
        if not states.keys() >= set(wanted):
            states = {**self._accounted(numbers), **states}
        return {job: states.get(job, UNKNOWN) for job in wanted}

    def cancel(self, *jobs: int) -> None:
        """Remove pending jobs from the queue, and end running ones."""
        if jobs:
            self._run("scancel", *map(str, jobs))

    def end_steps(self, job: int) -> None:
        """Kill all ranks that srun or mpirun started in a job. The job script continues."""
        steps = [step for step in self._squeue("--steps", f"--jobs={job}", "--format=%i").split() if step[-1].isdigit()]
        if steps:
            self._run("scancel", "--signal=KILL", *steps)

    def requeue(self, job: int) -> None:
        """Put a job back into the queue. Slurm ends a running job first, even the job of the caller."""
        self._run("scontrol", "requeue", str(job))

    def exclude(self, job: int, hosts: Iterable[str]) -> None:
        """Exclude hosts from a pending job, in addition to the hosts that it excludes already."""
        before = self._squeue(f"--jobs={job}", "--format=%x").strip()
        names = [name for name in (before, *hosts) if name and name not in ("(null)", "N/A")]
        if names:
            self._run("scontrol", "update", f"JobId={job}", f"ExcNodeList={','.join(dict.fromkeys(names))}")

    def dependents(self, job: int) -> list[int]:
        """Return the pending jobs of this user that depend on `job`, directly or through other jobs."""
        text = self._squeue("--me", "--states=PENDING", "--format=%i %E")
        return dependents_of(parse_dependencies(text), job)

    def end_time(self, job: int) -> float | None:
        """Return the Unix time at which a running job ends, or None for an unknown job or one without a limit."""
        return parse_end_time(self._squeue(f"--jobs={job}", "--format=%e"))

    def _squeue(self, *options: str) -> str:
        try:
            return self._run("squeue", "--noheader", *options)
        except SlurmError as error:
            # If a query names one job and the controller has forgotten it, squeue fails. With several jobs it does not.
            if "Invalid job id" in str(error):
                return ""
            raise

    def _accounted(self, numbers: str) -> dict[int, str]:
        try:
            return parse_states(
                self._run("sacct", "--noheader", "--parsable2", "--allocations", "--delimiter= ",
                          f"--jobs={numbers}", "--format=JobIDRaw,State")
            )  # fmt: skip
        except LaunchError:
            # Some sites have no accounting.
            return {}

    def _run(self, *command: str, stdin: str = "") -> str:
        """Run one of Slurm's commands and return its standard output."""
        try:
            done = subprocess.run(
                command,
                input=stdin,
                env=self._environ,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=TIMEOUT,
            )
        except FileNotFoundError:
            raise LaunchError(
                f"there is no {command[0]} on PATH; expected Slurm: run this on a login node of the cluster"
            ) from None
        except OSError as error:
            raise LaunchError(
                f"{command[0]} cannot be run ({error.strerror}); expected a Slurm command: check PATH"
            ) from None
        except subprocess.TimeoutExpired:
            raise SlurmError(f"{command[0]} gave no answer within {TIMEOUT:g} s; try again later") from None
        if done.returncode:
            message = done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}"
            raise SlurmError(f"{command[0]} refused: {message}")
        return done.stdout


def parse_job_id(text: str) -> int:
    """Return the job number in the output of `sbatch --parsable`. Some sites print a greeting before it.

    Raises:
        SlurmError: the output holds no job number.
    """
    for line in reversed(text.splitlines()):
        if match := re.fullmatch(r"(?:Submitted batch job )?([0-9]{1,10})(?:;\S*)?", line.strip()):
            return int(match[1])
    raise SlurmError(
        f"sbatch printed no job number but {text.strip()[:200]!r}; check with squeue whether it submitted the job"
    )


def parse_states(text: str) -> dict[int, str]:
    """Parse lines with a job and its state, such as `12 RUNNING` or `12 CANCELLED by 1000`. Ignore other lines."""
    rows = re.findall(r"^ *([0-9]{1,10}) +([A-Z_]+)\b", text, re.MULTILINE)
    return {int(job): state for job, state in rows}


def parse_dependencies(text: str) -> dict[int, frozenset[int]]:
    """Parse squeue's `%i %E`: lines with a job and its dependencies. Return the jobs that each job waits for.

    A line is, for example, `12 afterany:8(unfulfilled),afterok:9+5(failed)`. A job array such as `5_[1-3]` counts as
    one job.
    """
    dependencies: dict[int, frozenset[int]] = {}
    for line in text.splitlines():
        job, _, rest = line.strip().partition(" ")
        number = re.match(r"[0-9]+", job)
        if number is None:
            continue
        # `9+5` means 5 minutes after job 9, `5_2` means task 2 of array 5, and `?` means "or".
        terms = re.split(r"[,?]", re.sub(r"\([^)]*\)", "", rest))
        numbers = [re.match(r"[0-9]+", part) for term in terms for part in term.strip().split(":")[1:]]
        waits = frozenset(int(match[0]) for match in numbers if match)
        dependencies[int(number[0])] = dependencies.get(int(number[0]), frozenset()) | waits
    return dependencies


def dependents_of(dependencies: Mapping[int, frozenset[int]], job: int) -> list[int]:
    """Return all jobs that depend on `job`, directly or through other jobs, sorted by number."""
    reached = {job}
    while more := {one for one, waits in dependencies.items() if one not in reached and waits & reached}:
        reached |= more
    return sorted(reached - {job})


def parse_end_time(text: str) -> float | None:
    """Return the Unix time of squeue's `%e`, which is local time. Return None for other texts, such as N/A."""
    try:
        return datetime.strptime(text.strip(), "%Y-%m-%dT%H:%M:%S").timestamp()
    except (ValueError, OverflowError):
        return None
