"""Decide how many threads a worker runs, and which variables set this in TensorFlow, OpenMP and Horovod.

This module only computes. The caller must set the variables before TensorFlow is imported. Values that the user has set
are kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from launcher.errors import LaunchError
from scaling.records.wording import count

if TYPE_CHECKING:
    from launcher.tuned import Tuned

__all__ = ["ThreadPlan", "Variable", "mpi_variables", "plan_threads"]

Origin = Literal["plan", "tuned", "user", "option"]

FEW_CORES = 4
"""With fewer cores than this, a worker reserves no core for communication and runs one operation at a time."""

CONSTANTS = {
    # Milliseconds that an OpenMP thread spins after its work. A spinning thread slows down the next operation.
    "KMP_BLOCKTIME": "1",
    "KMP_AFFINITY": "granularity=fine,compact,1,0",
    # Bytes of one fused buffer for all gradients of the model. One large message is faster, because latency limits the
    # exchange, not bandwidth.
    "HOROVOD_FUSION_THRESHOLD": "134217728",
    "HOROVOD_CPU_OPERATIONS": "MPI",
    # By default TensorFlow does not use oneDNN on processors without VNNI, such as the Xeon 8160.
    "TF_ENABLE_ONEDNN_OPTS": "1",
}

OPENMP_AFFINITY = ("OMP_PROC_BIND", "OMP_PLACES")
"""Standard variables for the same purpose as KMP_AFFINITY. Intel's OpenMP ignores them if KMP_AFFINITY is set."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Variable:
    """One environment variable of a worker, with the origin of its value."""

    name: str
    value: str
    origin: Origin
    """Origin of the value. plan: the launcher's default; tuned: measured on this type of node; user: already in the
    environment; option: from the command line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ThreadPlan:
    """The threads of one worker."""

    inter_op: int
    """Number of operations that TensorFlow runs at the same time."""
    intra_op: int
    """Number of threads in TensorFlow's pool that one operation can use."""
    variables: tuple[Variable, ...]
    """All variables to set in the worker's environment."""
    warnings: tuple[str, ...] = ()
    """One text for each conflict between numbers of threads, and for each number that is too large."""


def plan_threads(
    cores: int,
    environ: Mapping[str, str],
    inter_op: int | None = None,
    intra_op: int | None = None,
    tuned: Tuned | None = None,
) -> ThreadPlan:
    """Return the numbers of threads and the variables for a worker.

    The defaults come from tuning on 12 cores of a Xeon 8160, which gave inter-op 2 and intra-op 11. With 4 cores or
    more, inter-op is 2 and intra-op is the number of cores minus one: Horovod's background thread and MPI use the
    remaining core. With fewer cores, inter-op is 1 and intra-op is the number of cores. OMP_NUM_THREADS is the largest
    number with inter-op * OMP_NUM_THREADS <= cores, and at least 1.

    An option has priority over the environment, the environment over `tuned`, and `tuned` over the defaults. An empty
    variable counts as not set.

    Args:
        cores: number of physical cores of the worker.
        environ: environment of the worker.
        inter_op: value of --inter-op; None if not given.
        intra_op: value of --intra-op; None if not given.
        tuned: result of `launcher tune` for this type of node and this number of workers; None without one.

    Raises:
        LaunchError: a number of threads or `cores` is not a whole number of at least 1.
    """
    if cores < 1:
        raise LaunchError(f"{cores} cores for a worker; expected at least 1")
    many = cores >= FEW_CORES
    default_inter, default_intra = (2, cores - 1) if many else (1, cores)
    origin: Origin = "plan"
    if tuned:
        default_inter, default_intra, origin = tuned.inter_op, tuned.intra_op, "tuned"
    inter, warnings = _decide("TF_NUM_INTEROP_THREADS", environ, "--inter-op", inter_op, default_inter, origin)
    intra, more = _decide("TF_NUM_INTRAOP_THREADS", environ, "--intra-op", intra_op, default_intra, origin)
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
    warnings += more + _excess_warnings(cores, inter, intra, omp)
    return ThreadPlan(
        inter_op=inter_threads, intra_op=intra_threads, variables=tuple(variables), warnings=tuple(warnings)
    )


def mpi_variables(node_cores: int, local_size: int) -> dict[str, str]:
    """Return the variables to set before MPI starts, when the ranks of a node cannot exchange anything yet.

    Horovod's background thread communicates all the time, and MPI spins while it waits. If a worker has no spare core,
    this takes time from its compute threads. The variable makes Open MPI yield the core while it waits.

    Args:
        node_cores: number of physical cores of the node.
        local_size: number of ranks on the node.
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
    """Return a variable from the option, the environment or the default, and a warning if the first two differ.

    Args:
        name: name of the variable.
        environ: environment of the worker.
        option_name: name of the option, for messages.
        option: value of the option; None if not given.
        default: value without an option and a variable.
        origin: origin of the default.
    """
    current = environ.get(name, "").strip()
    if option is not None:
        if option < 1:
            raise LaunchError(f"{option_name} is {option}; expected at least 1: change it")
        variable = Variable(name=name, value=str(option), origin="option")
        differs = current not in ("", str(option))
        return variable, [f"{option_name} {option} overrides {name}={current} from the environment"] if differs else []
    if not current:
        return Variable(name=name, value=str(default), origin=origin), []
    if not re.fullmatch(r"0*[1-9][0-9]{0,5}", _outer_level(name, current)):
        raise LaunchError(f"{name} is {current!r} in the environment; expected a whole number of at least 1: unset it")
    return Variable(name=name, value=current, origin="user"), []


def _outer_level(name: str, value: str) -> str:
    """Return the number of threads at the outer level: OMP_NUM_THREADS may list nested levels too, as in 6,2."""
    return value.split(",")[0].strip() if name == "OMP_NUM_THREADS" else value


def _excess_warnings(cores: int, inter: Variable, intra: Variable, omp: Variable) -> list[str]:
    warnings = [
        f"{variable.name}={variable.value}, but the worker has {count(cores, 'core')}: threads will wait for each "
        f"other; use at most {cores}"
        for variable in (inter, intra)
        if int(variable.value) > cores
    ]
    threads = int(_outer_level(omp.name, omp.value))
    if omp.origin == "user" and int(inter.value) * threads > cores:
        warnings.append(
            f"{inter.value} inter-op x OMP_NUM_THREADS={omp.value} exceeds the worker's {count(cores, 'core')}: "
            f"threads will wait for each other; set OMP_NUM_THREADS to at most {max(1, cores // int(inter.value))}"
        )
    return warnings
