"""The interface of a communicator between ranks, and the operations that a training builds on it.

The launcher makes the communicators over MPI. `Alone` is the communicator of a single process. This module reads no MPI
variables. NumPy is imported inside functions: every rank loads this module before it is bound, and NumPy's OpenBLAS
would start one thread for every CPU of the node.
"""

from __future__ import annotations

import hashlib
import math
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from gan.errors import InputError, RanksDiffer

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "Alone",
    "Communicator",
    "Worker",
    "agree",
    "assign_flat",
    "average_variables",
    "flat",
    "on_first",
    "share_variables",
    "verify_equal",
    "verify_same",
]

T = TypeVar("T")


class Communicator(Protocol):
    """Collective operations. All ranks must call the same operations in the same order."""

    name: str
    """Library that averages the gradients: `horovod`, `mpi` or `none`."""
    rank: int
    size: int

    def mean(self, values: Any) -> Any:
        """Return the mean over the ranks of a float32 tensor (n,), both eagerly and inside a tf.function."""

    def gather(self, value: Any) -> list[Any] | None:
        """Return the values of all ranks in rank order on rank 0, None on other ranks. Values are picklable."""

    def allgather(self, value: Any) -> list[Any]:
        """Return the values of all ranks in rank order on every rank. A value is any picklable object."""

    def broadcast(self, value: Any) -> Any:
        """Return the value of rank 0 on every rank."""

    def abort(self, status: int) -> None:
        """End all ranks at once with an exit status. Unlike the other methods, one rank calls it, in any thread."""


class Alone:
    """The communicator of a training on one rank."""

    name = "none"
    rank = 0
    size = 1

    def mean(self, values: Any) -> Any:
        return values

    def gather(self, value: Any) -> list[Any] | None:
        return [value]

    def allgather(self, value: Any) -> list[Any]:
        return [value]

    def broadcast(self, value: Any) -> Any:
        return value

    def abort(self, status: int) -> None:
        os._exit(status)


@dataclass(frozen=True, kw_only=True, slots=True)
class Worker:
    """Host, placement, threads and software of this rank, for the record. They do not change the training."""

    host: str = field(default_factory=socket.gethostname)
    placement: Sequence[Mapping[str, Any]] = ()
    """Cores, memory and threads of all ranks, on rank 0."""
    placement_warnings: Sequence[str] = ()
    threads: Mapping[str, Any] = field(default_factory=dict)
    """Thread numbers and the environment variables that set them."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Versions of libraries by name."""
    git_commit: str = ""


def agree(communicator: Communicator, check: Callable[[], T]) -> T:
    """Run a check on every rank. If it fails on any rank, raise the same error on all ranks, marked as agreed.

    Rank 0 prints an agreed error once, and every rank ends by itself.

    Raises:
        InputError: the check failed on a rank. The message comes from the first such rank.
    """
    result: T | None = None
    failure: InputError | None = None
    try:
        result = check()
    except InputError as error:
        failure = error
    failures = communicator.allgather(None if failure is None else (type(failure), str(failure)))
    first = next((item for item in failures if item is not None), None)
    if first is not None:
        kind, message = first
        raise kind(message, agreed=True)
    return result  # type: ignore[return-value]


def on_first(communicator: Communicator, work: Callable[[], T]) -> T:
    """Run a function on rank 0 and return its result on all ranks. An InputError is raised on all ranks."""
    return communicator.broadcast(agree(communicator, lambda: work() if communicator.rank == 0 else None))


def verify_same(communicator: Communicator, host: str, values: Mapping[str, str]) -> None:
    """Check that all ranks have the same values as rank 0, such as versions, settings and files.

    Args:
        communicator: connects the ranks.
        host: name of this rank's host, for the message.
        values: texts to compare, by name.

    Raises:
        RanksDiffer: a rank has other values. All ranks raise it, with both values of the first such rank.
    """
    expected = communicator.broadcast(dict(values))
    differing = [
        f"{name} is {values.get(name, 'absent')} on rank {communicator.rank} ({host}) and "
        f"{expected.get(name, 'absent')} on rank 0"
        for name in sorted({*expected, *values})
        if values.get(name) != expected.get(name)
    ]
    ranks = [texts for texts in communicator.allgather(differing) if texts]
    if not ranks:
        return
    more = f" {len(ranks)} of {communicator.size} ranks differ from rank 0." if len(ranks) > 1 else ""
    raise RanksDiffer(
        f"{'; '.join(ranks[0][:3])}.{more} Expected the same on all ranks: give all ranks the same command line, "
        "environment and files",
        agreed=True,
    )


def share_variables(communicator: Communicator, variables: Sequence[Any]) -> None:
    """Set the variables of every rank to the values of rank 0."""
    if communicator.size == 1:
        return
    values = [variable.numpy() for variable in variables] if communicator.rank == 0 else None
    for variable, value in zip(variables, communicator.broadcast(values), strict=True):
        variable.assign(value)


def average_variables(communicator: Communicator, variables: Sequence[Any]) -> None:
    """Replace float32 variables by their means over the ranks, in one exchange."""
    if communicator.size == 1 or not variables:
        return
    assign_flat(variables, communicator.mean(flat(variables)).numpy())


def flat(variables: Sequence[Any]) -> np.ndarray:
    """Return the values of all variables in one array (n,)."""
    import numpy as np

    return np.concatenate([variable.numpy().ravel() for variable in variables])


def assign_flat(variables: Sequence[Any], values: np.ndarray) -> None:
    """Set variables to the values of an array that `flat` made from the same kind of variables."""
    import numpy as np

    ends = np.cumsum([math.prod(variable.shape) for variable in variables])[:-1]
    for variable, part in zip(variables, np.split(values, ends), strict=True):
        variable.assign(part.reshape(variable.shape))


def digest(variables: Sequence[Any]) -> str:
    """Return the SHA-256 of the bits of all variables as hexadecimal text."""
    import numpy as np

    state = hashlib.sha256()
    for variable in variables:
        state.update(np.ascontiguousarray(variable.numpy()).tobytes())
    return state.hexdigest()


def verify_equal(communicator: Communicator, variables: Sequence[Any], when: str) -> str:
    """Check that the variables are equal on all ranks, bit for bit, and return their digest.

    Args:
        communicator: connects the ranks.
        variables: the variables to compare.
        when: beginning of the error message, such as "after epoch 3".

    Raises:
        RanksDiffer: some ranks differ from rank 0. The message names them.
    """
    digests = communicator.allgather(digest(variables))
    differing = [rank for rank, value in enumerate(digests) if value != digests[0]]
    if differing:
        some = ", ".join(map(str, differing[:8])) + (" ..." if len(differing) > 8 else "")
        raise RanksDiffer(
            f"{when}: {len(differing)} of {len(digests)} ranks hold other weights than rank 0 (ranks {some}); "
            "expected equal bits on all. The exchange of gradients is not working: run 'python -m launcher doctor'",
            agreed=True,
        )
    return digests[0]
