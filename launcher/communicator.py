"""How ranks speak: objects over mpi4py, gradients over Horovod, or over mpi4py where Horovod is absent.

`start_mpi` joins the ranks before TensorFlow is there, so that a node's ranks can agree on who gets which cores.
`choose` then picks what carries the gradients. Both check that MPI and the environment tell the same story.
"""

from __future__ import annotations

import importlib.util
import operator
import socket
from typing import Any

from gan.parallel import Alone, Communicator
from launcher.allocation import Allocation
from launcher.errors import LaunchError

__all__ = ["HorovodCommunicator", "MpiCommunicator", "choose", "start_mpi"]

ALIGNMENT = 64
"""Bytes: of TensorFlow's tensors."""


class MpiCommunicator:
    """Collectives over MPI_COMM_WORLD through mpi4py; an Allreduce of NumPy buffers carries the gradients."""

    name = "mpi"

    def __init__(self, world: Any) -> None:
        self._world = world
        self.rank: int = world.rank
        self.size: int = world.size

    def mean(self, values: Any) -> Any:
        import tensorflow as tf

        values = tf.convert_to_tensor(values)
        mean = tf.numpy_function(self._mean, [values], tf.float32, stateful=True)
        mean.set_shape(values.shape)
        return mean

    def _mean(self, values: Any) -> Any:
        import numpy as np

        # TensorFlow takes over an array that begins where its own tensors may, and copies any other.
        memory = np.empty(values.nbytes + ALIGNMENT, np.uint8)
        start = -memory.ctypes.data % ALIGNMENT
        mean = memory[start : start + values.nbytes].view(values.dtype)
        self._world.Allreduce(np.ascontiguousarray(values), mean)
        mean *= values.dtype.type(1 / self.size)
        return mean

    def gather(self, value: Any) -> list[Any] | None:
        """In a binary tree: rank 0 hears from log2(n) ranks and not from n, as it would with MPI_Gatherv."""
        found = self._world.reduce({self.rank: value}, op=operator.or_, root=0)
        return None if found is None else [found[rank] for rank in range(self.size)]

    def allgather(self, value: Any) -> list[Any]:
        return self.broadcast(self.gather(value))

    def broadcast(self, value: Any) -> Any:
        return self._world.bcast(value)


class HorovodCommunicator(MpiCommunicator):
    """Gradients through Horovod's fused allreduce inside the graph; everything else as over MPI."""

    name = "horovod"

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self._horovod = _import_horovod()
        self._horovod.init()
        if (self._horovod.rank(), self._horovod.size()) != (self.rank, self.size):
            raise LaunchError(
                f"Horovod counts rank {self._horovod.rank()} of {self._horovod.size()}, MPI rank {self.rank} of "
                f"{self.size}: Horovod was built against another MPI. Run 'make env' or use --communicator mpi"
            )

    def mean(self, values: Any) -> Any:
        return self._horovod.allreduce(values, op=self._horovod.Average)


def start_mpi(allocation: Allocation, choice: str) -> Communicator:
    """Join the ranks the environment promises.

    Raises:
        LaunchError: MPI cannot be used although more than one rank was promised, or MPI sees other ranks than the
            environment does.
    """
    if choice == "none" or (allocation.size == 1 and allocation.source == "none"):
        if allocation.size > 1:
            raise LaunchError(
                f"--communicator none, but {allocation.source} started {allocation.size} ranks; they would train "
                f"{allocation.size} times the same. Leave the option out or start one rank"
            )
        return Alone()
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        if allocation.size == 1:
            return Alone()
        raise LaunchError(
            f"{allocation.source} started {allocation.size} ranks, but MPI cannot be loaded ({error}). "
            "Run 'make env', or 'make env MPI=site' where the site's MPI started the ranks",
            agreed=True,  # all ranks have the same environment, and none can ask another
        ) from error
    world = MPI.COMM_WORLD
    _cross_check(allocation, world.rank, world.size, MPI.Get_library_version().split(",")[0].splitlines()[0])
    return Alone() if world.size == 1 else MpiCommunicator(world)


def choose(communicator: Communicator, choice: str) -> tuple[Communicator, str]:
    """The communicator that carries gradients, and a sentence for the user where it is not the one to expect.

    To be called after TensorFlow has started with its threads set, since Horovod loads it.

    Raises:
        LaunchError: Horovod was asked for and cannot be used.
    """
    if not isinstance(communicator, MpiCommunicator) or choice == "mpi":
        return communicator, ""
    problem = ""
    try:
        _import_horovod()
    except Exception as error:  # TensorFlow reports a missing library as NotFoundError, not ImportError
        problem = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    # Before anybody starts it: its start is collective, and would wait for a rank that cannot.
    problems = communicator.allgather(problem)
    failing = [f"rank {rank}: {text}" for rank, text in enumerate(problems) if text]
    if not failing:
        return HorovodCommunicator(communicator._world), ""
    if choice == "horovod":
        raise LaunchError(
            f"--communicator horovod cannot be had on {len(failing)} of {len(problems)} ranks ({failing[0]}). "
            "Run 'make env' to build it, or leave the option out to exchange gradients over mpi4py"
        )
    return communicator, f"Horovod cannot be used ({failing[0]}): gradients travel over mpi4py instead"


def _import_horovod() -> Any:
    if importlib.util.find_spec("horovod") is None:
        raise ImportError("Horovod is not installed")
    import horovod.tensorflow as horovod

    if not horovod.mpi_built():
        raise ImportError("this Horovod was built without MPI")
    return horovod


def _cross_check(allocation: Allocation, rank: int, size: int, library: str) -> None:
    if (rank, size) == (allocation.rank, allocation.size):
        return
    here = socket.gethostname()
    if size == 1:
        raise LaunchError(
            f"{here}: this rank finds itself alone, but {allocation.source} promises rank {allocation.rank} of "
            f"{allocation.size}. The MPI library here ({library}) does not belong to what started it: use the mpirun "
            "of the same MPI, or the srun --mpi=pmix (Open MPI) or --mpi=pmi2 (MPICH, Intel MPI) that fits it",
            agreed=True,  # the others are alone as well, and no rank can ask another
        )
    raise LaunchError(
        f"{here}: MPI ({library}) says rank {rank} of {size}, {allocation.source} says rank {allocation.rank} of "
        f"{allocation.size}; expected the same. Start the ranks with the launcher of that MPI and nothing in between"
    )
