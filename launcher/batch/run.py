"""`launcher run`: starts the ranks from inside an allocation and stays until their end.

It chooses what starts ranks here, binds as planned, stages the environment, passes requests to stop on to the ranks,
notices dead nodes, and sees that an interrupted job goes on. How lines and archives look is built elsewhere; here
they are executed. Without an allocation it starts the ranks on this machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from launcher.allocation import expand_node_list, expand_tasks_per_node
from launcher.batch.library import mpi_family
from launcher.batch.outcome import COMPLETE, INTERRUPTED, NODE_DIED, Target, outcome
from launcher.batch.slurm import Slurm
from launcher.batch.staging import Staging, plan_staging, write_archive
from launcher.batch.watch import Requests, watch, who_fell_silent
from launcher.commands import STARTERS, Command, srun
from launcher.errors import LaunchError
from launcher.heartbeat import LIMIT, VARIABLE, Monitor
from launcher.machines import Machine, load_machine
from launcher.placement import place
from launcher.topology import read_topology
from launcher.tuned import find_tuned
from launcher.workers import usual_workers_per_node

__all__ = ["RunSettings", "run"]

STAGES_WITHIN = 1800.0
CLEANS_WITHIN = 300.0
"""Seconds for each command that stages; minutes are usual for gigabytes on many nodes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSettings:
    """What is started and how."""

    arguments: Sequence[str] = ()
    """Of `python -m launcher` on every rank."""
    target: Target = field(default_factory=Target)
    machine: str | None = None
    nodes: int | None = None
    """Of those that the job has; all by default."""
    workers_per_node: int | None = None
    starter: str = "auto"
    """srun, ibrun or mpirun; auto: the machine's, or the first that is there."""
    stage_env: bool = False
    restarts: int = 0
    """How often the job may put itself back into the queue."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """The allocation this process is in."""

    id: int | None
    """None outside Slurm."""
    hosts: Sequence[str]
    restarted: int = 0
    """How often Slurm has started this job again."""


def run(settings: RunSettings, environ: Mapping[str, str]) -> int:
    """Start the ranks, wait for their end and return the exit status, one of those of `outcome` or the ranks' own.

    Raises LaunchError for more nodes than the job has and for a missing starter.
    """
    if settings.target.already_complete():
        print(f"{settings.target.out} is complete already: nothing to start", flush=True)
        return COMPLETE
    job = find_job(environ)
    machine = load_machine(settings.machine) if settings.machine else None
    nodes = len(job.hosts) if settings.nodes is None else settings.nodes
    if nodes > len(job.hosts):
        where = f"job {job.id}" if job.id else "this machine, outside a Slurm job,"
        raise LaunchError(f"--nodes is {nodes}, but {where} has {len(job.hosts)}; ask sbatch for more or give fewer")
    before = settings.target.size()
    with ExitStack() as held:
        requests = held.enter_context(Requests().listening())
        python = held.enter_context(_staged(job, nodes)) if settings.stage_env else (sys.executable,)
        launch = (*python, "-m", "launcher", *settings.arguments)
        monitor = held.enter_context(Monitor(environ.get("SLURMD_NODENAME", job.hosts[0]) if nodes > 1 else ""))
        told = _told(job, monitor, environ)
        command = _command(settings, machine, nodes, job, launch, told, environ)
        print(f"Starting {nodes} nodes with {command.starter}: {command.text()}", flush=True)
        environment = {**(machine.environment if machine else {}), **environ, **told, **command.environment}
        status, dead = watch(command.argv, environment, monitor, requests, lambda: _end_steps(job))
        if not dead and (status != 0 or not settings.target.ended(before)):
            dead = who_fell_silent(monitor)
        if dead:
            print(
                f"Error: {', '.join(dead)} said nothing for {LIMIT:.0f} s: the node or its network has died. The ranks "
                "were ended; the run goes on from its last checkpoint when it is started again",
                file=sys.stderr,
                flush=True,
            )
        result = NODE_DIED if dead else outcome(status, settings.target, before)
        _go_on(result, settings, job, dead)
    return result


def find_job(environ: Mapping[str, str]) -> Job:
    """The Slurm job of this process, or this machine alone."""
    text = environ.get("SLURM_JOB_ID", "")
    if not text.isdigit() or not environ.get("SLURM_JOB_NODELIST"):
        return Job(id=None, hosts=(os.uname().nodename,))
    return Job(
        id=int(text),
        hosts=expand_node_list(environ["SLURM_JOB_NODELIST"]),
        restarted=int(environ.get("SLURM_RESTART_COUNT") or 0),
    )


def pick_starter(wanted: str, machine: Machine | None, in_job: bool) -> str:
    """srun, ibrun or mpirun: as asked, else the machine's own, else the first that is there.

    Raises LaunchError where it is not on PATH.
    """
    known = ("ibrun", "srun", "mpirun") if in_job else ("mpirun",)
    first = [machine.launcher] if machine is not None and machine.launcher in known else []
    candidates = [wanted] if wanted != "auto" else [*first, *known]
    for name in candidates:
        if shutil.which(name):
            return name
    raise LaunchError(
        f"none of {', '.join(dict.fromkeys(candidates))} is there; load the site's MPI (MODULES=... of a job script) "
        "or name what starts ranks here with --starter"
    )


def _command(
    settings: RunSettings,
    machine: Machine | None,
    nodes: int,
    job: Job,
    launch: Sequence[str],
    told: Mapping[str, str],
    environ: Mapping[str, str],
) -> Command:
    starter = pick_starter(settings.starter, machine, job.id is not None)
    topology = read_topology(affinity=os.sched_getaffinity(0))
    workers = settings.workers_per_node
    if workers is None:
        workers = usual_workers_per_node(machine, None if machine else find_tuned(topology, environ))
    placement = place(topology, workers)
    if starter == "ibrun":
        command = STARTERS["ibrun"](topology, placement, nodes, launch)
        asked = expand_tasks_per_node(environ.get("SLURM_TASKS_PER_NODE") or str(workers))
        if set(asked) != {workers}:
            raise LaunchError(
                f"ibrun starts on a node what the job asked for, {sorted(set(asked))} ranks, not the {workers} that "
                f"are wanted; submit the job with --ntasks-per-node={workers}"
            )
        some = ("-n", str(nodes * workers), "-o", "0") if nodes < len(job.hosts) else ()
        return replace(command, argv=(command.argv[0], *some, *command.argv[1:]))
    family = mpi_family()
    if starter == "srun":
        command = srun(topology, placement, nodes, launch, mpi="pmix" if family == "open_mpi" else "pmi2")
        pmi = {"I_MPI_PMI_LIBRARY": environ.get("I_MPI_PMI_LIBRARY", "libpmi2.so.0")} if family == "intel_mpi" else {}
        return replace(command, environment={**command.environment, **pmi})
    command = STARTERS[family](topology, placement, nodes, launch)
    if family == "intel_mpi" and job.id is not None:
        # Else it takes the number of ranks on a node from Slurm and passes over its own option.
        respect = {"I_MPI_JOB_RESPECT_PROCESS_PLACEMENT": "0"}
        command = replace(command, environment={**command.environment, **respect})
    if family == "open_mpi":
        # Its daemons on other nodes hand on OMPI_* and PMIX_* alone.
        exports = [word for name in told for word in ("-x", name)]
        command = replace(command, argv=(command.argv[0], *exports, *command.argv[1:]))
    return command


def _told(job: Job, monitor: Monitor, environ: Mapping[str, str]) -> dict[str, str]:
    """What the ranks must know from here: who listens, and when the job ends."""
    told = {VARIABLE: monitor.variable}
    end = environ.get("SLURM_JOB_END_TIME")
    if job.id is not None and not end:
        with _warning():
            found = Slurm().end_time(job.id)
            end = f"{found:.0f}" if found else None
    return {**told, "SLURM_JOB_END_TIME": end} if end else told


@contextmanager
def _staged(job: Job, nodes: int) -> Iterator[tuple[str, ...]]:
    """Stage the environment, say how its Python is called, and take it away again at the end."""
    if job.id is None:
        raise LaunchError("--stage-env needs a Slurm job, whose sbcast carries files to nodes; leave it out here")
    staging = plan_staging(str(job.id), nodes, Path(tempfile.gettempdir()))
    began = time.monotonic()
    write_archive(staging.archive, staging.folder, Path(__file__).resolve().parents[2])
    size = staging.archive.stat().st_size
    try:
        for command in staging.commands:
            done = subprocess.run(command, capture_output=True, text=True, timeout=STAGES_WITHIN)
            if done.returncode:
                what = f"'{' '.join(command)}' failed: {done.stderr.strip()}"
                raise LaunchError(f"--stage-env: {what}; leave the option out")
        seconds = time.monotonic() - began
        print(f"Staged {size / 1e6:.0f} MB to {staging.folder} on {nodes} nodes in {seconds:.0f} s", flush=True)
        yield str(staging.python), "-I"
    finally:
        _take_away(staging)


def _take_away(staging: Staging) -> None:
    """Remove the staged environment from every node, or say that it may have stayed."""
    try:
        done = subprocess.run(staging.cleaning, capture_output=True, text=True, timeout=CLEANS_WITHIN)
        failure = done.stderr.strip() or f"exit status {done.returncode}" if done.returncode else ""
    except subprocess.TimeoutExpired:  # a dead node answers nobody, and its disk is lost anyway
        failure = f"no end within {CLEANS_WITHIN:.0f} s"
    if failure:
        print(f"Warning: {staging.folder} may still be on some nodes ({failure}); remove it there", flush=True)


def _end_steps(job: Job) -> None:
    """End the ranks themselves: killing srun leaves them alive."""
    if job.id is not None:
        with _warning():
            Slurm().end_steps(job.id)


def _go_on(result: int, settings: RunSettings, job: Job, dead: Sequence[str]) -> None:
    """Keep dead nodes from the jobs that follow, and put this one back into the queue where it may be."""
    if job.id is None or result not in (INTERRUPTED, NODE_DIED):
        return
    slurm = Slurm()
    # A network that is gone as a whole is no reason to shun all of its nodes.
    if dead and len(dead) < len(job.hosts):
        names = [name for name in job.hosts if name.split(".")[0] in {host.split(".")[0] for host in dead}]
        with _warning():
            for follower in slurm.dependents(job.id):
                slurm.exclude(follower, names)
    if job.restarted < settings.restarts:
        with _warning():
            print(f"Back into the queue: restart {job.restarted + 1} of {settings.restarts}", flush=True)
            slurm.requeue(job.id)


@contextmanager
def _warning() -> Iterator[None]:
    """What Slurm refuses here is told; the run's outcome stands."""
    try:
        yield
    except LaunchError as error:
        print(f"Warning: {error}", file=sys.stderr, flush=True)
