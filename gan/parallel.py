"""What a training needs of the other ranks: the interface of a communicator, and what is done with it.

Communicators over MPI are made by the launcher; `Alone` serves a single process. Nothing here reads MPI variables.
NumPy is loaded where it is needed: every rank loads this module before it is bound, and NumPy's OpenBLAS would start a
thread for each CPU of the node.
"""

from __future__ import annotations

import hashlib
import math
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
    """Collectives: every rank calls the same one in the same order."""

    name: str
    """What carries gradients: horovod, mpi or none."""
    rank: int
    size: int

    def mean(self, values: Any) -> Any:
        """Mean over ranks of a float32 tensor (n,), eagerly or while a tf.function is traced."""

    def gather(self, value: Any) -> list[Any] | None:
        """The values of all ranks, in rank order, on rank 0; None elsewhere. Any picklable object."""

    def allgather(self, value: Any) -> list[Any]:
        """The values of all ranks, in rank order, on every rank. Any picklable object."""

    def broadcast(self, value: Any) -> Any:
        """The value of rank 0, on every rank."""


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Worker:
    """Where this rank runs, for the record. The training computes nothing from it."""

    host: str = field(default_factory=socket.gethostname)
    placement: Sequence[Mapping[str, Any]] = ()
    """Report of all ranks, on rank 0."""
    placement_warnings: Sequence[str] = ()
    threads: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    git_commit: str = ""


def agree(communicator: Communicator, check: Callable[[], T]) -> T:
    """Run a check on every rank; where it fails on one, all ranks raise the same error, marked as agreed.

    An agreed error is printed once, by rank 0, and every rank ends by itself.

    Raises:
        InputError: with the first failing rank's message.
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
    """Run something on rank 0 and share its result; an InputError is raised on all ranks."""
    return communicator.broadcast(agree(communicator, lambda: work() if communicator.rank == 0 else None))


def verify_same(communicator: Communicator, host: str, values: Mapping[str, str]) -> None:
    """Check that what must be the same on all ranks (versions, settings, files) is what rank 0 has.

    Raises:
        RanksDiffer: on all ranks, with both values of the first that differs.
    """
    expected = communicator.broadcast(dict(values))
    differing = [
        f"{name} is {values.get(name, 'absent')} on rank {communicator.rank} ({host}) and "
        f"{expected.get(name, 'absent')} on rank 0"
        for name in sorted({*expected, *values})
        if values.get(name) != expected.get(name)
    ]
    found = [texts for texts in communicator.allgather(differing) if texts]
    if not found:
        return
    more = f" {len(found)} of {communicator.size} ranks differ from rank 0." if len(found) > 1 else ""
    raise RanksDiffer(
        f"{'; '.join(found[0][:3])}.{more} Expected the same on all: give every rank the same command line, "
        "environment and files",
        agreed=True,
    )


def share_variables(communicator: Communicator, variables: Sequence[Any]) -> None:
    """Give every rank the values of rank 0."""
    if communicator.size == 1:
        return
    values = [variable.numpy() for variable in variables] if communicator.rank == 0 else None
    for variable, value in zip(variables, communicator.broadcast(values), strict=True):
        variable.assign(value)


def average_variables(communicator: Communicator, variables: Sequence[Any]) -> None:
    """Replace float32 variables by their mean over ranks, in one exchange."""
    if communicator.size == 1 or not variables:
        return
    assign_flat(variables, communicator.mean(flat(variables)).numpy())


def flat(variables: Sequence[Any]) -> np.ndarray:
    """The values of variables in one row."""
    import numpy as np

    return np.concatenate([variable.numpy().ravel() for variable in variables])


def assign_flat(variables: Sequence[Any], values: np.ndarray) -> None:
    """Set variables to the values of a row that `flat` made of such variables."""
    import numpy as np

    ends = np.cumsum([math.prod(variable.shape) for variable in variables])[:-1]
    for variable, part in zip(variables, np.split(values, ends), strict=True):
        variable.assign(part.reshape(variable.shape))


def digest(variables: Sequence[Any]) -> str:
    """SHA-256 over the bits of all variables."""
    import numpy as np

    state = hashlib.sha256()
    for variable in variables:
        state.update(np.ascontiguousarray(variable.numpy()).tobytes())
    return state.hexdigest()


def verify_equal(communicator: Communicator, variables: Sequence[Any], when: str) -> str:
    """Check that all ranks hold the same bits and return their digest.

    Raises:
        RanksDiffer: the ranks that differ from rank 0 are named.
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
