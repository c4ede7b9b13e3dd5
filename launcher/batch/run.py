"""`launcher run`: start the ranks from inside a Slurm job, and wait until they end.

It chooses the starter and builds its command. When the ranks have ended, it excludes dead nodes and requeues an
interrupted job. Outside a Slurm job it starts the ranks on this machine.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

from launcher.allocation import expand_node_list, expand_tasks_per_node
from launcher.batch.library import mpi_family
from launcher.batch.outcome import COMPLETE, INTERRUPTED, NODE_DIED, TargetRun, exit_status
from launcher.batch.slurm import Slurm
from launcher.batch.staging import staged_environment
from launcher.batch.supervise import StopRequests, supervise, wait_for_silent_nodes
from launcher.commands import STARTERS, Command, srun
from launcher.errors import LaunchError
from launcher.heartbeat import LIMIT, VARIABLE, Monitor
from launcher.machines import Machine, load_machine
from launcher.placement import place
from launcher.topology import read_topology
from launcher.tuned import find_tuned
from launcher.workers import usual_workers_per_node
from scaling.records.wording import count

__all__ = ["RunSettings", "run"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSettings:
    """Options of `launcher run`."""

    arguments: Sequence[str] = ()
    """Arguments of `python -m launcher` on every rank."""
    target: TargetRun = field(default_factory=TargetRun)
    """Run that the ranks should complete."""
    machine: str | None = None
    """Name of a known machine, or path of a TOML file; None to take all facts from the nodes."""
    nodes: int | None = None
    """Number of nodes; None for all nodes of the job."""
    workers_per_node: int | None = None
    """Ranks per node; None for the usual number."""
    starter: str = "auto"
    """srun, ibrun, mpirun, or auto for the machine's starter or else the first one on PATH."""
    stage_env: bool = False
    """True to copy the Python environment to the local disk of each node before the ranks start."""
    restarts: int = 0
    """Largest number of times that the job requeues itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """The Slurm job of this process, or this machine alone."""

    id: int | None
    """Number of the job; None outside Slurm."""
    hosts: Sequence[str]
    """Host names of its nodes."""
    restarted: int = 0
    """Number of times that Slurm has restarted this job."""


def run(settings: RunSettings, environ: Mapping[str, str]) -> int:
    """Start the ranks, wait until they end, and return the exit status as `launcher.batch.outcome` defines it.

    Args:
        settings: options of the command.
        environ: environment variables of this process; the ranks inherit them.

    Raises:
        LaunchError: more nodes are requested than the job has, no starter is on PATH, or staging fails.
    """
    if settings.target.already_complete():
        print(f"{settings.target.out} is complete already: nothing to start", flush=True)
        return COMPLETE
    job = find_job(environ)
    machine = load_machine(settings.machine) if settings.machine else None
    nodes = len(job.hosts) if settings.nodes is None else settings.nodes
    if nodes > len(job.hosts):
        where = f"job {job.id}" if job.id else "this machine, outside a Slurm job,"
        available = count(len(job.hosts), "node")
        raise LaunchError(f"--nodes is {nodes}, but {where} has {available}; give fewer, or ask sbatch for more nodes")
    size_before = settings.target.record_size()
    with ExitStack() as stack:
        requests = stack.enter_context(StopRequests().listening())
        python = stack.enter_context(staged_environment(job.id, nodes)) if settings.stage_env else (sys.executable,)
        launch = (*python, "-m", "launcher", *settings.arguments)
        monitor = stack.enter_context(Monitor(environ.get("SLURMD_NODENAME", job.hosts[0]) if nodes > 1 else ""))
        exports = _rank_variables(job, monitor, environ)
        command = _command(settings, machine, nodes, job, launch, exports, environ)
        print(f"Starting {count(nodes, 'node')} with {command.starter}: {command.text()}", flush=True)
        environment = {**(machine.environment if machine else {}), **environ, **exports, **command.environment}
        status, dead = supervise(command.argv, environment, monitor, requests, lambda: _end_ranks(job))
        if not dead and (status != 0 or not settings.target.wrote_end(size_before)):
            dead = wait_for_silent_nodes(monitor)
        if dead:
            print(
                f"Error: {', '.join(dead)} sent no heartbeat for {LIMIT:.0f} s: the node or its network has failed, "
                "and the ranks were ended. Start the run again: it continues from its last checkpoint",
                file=sys.stderr,
                flush=True,
            )
        result = NODE_DIED if dead else exit_status(status, settings.target, size_before)
        _exclude_and_requeue(result, settings, job, dead)
    return result


def find_job(environ: Mapping[str, str]) -> Job:
    """Return the Slurm job of this process. Outside Slurm, return a job of this machine alone."""
    text = environ.get("SLURM_JOB_ID", "")
    if not text.isdigit() or not environ.get("SLURM_JOB_NODELIST"):
        return Job(id=None, hosts=(os.uname().nodename,))
    return Job(
        id=int(text),
        hosts=expand_node_list(environ["SLURM_JOB_NODELIST"]),
        restarted=int(environ.get("SLURM_RESTART_COUNT") or 0),
    )


def pick_starter(wanted: str, machine: Machine | None, in_job: bool) -> str:
    """Return srun, ibrun or mpirun.

    Args:
        wanted: name of a starter, or auto for the machine's starter or else the first one on PATH.
        machine: the machine, if it is known.
        in_job: True inside a Slurm job. Outside, auto considers mpirun only.

    Raises:
        LaunchError: the starter is not on PATH.
    """
    known = ("ibrun", "srun", "mpirun") if in_job else ("mpirun",)
    first = [machine.launcher] if machine is not None and machine.launcher in known else []
    candidates = [wanted] if wanted != "auto" else [*first, *known]
    for name in candidates:
        if shutil.which(name):
            return name
    raise LaunchError(
        f"no starter on PATH; expected {' or '.join(dict.fromkeys(candidates))}: load the MPI of the site (set MODULES "
        "for a job script), or name another starter with --starter"
    )


def _command(
    settings: RunSettings,
    machine: Machine | None,
    nodes: int,
    job: Job,
    launch: Sequence[str],
    exports: Mapping[str, str],
    environ: Mapping[str, str],
) -> Command:
    """Return the command that starts the ranks on all nodes.

    Args:
        settings: options of `launcher run`.
        machine: the machine, if it is known.
        nodes: number of nodes.
        job: the job of this process.
        launch: command that every rank runs.
        exports: variables that the ranks need.
        environ: environment variables of this process.

    Raises:
        LaunchError: no starter is on PATH, or ibrun would start another number of ranks.
    """
    starter = pick_starter(settings.starter, machine, job.id is not None)
    topology = read_topology(affinity=os.sched_getaffinity(0))
    workers = settings.workers_per_node
    if workers is None:
        workers = usual_workers_per_node(machine, None if machine else find_tuned(topology, environ))
    placement = place(topology, workers)
    if starter == "ibrun":
        command = STARTERS["ibrun"](topology, placement, nodes, launch)
        tasks = expand_tasks_per_node(environ.get("SLURM_TASKS_PER_NODE") or str(workers))
        if set(tasks) != {workers}:
            raise LaunchError(
                f"the job has {' or '.join(map(str, sorted(set(tasks))))} tasks per node, and ibrun starts as many "
                f"ranks; expected {workers}: submit the job with --ntasks-per-node={workers}"
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
        # By default Intel MPI takes the number of ranks per node from Slurm and ignores its own option.
        respect = {"I_MPI_JOB_RESPECT_PROCESS_PLACEMENT": "0"}
        command = replace(command, environment={**command.environment, **respect})
    if family == "open_mpi":
        # The daemons of Open MPI on other nodes pass only OMPI_* and PMIX_* to the ranks.
        words = [word for name in exports for word in ("-x", name)]
        command = replace(command, argv=(command.argv[0], *words, *command.argv[1:]))
    return command


def _rank_variables(job: Job, monitor: Monitor, environ: Mapping[str, str]) -> dict[str, str]:
    """Return variables for the ranks: the address of the monitor and, if it is known, the time when the job ends."""
    variables = {VARIABLE: monitor.variable}
    end = environ.get("SLURM_JOB_END_TIME")
    if job.id is not None and not end:
        with _errors_as_warnings():
            seconds = Slurm().end_time(job.id)
            end = f"{seconds:.0f}" if seconds else None
    return {**variables, "SLURM_JOB_END_TIME": end} if end else variables


def _end_ranks(job: Job) -> None:
    """End the ranks of the job. The end of srun does not end them."""
    if job.id is not None:
        with _errors_as_warnings():
            Slurm().end_steps(job.id)


def _exclude_and_requeue(result: int, settings: RunSettings, job: Job, dead: Sequence[str]) -> None:
    """After an interruption, exclude dead nodes from dependent jobs, and requeue this job if it may restart."""
    if job.id is None or result not in (INTERRUPTED, NODE_DIED):
        return
    slurm = Slurm()
    # If all nodes are silent, the network has failed and the nodes may be healthy.
    if dead and len(dead) < len(job.hosts):
        names = [name for name in job.hosts if name.split(".")[0] in {host.split(".")[0] for host in dead}]
        with _errors_as_warnings():
            for follower in slurm.dependents(job.id):
                slurm.exclude(follower, names)
    if job.restarted < settings.restarts:
        with _errors_as_warnings():
            print(f"Requeueing this job: restart {job.restarted + 1} of {settings.restarts}", flush=True)
            slurm.requeue(job.id)


@contextmanager
def _errors_as_warnings() -> Iterator[None]:
    """Print errors of Slurm as warnings. They do not change the exit status."""
    try:
        yield
    except LaunchError as error:
        print(f"Warning: {error}", file=sys.stderr, flush=True)
