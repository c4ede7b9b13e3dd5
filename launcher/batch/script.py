"""Job scripts: what Slurm, or a shell on a single node, is given to run. Pure: a request in, its text out.

A script is thin. It tells Slurm what it wants, finds the project and its Python, exports what the machine wants and
becomes `launcher run`, which starts the ranks. What differs between systems comes from their data files, and what
the user gives is quoted once, here.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from textwrap import wrap

from launcher.batch.timelimit import SHORTEST, format_time
from launcher.errors import LaunchError
from launcher.machines import Machine, Partition
from scaling.records.wording import count

__all__ = ["DEFAULT_SECONDS", "JobRequest", "render", "script_name", "usual_request"]

DEFAULT_NODES = 4
DEFAULT_SECONDS = 2 * 3600
WIDTH = 118
"""Columns of a comment."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobRequest:
    """A job to be: where, on how much, for how long, and what it trains.

    Raises LaunchError for more than the machine or the partition allows, naming the limit, and for texts that a
    job script cannot hold.
    """

    machine: Machine
    nodes: int
    seconds: int = DEFAULT_SECONDS
    """Wall time after which Slurm ends the job."""
    workers_per_node: int = 0
    """The machine's usual number where it is 0."""
    partition: str = ""
    """The machine's first that takes such a job where it is empty."""
    account: str = ""
    name: str = "3dgan"
    data: tuple[str, ...] = ()
    """Files or patterns; where there are none the script takes DATA from its environment."""
    out: str = ""
    """Folder of the run; where it is empty the script takes OUT from its environment."""
    log_folder: str = ""
    """Where Slurm writes what the job prints; the folder of the submission where it is empty."""
    project: str = ""
    """Folder that holds the launcher; where it is empty the script takes PROJECT or the folder of the submission."""
    venv: str = ""
    """Python environment; where it is empty the script takes VENV or the project's .venv."""
    stage_env: bool = False
    """Copy the Python environment to the nodes' own disks before the ranks start."""
    restarts: int = 0
    """How often the job may put itself back into the queue."""
    arguments: tuple[str, ...] = ()
    """Options of the training."""
    command: str = ""
    """A line of shell that the job runs instead of a training."""

    def __post_init__(self) -> None:
        if self.nodes < 1:
            raise LaunchError(f"{self.nodes} nodes; expected at least 1")
        if self.seconds < SHORTEST:
            raise LaunchError(f"a time limit of {self.seconds} seconds; expected at least {SHORTEST}")
        if self.restarts and not self.machine.requeue:
            raise LaunchError(f"jobs on machine {self.machine.name} may not requeue themselves; chain them instead")
        self.machine.check_workers(self.workers)
        self.limits()
        for what, text in (("job name", self.name), ("partition", self.partition), ("account", self.account)):
            if text and not re.fullmatch(r"[\w.,:+@=-]+", text, re.ASCII):
                raise LaunchError(f"{what} {text!r} holds more than letters, digits and . , : + @ = - _")
        for text in (self.out, self.log_folder, self.project, self.venv, *self.data, *self.arguments):
            if "\0" in text:
                raise LaunchError(f"{text!r} holds a null character, which no command line can")
        if re.search(r"[\n\r\\]", self.log_folder):
            raise LaunchError(
                f"Slurm can write no log to {self.log_folder!r}: choose a folder without backslash and line break"
            )

    @property
    def workers(self) -> int:
        """On each node."""
        return self.workers_per_node or self.machine.workers_per_node

    @property
    def log(self) -> str:
        """Slurm's pattern for the name of the job's log; %j is the job's number, %x its name."""
        return f"{self.log_folder.replace('%', '%%')}/slurm-%j.log" if self.log_folder else "%x-%j.log"

    def limits(self) -> Partition | None:
        """The partition whose limits hold for this job; None where none are known."""
        return self.machine.partition_for(self.nodes, self.seconds / 3600, self.partition)


def usual_request(machine: Machine, nodes: int | None = None) -> JobRequest:
    """What the script of a machine in the folder `jobs` asks for: the values come from its environment."""
    return JobRequest(machine=machine, nodes=nodes or (1 if machine.batch == "none" else DEFAULT_NODES))


