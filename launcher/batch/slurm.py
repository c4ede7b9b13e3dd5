"""Talks to Slurm: the one place that runs sbatch, squeue, sacct, scontrol and scancel.

What the commands print is parsed by pure functions. States come from the controller and, for jobs that it has
forgotten, from the accounting, which not every site has: a job that nobody knows is UNKNOWN, not an error.
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
"""States that a job does not leave by itself; UNKNOWN too, for the controller knows all that may still run."""
TIMEOUT = 120.0
"""Seconds; a busy controller may take a minute."""


class SlurmError(LaunchError):
    """Slurm refused; the message passes on what it said."""


class Slurm:
    """The batch system of this machine, with the environment that its commands are run in."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        source = os.environ if environ is None else environ
        # What a user likes to see of squeue and sacct would change what they print here.
        self._environ = {n: v for n, v in source.items() if not n.startswith(("SQUEUE_", "SACCT_"))}
        self._environ["SLURM_TIME_FORMAT"] = "standard"

    def submit(self, script: str, *options: str) -> int:
        """Put a job into the queue; its number. `options` win over the script's own."""
        return parse_job_id(self._run("sbatch", "--parsable", *options, given=script))

    def states(self, jobs: Iterable[int]) -> dict[int, str]:
        """The state of every job in Slurm's words, such as PENDING, RUNNING, COMPLETED or TIMEOUT."""
        wanted = sorted(set(jobs))
        if not wanted:
            return {}
        numbers = ",".join(map(str, wanted))
        found = parse_states(self._squeue("--states=all", f"--jobs={numbers}", "--format=%i %T"))
        if not found.keys() >= set(wanted):
            found = {**self._accounted(numbers), **found}
        return {job: found.get(job, UNKNOWN) for job in wanted}

    def cancel(self, *jobs: int) -> None:
        """Take jobs out of the queue or end them."""
        if jobs:
            self._run("scancel", *map(str, jobs))

    def end_steps(self, job: int) -> None:
        """Kill what srun and mpirun started in a job, its script excepted."""
        steps = [step for step in self._squeue("--steps", f"--jobs={job}", "--format=%i").split() if step[-1].isdigit()]
        if steps:
            self._run("scancel", "--signal=KILL", *steps)

    def requeue(self, job: int) -> None:
        """Put a job back into the queue; ends it if it runs, the caller's own job included."""
        self._run("scontrol", "requeue", str(job))

    def exclude(self, job: int, hosts: Iterable[str]) -> None:
        """Keep a pending job off these hosts, and off those that it avoids already."""
        before = self._squeue(f"--jobs={job}", "--format=%x").strip()
        names = [name for name in (before, *hosts) if name and name not in ("(null)", "N/A")]
        if names:
            self._run("scontrol", "update", f"JobId={job}", f"ExcNodeList={','.join(dict.fromkeys(names))}")

    def dependents(self, job: int) -> list[int]:
        """The pending jobs of this user that wait for `job`, or for a job that does."""
        text = self._squeue("--me", "--states=PENDING", "--format=%i %E")
        return dependents_of(parse_dependencies(text), job)

    def end_time(self, job: int) -> float | None:
        """Unix time at which Slurm ends a running job; None for a job that is not known or has no end."""
        return parse_end_time(self._squeue(f"--jobs={job}", "--format=%e"))

    def _squeue(self, *options: str) -> str:
        try:
            return self._run("squeue", "--noheader", *options)
        except SlurmError as error:
            # Said of a single job that the controller has forgotten; of several it says nothing.
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
            # A site without accounting has nobody else to ask.
            return {}

    def _run(self, *command: str, given: str = "") -> str:
        """Run a command of Slurm's and return what it prints."""
        try:
            done = subprocess.run(
                command,
                input=given,
                env=self._environ,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=TIMEOUT,
            )
        except FileNotFoundError:
            raise LaunchError(
                f"there is no {command[0]} on PATH; run this where Slurm is, such as on a login node of the cluster"
            ) from None
        except OSError as error:
            raise LaunchError(f"{command[0]} cannot be run: {error.strerror}") from None
        except subprocess.TimeoutExpired:
            raise SlurmError(f"{command[0]} gave no answer for {TIMEOUT:g} seconds; try again later") from None
        if done.returncode:
            said = done.stderr.strip() or done.stdout.strip() or f"status {done.returncode}"
            raise SlurmError(f"{command[0]} refused: {said}")
        return done.stdout


def parse_job_id(text: str) -> int:
    """The number in the answer of `sbatch --parsable`; sites let greetings of their own go before it."""
    for line in reversed(text.splitlines()):
        if match := re.fullmatch(r"(?:Submitted batch job )?([0-9]{1,10})(?:;\S*)?", line.strip()):
            return int(match[1])
    raise SlurmError(
        f"sbatch gave no job number but said {text.strip()[:200]!r}; look with squeue whether the job is there"
    )


def parse_states(text: str) -> dict[int, str]:
    """Lines of job and state, such as `12 RUNNING` or sacct's `12 CANCELLED by 1000`; other lines are passed over."""
    found = re.findall(r"^ *([0-9]{1,10}) +([A-Z_]+)\b", text, re.MULTILINE)
    return {int(job): state for job, state in found}


def parse_dependencies(text: str) -> dict[int, frozenset[int]]:
    """Lines of job and dependencies as squeue's %i %E, such as `12 afterany:8(unfulfilled),afterok:9+5(failed)`.

    A job array, `5_[1-3]`, counts as one job.
    """
    found: dict[int, frozenset[int]] = {}
    for line in text.splitlines():
        job, _, rest = line.strip().partition(" ")
        number = re.match(r"[0-9]+", job)
        if number is None:
            continue
        # A + gives minutes after the job, an _ the task of an array, and ? stands for or.
        terms = re.split(r"[,?]", re.sub(r"\([^)]*\)", "", rest))
        numbers = [re.match(r"[0-9]+", part) for term in terms for part in term.strip().split(":")[1:]]
        waits = frozenset(int(match[0]) for match in numbers if match)
        found[int(number[0])] = found.get(int(number[0]), frozenset()) | waits
    return found


def dependents_of(dependencies: Mapping[int, frozenset[int]], job: int) -> list[int]:
    """All that wait for `job`, directly or through others, in the order of their numbers."""
    reached = {job}
    while more := {one for one, waits in dependencies.items() if one not in reached and waits & reached}:
        reached |= more
    return sorted(reached - {job})


def parse_end_time(text: str) -> float | None:
    """Unix time of squeue's %e, which is local time without a zone; None for N/A and the like."""
    try:
        return datetime.strptime(text.strip(), "%Y-%m-%dT%H:%M:%S").timestamp()
    except (ValueError, OverflowError):
        return None
