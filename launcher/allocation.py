"""Where am I: which rank of how many, on which of which nodes, as the environment of the process tells it.

Whoever started the ranks (Open MPI, Intel MPI, MPICH's Hydra, Slurm) leaves variables behind, and under an
mpirun inside a Slurm job two families are present at once: those of Slurm then describe the MPI's daemon
and not the rank. This module knows whom to trust in which order. It asks neither MPI nor the operating
system; whether MPI agrees is for whoever starts MPI to check.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from launcher.errors import LaunchError

__all__ = ["Allocation", "expand_node_list", "expand_tasks_per_node"]

FIRST_SPECIAL_STEP = 0xFFFFFFF0
"""From here on Slurm numbers the steps that no srun started: batch script, interactive shell, external ones."""

MAX_NAMES = 100_000
"""More nodes than any cluster has: a list that expands to more is a damaged one."""

INTEL_MARKS = ("I_MPI_MPIRUN", "I_MPI_HYDRA_UUID", "I_MPI_INFO_BRAND")
"""Variables that Intel MPI's own starter sets; other I_MPI_* ones may be a user's settings under any MPI."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Allocation:
    """The place of this process among the ranks of its job."""

    rank: int = 0
    size: int = 1
    """Number of ranks as the environment says it; MPI itself must say the same."""
    local_rank: int | None = None
    """Rank among the ranks of this node; None where nobody says it."""
    local_size: int | None = None
    """Number of ranks on this node; None where nobody says it."""
    node_count: int | None = None
    """Nodes of the Slurm step, or of the whole Slurm job under an mpirun; None outside Slurm."""
    hosts: tuple[str, ...] = ()
    """Names of these nodes in Slurm's order; empty outside Slurm."""
    source: str = "none"
    """Who started the ranks: Open MPI, Intel MPI, MPICH/Hydra, Slurm or none."""
    promised_size: int = 1
    """Ranks that the environment speaks of. More than `size` only where a job asked Slurm for tasks and its script
    then runs Python without srun, ibrun or mpirun: that is one worker, and worth a hint to the user."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Allocation:
        """Read the variables of a process, trusting an MPI's own before Slurm's.

        Raises LaunchError for values that are no numbers, out of range or incomplete.
        """
        for read in (_open_mpi, _pmi, _pmix, _slurm):
            allocation = read(environ)
            if allocation is not None:
                return _checked(allocation)
        return cls(promised_size=_optional(environ, "SLURM_NTASKS", minimum=1) or 1)


def expand_node_list(text: str) -> tuple[str, ...]:
    """The node names of a Slurm node list: "a[1-3,07-09],b5" gives a1 a2 a3 a07 a08 a09 b5.

    Of several brackets in one name the last counts fastest. Raises LaunchError for anything else.
    """
    names: list[str] = []
    # Commas inside brackets separate ranges, commas outside separate names.
    for part in re.split(r",(?![^\[]*\])", text.strip()):
        pieces = re.split(r"\[([^\[\]]*)\]", part)
        if not part or re.search(r"[\[\]\s]", "".join(pieces[::2])):
            raise _bad_list(text)
        expanded = [pieces[0]]
        for ranges, literal in zip(pieces[1::2], pieces[2::2], strict=True):
            numbers = [n for piece in ranges.split(",") for n in _numbers(piece, text)]
            if len(expanded) * len(numbers) > MAX_NAMES:
                raise _bad_list(text)
            expanded = [name + number + literal for name in expanded for number in numbers]
        names += expanded
    return tuple(names)


def expand_tasks_per_node(text: str) -> tuple[int, ...]:
    """Ranks on each node as Slurm counts them: "4(x3),2" gives 4 4 4 2.

    Raises LaunchError for anything else.
    """
    counts: list[int] = []
    for part in text.strip().split(","):
        match = re.fullmatch(r"([0-9]{1,9})(?:\(x([0-9]{1,6})\))?", part)
        if match is None or int(match[2] or 1) > MAX_NAMES:
            raise LaunchError(f"{text!r} is not a list of tasks per node as Slurm writes them, such as 4(x128),2")
        counts += [int(match[1])] * int(match[2] or 1)
    return tuple(counts)


def _numbers(piece: str, text: str) -> list[str]:
    """A range of a node list with its leading zeros: "08-10" gives 08 09 10."""
    match = re.fullmatch(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", piece)
    if match is None:
        raise _bad_list(text)
    first, last = match[1], match[2] or match[1]
    if not 0 <= int(last) - int(first) < MAX_NAMES:
        raise _bad_list(text)
    return [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]


def _bad_list(text: str) -> LaunchError:
    return LaunchError(f"{text!r} is not a node list as Slurm writes them, such as c[001-128] or a[1-3,07-09],b5")


def _open_mpi(environ: Mapping[str, str]) -> Allocation | None:
    if "OMPI_COMM_WORLD_RANK" not in environ:
        return None
    return _under_mpirun(
        environ,
        source="Open MPI",
        rank=_required(environ, "OMPI_COMM_WORLD_RANK"),
        size=_required(environ, "OMPI_COMM_WORLD_SIZE", minimum=1),
        local_rank=_optional(environ, "OMPI_COMM_WORLD_LOCAL_RANK"),
        local_size=_optional(environ, "OMPI_COMM_WORLD_LOCAL_SIZE", minimum=1),
    )


def _pmi(environ: Mapping[str, str]) -> Allocation | None:
    if "PMI_RANK" not in environ:
        return None
    rank, size = _required(environ, "PMI_RANK"), _required(environ, "PMI_SIZE", minimum=1)
    task = _slurm(environ)
    # srun sets PMI_RANK for its tasks too, but never Hydra's local rank; only then do Slurm's variables fit.
    if "MPI_LOCALRANKID" not in environ and task is not None and (task.rank, task.size) == (rank, size):
        return task
    return _under_mpirun(
        environ,
        source="Intel MPI" if any(mark in environ for mark in INTEL_MARKS) else "MPICH/Hydra",
        rank=rank,
        size=size,
        local_rank=_optional(environ, "MPI_LOCALRANKID"),
        local_size=_optional(environ, "MPI_LOCALNRANKS", minimum=1),
    )


def _pmix(environ: Mapping[str, str]) -> Allocation | None:
    """PMIx tells a process its rank but not the number of ranks: that must come from the Slurm step."""
    if "PMIX_RANK" not in environ:
        return None
    rank, task = _required(environ, "PMIX_RANK"), _slurm(environ)
    if task is None or task.rank != rank:
        raise LaunchError(
            f"PMIX_RANK is {rank}, but nothing in the environment says of how many ranks. Expected "
            "OMPI_COMM_WORLD_SIZE or the same rank of a Slurm step: start with mpirun or srun --mpi=pmix."
        )
    return task


def _slurm(environ: Mapping[str, str]) -> Allocation | None:
    """The task of a step that srun started, or None: a batch script has a SLURM_PROCID too, but no step."""
    step = _optional(environ, "SLURM_STEP_ID")
    if step is None or step >= FIRST_SPECIAL_STEP or "SLURM_PROCID" not in environ:
        return None
    size_name = "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in environ else "SLURM_NTASKS"
    size = _required(environ, size_name, minimum=1)
    counts = environ.get("SLURM_STEP_TASKS_PER_NODE") or environ.get("SLURM_TASKS_PER_NODE")
    node = _optional(environ, "SLURM_NODEID")
    local_size = None
    if counts and node is not None:
        expanded = expand_tasks_per_node(counts)
        if node >= len(expanded):
            raise LaunchError(f"SLURM_NODEID is {node}, but Slurm counts the tasks of {len(expanded)} nodes: {counts}")
        local_size = expanded[node]
    return Allocation(
        rank=_required(environ, "SLURM_PROCID"),
        size=size,
        local_rank=_optional(environ, "SLURM_LOCALID"),
        local_size=local_size,
        node_count=_optional(environ, "SLURM_STEP_NUM_NODES", minimum=1),
        hosts=_hosts(environ, "SLURM_STEP_NODELIST"),
        source="Slurm",
        promised_size=size,
    )


def _under_mpirun(
    environ: Mapping[str, str],
    *,
    source: str,
    rank: int,
    size: int,
    local_rank: int | None,
    local_size: int | None,
) -> Allocation:
    """A rank of an mpirun. Of Slurm only the job's nodes are asked: daemons and ranks have them in common."""
    return Allocation(
        rank=rank,
        size=size,
        local_rank=local_rank,
        local_size=local_size,
        node_count=_optional(environ, "SLURM_JOB_NUM_NODES", minimum=1),
        hosts=_hosts(environ, "SLURM_JOB_NODELIST"),
        source=source,
        promised_size=size,
    )