def script_name(machine: Machine) -> str:
    """The file of a machine's script in the folder `jobs`."""
    return machine.script or f"{machine.name}.sh"


def render(request: JobRequest) -> str:
    """The script of a job, for sbatch or, on a machine without a batch system, for bash."""
    parts = [_head(request), FAIL, _places(request), CHECKS, _exports(request), _last(request)]
    return "\n".join(part for part in parts if part)


FAIL = """\
set -euo pipefail

fail() {
    echo "Error: $*" >&2
    exit 2
}
"""

CHECKS = """\
[ -d "$PROJECT/launcher" ] || fail "no launcher in $PROJECT; submit from the repository or set PROJECT"
if [ -n "$MODULES" ]; then
    command -v module >/dev/null || fail "this node has no command module; load '$MODULES' before and set MODULES empty"
    # Module systems use variables that are not set.
    set +u
    # shellcheck disable=SC2086  # a list of names
    module load $MODULES || fail "module load $MODULES failed; set MODULES to what this system has"
    set -u
fi
[ -x "$VENV/bin/python" ] || fail "no Python environment in $VENV; make it with 'make env MPI=site' or set VENV"
export PATH="$VENV/bin:$PATH"
cd "$PROJECT"
"""


def _head(request: JobRequest) -> str:
    lines = ["#!/usr/bin/env bash", *_comment(request)]
    if request.machine.batch == "slurm":
        lines += [f"#SBATCH {option}" for option in _options(request)]
    return "\n".join(lines) + "\n"


def _comment(request: JobRequest) -> list[str]:
    machine = request.machine
    source = machine.file or f"launcher/machines/{machine.name}.toml"
    workers = count(request.workers, "worker")
    node = f"each node of {machine.max_workers} cores" if machine.node else "each node"
    text = [f"Trains 3DGAN with {workers} on {node}: {machine.title}."]
    if request.command:
        text = [f"Part of a scaling study of 3DGAN: {machine.title}."]
    if machine.note:
        text.append(f"Note: {machine.note}.")
    usage: list[str] = []
    if request.data or request.out or request.command:
        text.append("Rendered by 'python -m launcher' for the values below.")
    else:
        usage = _usage(request)
        text += [
            "From the environment: DATA (a pattern in quotes), OUT, PROJECT (this repository), VENV, MODULES"
            + (" and WORKERS_PER_NODE." if machine.batch == "none" else "; options of sbatch win over the lines below.")
            + " What follows the script's name are options of the training.",
            f"Rendered by 'python -m launcher script --machine {machine.reference} --nodes {request.nodes}': "
            f"what is special to the machine is in {source}, not here.",
        ]
        if machine.partitions:
            text.insert(-1, f"Partitions: {', '.join(map(str, machine.partitions))}.")
    first, *rest = [f"# {line}" for entry in text for line in wrap(_one_line(entry), WIDTH, break_on_hyphens=False)]
    return [first, *(["#", *usage, "#"] if usage else []), *rest]


def _usage(request: JobRequest) -> list[str]:
    """Examples: as it is, at the largest scale of the machine, and on other data."""
    machine, script = request.machine, f"jobs/{script_name(request.machine)}"
    if machine.batch == "none":
        return [
            f"#   bash {script} --epochs 2",
            f"#   DATA='/data/*.h5' OUT=/data/run WORKERS_PER_NODE=4 bash {script}",
        ]
    own, size = request.limits(), "-N 16"
    if own is not None:
        largest = max(machine.partitions, key=lambda partition: partition.max_nodes)
        size = f"-N {min(2 * own.max_nodes, largest.max_nodes)} -p {largest.name}"
        size = f"-N {own.max_nodes}" if largest == own else size
    return [
        f"#   sbatch {script}",
        f"#   sbatch {size} -t 12:00:00 {script} --epochs 25",
        f"#   DATA='/scratch/me/*.h5' OUT=/scratch/me/run sbatch {script}",
    ]


