"""Decides how many threads a worker runs and which variables say so to TensorFlow, OpenMP and Horovod. Pure.

What is decided here must be in the environment before TensorFlow is imported, which is left to whoever
starts the training. What the user has set already is kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from launcher.errors import LaunchError

if TYPE_CHECKING:
    from launcher.tuned import Tuned

__all__ = ["ThreadPlan", "Variable", "mpi_variables", "plan_threads"]

Origin = Literal["plan", "tuned", "user", "option"]

FEW_CORES = 4
"""Below this many cores there is none to spare for communication, nor for a second operation at a time."""

CONSTANTS = {
    # An OpenMP thread that spins after its work is done takes the core from the next operation's threads.
    "KMP_BLOCKTIME": "1",
    "KMP_AFFINITY": "granularity=fine,compact,1,0",
    # One fused buffer for all gradients of the model: latency and not bandwidth limits the exchange.
    "HOROVOD_FUSION_THRESHOLD": "134217728",
    "HOROVOD_CPU_OPERATIONS": "MPI",
    # TensorFlow leaves oneDNN off on processors without VNNI, such as the Xeon 8160.
    "TF_ENABLE_ONEDNN_OPTS": "1",
}

OPENMP_AFFINITY = ("OMP_PROC_BIND", "OMP_PLACES")
"""OpenMP's own words for KMP_AFFINITY, which would silently win over them in Intel's runtime."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Variable:
    """One environment variable of a worker and who decided it."""

    name: str
    value: str
    origin: Origin
    """plan: decided here; tuned: measured on this type of node; user: found in the environment and kept; option: given
    on the command line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ThreadPlan:
    """The threads of one worker."""

    inter_op: int
    """Operations that TensorFlow runs at the same time."""
    intra_op: int
    """Threads of TensorFlow's pool that one operation is spread over."""
    variables: tuple[Variable, ...]
    warnings: tuple[str, ...] = ()


def plan_threads(
    cores: int,
    environ: Mapping[str, str],
    inter_op: int | None = None,
    intra_op: int | None = None,
    tuned: Tuned | None = None,
) -> ThreadPlan:
    """Threads and variables for a worker of `cores` physical cores.

    Defaults, tuned on 12 cores of a Xeon 8160 as inter-op 2 and intra-op 11: from 4 cores on inter-op is 2
    and intra-op all cores but one, which is left to Horovod's background thread and the MPI's progress;
    with fewer cores inter-op is 1 and intra-op all of them. OMP_NUM_THREADS follows from inter_op *
    OMP_NUM_THREADS <= cores.

    An option wins over the environment, the environment over what was measured on such nodes with as many workers
    (`tuned`), and that over the defaults; a variable that is set but empty counts as not set. Raises LaunchError for
    thread counts that are no whole numbers of at least 1.
    """
    if cores < 1:
        raise LaunchError(f"{cores} cores for a worker; expected at least 1")
    many = cores >= FEW_CORES
    usual_inter, usual_intra = (2, cores - 1) if many else (1, cores)
    origin: Origin = "plan"
    if tuned:
        usual_inter, usual_intra, origin = tuned.inter_op, tuned.intra_op, "tuned"
    inter, warnings = _decide("TF_NUM_INTEROP_THREADS", environ, "--inter-op", inter_op, usual_inter, origin)
    intra, more = _decide("TF_NUM_INTRAOP_THREADS", environ, "--intra-op", intra_op, usual_intra, origin)
    inter_threads, intra_threads = int(inter.value), int(intra.value)
    omp, _ = _decide("OMP_NUM_THREADS", environ, "", None, max(1, cores // inter_threads))
    variables = [inter, intra, omp]
    affinity = [Variable(name=n, value=environ[n], origin="user") for n in OPENMP_AFFINITY if environ.get(n)]
    for name, value in CONSTANTS.items():
        if environ.get(name):
            variables.append(Variable(name=name, value=environ[name], origin="user"))
        elif name == "KMP_AFFINITY" and affinity:
            variables += affinity
        else:
            variables.append(Variable(name=name, value=value, origin="plan"))
    warnings += more + _crowding(cores, inter, intra, omp)
    return ThreadPlan(
        inter_op=inter_threads, intra_op=intra_threads, variables=tuple(variables), warnings=tuple(warnings)
    )


def mpi_variables(node_cores: int, local_size: int) -> dict[str, str]:
    """Variables that an MPI reads when it starts, before the ranks of a node can agree on anything.

    Horovod's background thread talks to the others all the time and MPI waits by spinning. Where a worker has no core
    to spare, that takes the compute threads' time, so Open MPI is told to give the core away while it waits.
    """
    return {"OMPI_MCA_mpi_yield_when_idle": "1"} if node_cores < FEW_CORES * local_size else {}


def _decide(
    name: str,
    environ: Mapping[str, str],
    option_name: str,
    option: int | None,
    default: int,
    origin: Origin = "plan",
) -> tuple[Variable, list[str]]:
    """A thread count by option, environment or default, and a warning where the first two disagree."""
    found = environ.get(name, "").strip()
    if option is not None:
        if option < 1:
            raise LaunchError(f"{option_name} is {option}, expected at least 1")
        clash = f"{option_name} {option} is used, not {name}={found} of the environment"
        return Variable(name=name, value=str(option), origin="option"), [clash] if found not in (
            "",
            str(option),
        ) else []
    if not found:
        return Variable(name=name, value=str(default), origin=origin), []
    if not re.fullmatch(r"0*[1-9][0-9]{0,5}", _outer(name, found)):
        raise LaunchError(f"{name} is {found!r} in the environment, expected a whole number of at least 1; unset it")
    return Variable(name=name, value=found, origin="user"), []


def _outer(name: str, value: str) -> str:
    """OpenMP takes a list for nested regions, such as 6,2; the outermost counts here."""
    return value.split(",")[0].strip() if name == "OMP_NUM_THREADS" else value


def _crowding(cores: int, inter: Variable, intra: Variable, omp: Variable) -> list[str]:
    warnings = [
        f"{variable.name}={variable.value}, but the worker has {_cores(cores)}: threads wait for each other"
        for variable in (inter, intra)
        if int(variable.value) > cores
    ]
    threads = int(_outer(omp.name, omp.value))
    if omp.origin == "user" and int(inter.value) * threads > cores:
        warnings.append(
            f"{inter.value} inter-op x OMP_NUM_THREADS={omp.value} make more threads than the worker's "
            f"{_cores(cores)}; expected OMP_NUM_THREADS of at most {max(1, cores // int(inter.value))}"
        )
    return warnings


def _cores(count: int) -> str:
    return "1 core" if count == 1 else f"{count} cores"
