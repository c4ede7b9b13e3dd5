"""Read the place of this process in its job from the environment: its rank, the number of ranks, the nodes.

Every starter of ranks (Open MPI, Intel MPI, MPICH's Hydra, Slurm) sets its own variables. Under an mpirun inside a
Slurm job two sets are present. Slurm's set then describes the daemon of the MPI, not the rank. This module decides
which set to use. It does not start MPI: `launcher.communicator` does, and compares the results.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from launcher.errors import LaunchError

__all__ = ["RANK_VARIABLES", "Allocation", "expand_node_list", "expand_tasks_per_node"]

FIRST_SPECIAL_STEP = 0xFFFFFFF0
"""Lowest step number of Slurm for a step that srun did not start: batch script, interactive shell, external step."""

MAX_NAMES = 100_000
"""Largest number of nodes in one entry of a list. No cluster has more, so a larger entry is damaged."""

RANK_VARIABLES = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "SLURM_PROCID")
"""Variables in which the starters give the number of a rank."""

INTEL_MARKS = ("I_MPI_MPIRUN", "I_MPI_HYDRA_UUID", "I_MPI_INFO_BRAND")
"""Variables that only the mpirun of Intel MPI sets. Users may set other I_MPI_* variables under any MPI."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Allocation:
    """The place of this process among the ranks of its job."""

    rank: int = 0
    """Number of this process among all ranks, from 0."""
    size: int = 1
    """Number of ranks according to the environment. MPI must report the same number."""
    local_rank: int | None = None
    """Number of this process among the ranks of its node, from 0; None if the starter does not give it."""
    local_size: int | None = None
    """Number of ranks on this node; None if the starter does not give it."""
    node_count: int | None = None
    """Number of nodes of the Slurm step, or under mpirun of the whole Slurm job; None outside Slurm."""
    hosts: tuple[str, ...] = ()
    """Names of these nodes in Slurm's order; empty outside Slurm."""
    source: str = "none"
    """Starter of the ranks: "Open MPI", "Intel MPI", "MPICH/Hydra", "Slurm" or "none"."""
    promised_size: int = 1
    """Number of ranks that the job requested. It exceeds `size` only if the script of a Slurm job with several tasks
    runs Python without srun, ibrun or mpirun. That job has one worker, and the launcher warns the user."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Allocation:
        """Read the place of a process from its environment. Variables of an MPI have priority over Slurm's variables.

        Raises:
            LaunchError: a value is not a number or out of range, or a variable is missing although related ones are
                set.
        """
        for read in (_open_mpi, _pmi, _pmix, _slurm):
            allocation = read(environ)
            if allocation is not None:
                _check_ranks(allocation)
                return allocation
        return cls(promised_size=_optional(environ, "SLURM_NTASKS", minimum=1) or 1)


def expand_node_list(text: str) -> tuple[str, ...]:
    """Return the node names of a Slurm node list: "a[1-3,07-09],b5" gives a1 a2 a3 a07 a08 a09 b5.

    If a name has several brackets, the numbers of the last bracket change fastest.

    Raises:
        LaunchError: the text is not a node list, or one of its entries stands for more than MAX_NAMES nodes.
    """
    names: list[str] = []
    # Commas inside brackets separate ranges; commas outside them separate names.
    for part in re.split(r",(?![^\[]*\])", text.strip()):
        pieces = re.split(r"\[([^\[\]]*)\]", part)
        if not part or re.search(r"[\[\]\s]", "".join(pieces[::2])):
            raise _bad_node_list(text)
        expanded = [pieces[0]]
        for ranges, literal in zip(pieces[1::2], pieces[2::2], strict=True):
            numbers = [n for piece in ranges.split(",") for n in _numbers(piece, text)]
            if len(expanded) * len(numbers) > MAX_NAMES:
                raise _bad_node_list(text)
            expanded = [name + number + literal for name in expanded for number in numbers]
        names += expanded
    return tuple(names)


def expand_tasks_per_node(text: str) -> tuple[int, ...]:
    """Return the number of ranks on each node from Slurm's notation: "4(x3),2" gives 4 4 4 2.

    Raises:
        LaunchError: the text is not in this notation.
    """
    counts: list[int] = []
    for part in text.strip().split(","):
        match = re.fullmatch(r"([0-9]{1,9})(?:\(x([0-9]{1,6})\))?", part)
        if match is None or int(match[2] or 1) > MAX_NAMES:
            raise _bad_text(text, "list of tasks per node", "4(x128),2")
        counts += [int(match[1])] * int(match[2] or 1)
    return tuple(counts)


def _numbers(piece: str, text: str) -> list[str]:
    """Return the numbers of a range in a node list, with their leading zeros: "08-10" gives 08 09 10.

    Args:
        piece: the range, or a single number.
        text: the whole list, for the error.
    """
    match = re.fullmatch(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", piece)
    if match is None:
        raise _bad_node_list(text)
    first, last = match[1], match[2] or match[1]
    if not 0 <= int(last) - int(first) < MAX_NAMES:
        raise _bad_node_list(text)
    return [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]


def _bad_node_list(text: str) -> LaunchError:
    return _bad_text(text, "node list", "c[001-128] or a[1-3,07-09],b5")


def _bad_text(text: str, kind: str, example: str) -> LaunchError:
    return LaunchError(
        f"{text!r} is not a {kind}. Expected one as Slurm writes it, such as {example}: correct the SLURM_* variable "
        "that holds it, or submit the job again"
    )


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
    # srun sets PMI_RANK too, but only Hydra sets MPI_LOCALRANKID: without it, Slurm's variables describe this rank.
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
    """Return the place of a rank under PMIx. PMIx does not set the number of ranks, so the Slurm step must give it."""
    if "PMIX_RANK" not in environ:
        return None
    rank, task = _required(environ, "PMIX_RANK"), _slurm(environ)
    if task is None or task.rank != rank:
        raise LaunchError(
            f"PMIX_RANK is {rank}, but no variable gives the number of ranks. Expected OMPI_COMM_WORLD_SIZE, or a "
            "Slurm step with the same rank: start the ranks with mpirun or srun --mpi=pmix"
        )
    return task


def _slurm(environ: Mapping[str, str]) -> Allocation | None:
    """Return the place of a task that srun started, else None.

    A batch script has a SLURM_PROCID too, but no step of srun.
    """
    step = _optional(environ, "SLURM_STEP_ID")
    if step is None or step >= FIRST_SPECIAL_STEP or "SLURM_PROCID" not in environ:
        return None
    size_name = "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in environ else "SLURM_NTASKS"
    size = _required(environ, size_name, minimum=1)
    notation = environ.get("SLURM_STEP_TASKS_PER_NODE") or environ.get("SLURM_TASKS_PER_NODE")
    node = _optional(environ, "SLURM_NODEID")
    local_size = None
    if notation and node is not None:
        tasks = expand_tasks_per_node(notation)
        if node >= len(tasks):
            raise LaunchError(
                f"SLURM_NODEID is {node}, but the tasks per node are {notation}. Expected a number below {len(tasks)}: "
                "start the step again with srun"
            )
        local_size = tasks[node]
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
    """Return the place of a rank that an mpirun started.

    Only the nodes come from Slurm's variables, because the daemon of the MPI and the rank are in the same job.
    """
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


def _check_ranks(allocation: Allocation) -> None:
    for noun, rank, size in (
        ("rank", allocation.rank, allocation.size),
        ("local rank", allocation.local_rank, allocation.local_size),
    ):
        if rank is not None and size is not None and rank >= size:
            raise LaunchError(
                f"{allocation.source} gives {noun} {rank} of {size}, but ranks count from 0. The environment is "
                "damaged: start the ranks again from a clean shell"
            )


def _required(environ: Mapping[str, str], name: str, minimum: int = 0) -> int:
    value = _optional(environ, name, minimum)
    if value is None:
        raise LaunchError(
            f"{name} is not set, although related variables are. Expected a whole number: start the ranks again with "
            "mpirun or srun"
        )
    return value


def _optional(environ: Mapping[str, str], name: str, minimum: int = 0) -> int | None:
    text = environ.get(name, "").strip()
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,10}", text) or int(text) < minimum:
        raise LaunchError(
            f"{name} is {text!r}. Expected a whole number of at least {minimum}: unset it, or start the ranks again"
        )
    return int(text)
