"""Describe a job: machine, size, time limit, and what it runs. `launcher.batch.script` renders it as a job script."""

from __future__ import annotations

import re
from dataclasses import dataclass

from launcher.batch.timelimit import SHORTEST
from launcher.errors import LaunchError
from launcher.machines import Machine, Partition

__all__ = ["DEFAULT_SECONDS", "JobRequest", "default_request"]

DEFAULT_NODES = 4
DEFAULT_SECONDS = 2 * 3600
"""Time limit in seconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobRequest:
    """A job to submit.

    Raises:
        LaunchError: the job exceeds a limit of the machine or of the partition, or a value holds a character that a job
            script or Slurm cannot represent.
    """

    machine: Machine
    """Machine that runs the job."""
    nodes: int
    """Number of nodes."""
    seconds: int = DEFAULT_SECONDS
    """Time limit in seconds."""
    workers_per_node: int = 0
    """Ranks per node; 0 for the number in the machine's file."""
    partition: str = ""
    """Slurm partition; empty for the first one of the machine that allows the job."""
    account: str = ""
    """Slurm account to charge; empty for the user's default account."""
    name: str = "3dgan"
    """Name of the job."""
    data: tuple[str, ...] = ()
    """Data files or patterns; empty to read DATA from the environment of the script."""
    out: str = ""
    """Run folder; empty to read OUT from the environment of the script."""
    log_folder: str = ""
    """Folder for the job's log; empty for the folder where sbatch is called."""
    project: str = ""
    """Folder that holds the package `launcher`; empty to use PROJECT or the folder where sbatch is called."""
    venv: str = ""
    """Folder of the Python environment; empty to use VENV or `.venv` in the project."""
    stage_env: bool = False
    """True to copy the Python environment to the local disk of each node before the ranks start."""
    restarts: int = 0
    """Largest number of times that the job requeues itself."""
    arguments: tuple[str, ...] = ()
    """Options of the training."""
    command: str = ""
    """Shell command that the job runs instead of a training; empty for a training."""

    def __post_init__(self) -> None:
        if self.nodes < 1:
            raise LaunchError(f"{self.nodes} nodes; expected at least 1: change --nodes")
        if self.seconds < SHORTEST:
            raise LaunchError(f"a time limit of {self.seconds} s; expected at least {SHORTEST} s: change --time")
        if self.restarts and not self.machine.requeue:
            raise LaunchError(
                f"{self.restarts} restarts; jobs on machine {self.machine.name} may not requeue themselves: "
                "submit a chain of jobs instead with --chain"
            )
        self.machine.check_workers(self.workers)
        self.limits()
        for what, text in (("job name", self.name), ("partition", self.partition), ("account", self.account)):
            if text and not re.fullmatch(r"[\w.,:+@=-]+", text, re.ASCII):
                raise LaunchError(f"{what} {text!r}; expected only letters, digits and .,:+@=-_ : change it")
        for text in (self.out, self.log_folder, self.project, self.venv, *self.data, *self.arguments):
            if "\0" in text:
                raise LaunchError(f"{text!r} holds a null character; expected text without it: remove the character")
        if re.search(r"[\n\r\\]", self.log_folder):
            raise LaunchError(
                f"log folder {self.log_folder!r}; Slurm cannot write a log there: "
                "choose a folder without backslash and line break"
            )

    @property
    def workers(self) -> int:
        """Ranks per node."""
        return self.workers_per_node or self.machine.workers_per_node

    @property
    def log(self) -> str:
        """Slurm's pattern for the path of the log. Slurm replaces %j with the job number and %x with the job name."""
        return f"{self.log_folder.replace('%', '%%')}/slurm-%j.log" if self.log_folder else "%x-%j.log"

    def limits(self) -> Partition | None:
        """Return the partition that the job will use, with its limits. Return None if the machine's file lists none."""
        return self.machine.partition_for(self.nodes, self.seconds / 3600, self.partition)


def default_request(machine: Machine) -> JobRequest:
    """Return the request behind a machine's script in the folder `jobs`. Its values come from the environment."""
    return JobRequest(machine=machine, nodes=1 if machine.batch == "none" else DEFAULT_NODES)