def _hosts(environ: Mapping[str, str], name: str) -> tuple[str, ...]:
    return expand_node_list(environ[name]) if environ.get(name) else ()


def _checked(allocation: Allocation) -> Allocation:
    if allocation.rank >= allocation.size:
        raise LaunchError(
            f"{allocation.source} says rank {allocation.rank} of {allocation.size}; ranks count from 0. "
            "The environment is damaged: start the ranks anew from a clean shell."
        )
    local_rank, local_size = allocation.local_rank, allocation.local_size
    if local_rank is not None and local_size is not None and local_rank >= local_size:
        raise LaunchError(
            f"{allocation.source} says local rank {local_rank} of {local_size}; local ranks count from 0. "
            "The environment is damaged: start the ranks anew from a clean shell."
        )
    return allocation


def _required(environ: Mapping[str, str], name: str, minimum: int = 0) -> int:
    value = _optional(environ, name, minimum)
    if value is None:
        raise LaunchError(f"{name} is not set although its companions are; start the ranks anew with mpirun or srun")
    return value


def _optional(environ: Mapping[str, str], name: str, minimum: int = 0) -> int | None:
    text = environ.get(name, "").strip()
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,10}", text) or int(text) < minimum:
        raise LaunchError(f"{name} is {text!r}, expected a whole number of at least {minimum}; unset it or start anew")
    return int(text)