def _options(request: JobRequest) -> list[str]:
    """Options of sbatch, one a line. Only what every site takes, unless the machine's data file says more."""
    limits = request.limits()
    partition = limits.name if limits else request.partition
    options = [
        f"--job-name={request.name}",
        f"--partition={partition}" if partition else "",
        f"--account={request.account}" if request.account else "",
        f"--nodes={request.nodes}",
        f"--ntasks-per-node={request.workers}",
        f"--time={format_time(request.seconds)}",
        f"--output={shlex.quote(request.log)}",
        # A job that Slurm starts again would begin its log anew.
        "--open-mode=append",
        *request.machine.options,
    ]
    if request.machine.signal:
        # Time for a checkpoint, but never most of a short job; Slurm may be a minute early.
        options.append(f"--signal=B:USR1@{min(180, max(20, request.seconds // 10))}")
    if request.restarts:
        options.append("--requeue")
    return [option for option in options if option]


def _places(request: JobRequest) -> str:
    """Where things are. What the request gives is fixed; the rest comes from the environment."""
    slurm = request.machine.batch == "slurm"
    lines = []
    if request.project:
        lines.append(f"PROJECT={shlex.quote(request.project)}")
    elif slurm:
        lines.append("# Slurm runs a copy of this script: the folder it was submitted from is the project's.")
        lines.append("PROJECT=${PROJECT:-${SLURM_SUBMIT_DIR:-$PWD}}")
    else:
        lines.append("PROJECT=${PROJECT:-$PWD}")
    lines.append(f"VENV={shlex.quote(request.venv)}" if request.venv else "VENV=${VENV:-$PROJECT/.venv}")
    lines.append(
        f"MODULES=${{MODULES-{shlex.quote(' '.join(request.machine.modules)) if request.machine.modules else ''}}}"
    )
    if request.command:
        return "\n".join(lines) + "\n"
    if not (request.data and request.out):
        lines.append("SCRATCH=${SCRATCH:-$PROJECT}")
    if not request.data:
        lines.append("DATA=${DATA:-$SCRATCH/showers/*.h5}")
    if request.out:
        lines.append(f"OUT={shlex.quote(request.out)}")
    elif slurm:
        lines.append("# A job that is put back into the queue keeps its number, and so its folder.")
        lines.append(
            f"OUT=${{OUT:-$SCRATCH/3dgan/${{SLURM_JOB_NAME:-{request.name}}}-${{SLURM_JOB_NUM_NODES:-1}}n-${{SLURM_JOB_ID:-$$}}}}"
        )
    else:
        lines.append("# The same folder every time: a run that was interrupted goes on.")
        lines.append(f"OUT=${{OUT:-$SCRATCH/3dgan/{request.name}-1n}}")
    source = "SLURM_NTASKS_PER_NODE" if slurm else "WORKERS_PER_NODE"
    lines.append(f"WORKERS_PER_NODE=${{{source}:-{request.workers}}}")
    return "\n".join(lines) + "\n"


def _exports(request: JobRequest) -> str:
    if not request.machine.environment:
        return ""
    lines = ["# What this machine wants; a variable that is set already wins."]
    for name, value in request.machine.environment.items():
        lines.append(f"export {name}=${{{name}:-{shlex.quote(value)}}}")
    return "\n".join(lines) + "\n"


def _last(request: JobRequest) -> str:
    """The shell becomes what it runs, so that Slurm's signals reach it."""
    if request.command:
        return f"exec {request.command}\n"
    run = ["exec python -m launcher run --machine", shlex.quote(request.machine.reference)]
    run += ['--workers-per-node "$WORKERS_PER_NODE"']
    run += ["--stage-env"] if request.stage_env else []
    run += [f"--restarts {request.restarts}"] if request.restarts else []
    data = " ".join(f"--data {shlex.quote(pattern)}" for pattern in request.data) or '--data "$DATA"'
    train = ["train", data, '--out "$OUT"', *map(shlex.quote, request.arguments), '"$@"']
    shown = 'data $DATA; output $OUT"' if not request.data else 'output $OUT"'
    return f'echo "3dgan: {shown}\n{" ".join(run)} \\\n    {" ".join(train)}\n'


def _one_line(text: str) -> str:
    """A text of a data file as part of a comment: a line break would end it."""
    return " ".join(text.split())
