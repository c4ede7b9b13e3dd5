"""Communication between ranks: objects through mpi4py, gradients through Horovod, or mpi4py if there is no Horovod.

`start_mpi` joins the ranks before TensorFlow is loaded, so that the ranks of a node can divide its cores, and checks
that MPI counts the same ranks as the environment. Later `choose` selects the library that averages gradients.
"""

from __future__ import annotations

import importlib.util
import operator
import socket
from typing import Any

from gan.parallel import Alone, Communicator
from launcher.allocation import Allocation
from launcher.errors import LaunchError
from launcher.guard import abort_mpi

__all__ = ["HorovodCommunicator", "MpiCommunicator", "choose", "start_mpi"]

ALIGNMENT = 64
"""Alignment of TensorFlow's tensors in bytes."""


class MpiCommunicator:
    """Collective operations on MPI_COMM_WORLD through mpi4py. An Allreduce of NumPy arrays averages gradients."""

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

        # TensorFlow uses an array with the alignment of its own tensors as it is, and copies any other array.
        memory = np.empty(values.nbytes + ALIGNMENT, np.uint8)
        start = -memory.ctypes.data % ALIGNMENT
        mean = memory[start : start + values.nbytes].view(values.dtype)
        self._world.Allreduce(np.ascontiguousarray(values), mean)
        mean *= values.dtype.type(1 / self.size)
        return mean

    def gather(self, value: Any) -> list[Any] | None:
        """Gather along a binary tree: rank 0 receives log2(n) messages, not n as with MPI_Gatherv."""
        values = self._world.reduce({self.rank: value}, op=operator.or_, root=0)
        return None if values is None else [values[rank] for rank in range(self.size)]

    def allgather(self, value: Any) -> list[Any]:
        return self.broadcast(self.gather(value))

    def broadcast(self, value: Any) -> Any:
        return self._world.bcast(value)

    def abort(self, status: int) -> None:
        abort_mpi(status)


class HorovodCommunicator(MpiCommunicator):
    """Average gradients with Horovod's fused allreduce inside the graph; use mpi4py for everything else."""

    name = "horovod"

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self._horovod = _import_horovod()
        self._horovod.init()
        if (self._horovod.rank(), self._horovod.size()) != (self.rank, self.size):
            raise LaunchError(
                f"Horovod says rank {self._horovod.rank()} of {self._horovod.size()}, MPI says rank {self.rank} of "
                f"{self.size}: Horovod was built with another MPI. Run 'make env' or use --communicator mpi"
            )

    def mean(self, values: Any) -> Any:
        return self._horovod.allreduce(values, op=self._horovod.Average)


def start_mpi(allocation: Allocation, choice: str) -> Communicator:
    """Join the other ranks and check that MPI counts the same ranks as the environment.

    Args:
        choice: library that averages gradients, from `--communicator`.

    Raises:
        LaunchError: there are several ranks and MPI cannot be used, or MPI counts other ranks than the environment.
    """
    if choice == "none" or (allocation.size == 1 and allocation.source == "none"):
        if allocation.size > 1:
            raise LaunchError(
                f"--communicator none, but {allocation.source} started {allocation.size} ranks; each would train "
                "alone. Leave the option out or start one rank"
            )
        return Alone()
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        if allocation.size == 1:
            return Alone()
        raise LaunchError(
            f"{allocation.source} started {allocation.size} ranks, but MPI cannot be loaded ({error}). "
            "Run 'make env', or 'make env MPI=site' if the MPI of the site started the ranks",
            agreed=True,  # all ranks have the same environment, and cannot communicate without MPI
        ) from error
    world = MPI.COMM_WORLD
    _cross_check(allocation, world.rank, world.size, MPI.Get_library_version().split(",")[0].splitlines()[0])
    return Alone() if world.size == 1 else MpiCommunicator(world)


def choose(communicator: Communicator, choice: str) -> tuple[Communicator, str]:
    """Return the communicator that averages gradients, and a warning or an empty text.

    `auto` gives the warning if it uses mpi4py instead of Horovod.

    Call this after TensorFlow has started with its planned threads, because Horovod loads TensorFlow.

    Args:
        communicator: the one from `start_mpi`.
        choice: library that averages gradients, from `--communicator`: auto, horovod, mpi or none.

    Raises:
        LaunchError: the option is `horovod`, and a rank cannot use Horovod.
    """
    if not isinstance(communicator, MpiCommunicator) or choice == "mpi":
        return communicator, ""
    problem = ""
    try:
        _import_horovod()
    except Exception as error:  # TensorFlow raises NotFoundError for a missing library, not ImportError
        problem = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    # All ranks start Horovod together, and would wait forever for a rank that cannot. So check all ranks first.
    problems = communicator.allgather(problem)
    failing = [f"rank {rank}: {text}" for rank, text in enumerate(problems) if text]
    if not failing:
        return HorovodCommunicator(communicator._world), ""
    if choice == "horovod":
        raise LaunchError(
            f"--communicator horovod cannot be used on {len(failing)} of {len(problems)} ranks ({failing[0]}). "
            "Run 'make env' to build Horovod, or leave the option out to average gradients through mpi4py"
        )
    return communicator, f"Horovod cannot be used ({failing[0]}): gradients are averaged through mpi4py"


def _import_horovod() -> Any:
    """Import Horovod for TensorFlow. Raise ImportError if it is missing or was built without MPI."""
    if importlib.util.find_spec("horovod") is None:
        raise ImportError("Horovod is not installed")
    import horovod.tensorflow as horovod

    if not horovod.mpi_built():
        raise ImportError("this Horovod was built without MPI")
    return horovod


def _cross_check(allocation: Allocation, rank: int, size: int, library: str) -> None:
    """Raise LaunchError if MPI counts other ranks than the environment."""
    if (rank, size) == (allocation.rank, allocation.size):
        return
    here = socket.gethostname()
    if size == 1:
        raise LaunchError(
            f"{here}: this rank finds itself alone, but {allocation.source} promises rank {allocation.rank} of "
            f"{allocation.size}. The MPI library here ({library}) is not that of the program that started it: use the "
            "mpirun of the same MPI, or srun with --mpi=pmix (Open MPI) or --mpi=pmi2 (MPICH, Intel MPI)",
            agreed=True,  # the other ranks are alone as well, and ranks cannot communicate without MPI
        )
    raise LaunchError(
        f"{here}: MPI ({library}) says rank {rank} of {size}, {allocation.source} says rank {allocation.rank} of "
        f"{allocation.size}; expected the same. Start the ranks with the mpirun of that MPI, without a wrapper"
    )
