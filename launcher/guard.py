"""End every rank of a job when one of them fails, and print the reason once."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping

from launcher.allocation import RANK_VARIABLES, Allocation
from launcher.errors import LaunchError
from launcher.output import console
from scaling.records import UserError

__all__ = ["abort_job", "abort_mpi", "guarded", "wait_unless_first"]

ABORT_SECONDS = 5.0
"""Time limit for MPI_Abort."""
PRINT_SECONDS = 1.0
"""Seconds that the other ranks wait for rank 0 to print an error that all ranks have."""


def guarded(allocation: Allocation, work: Callable[[], None]) -> int:
    """Run this rank's work and return its exit status. After a failure, print the reason and end all ranks.

    If the error is agreed, all ranks raise it: rank 0 prints it, and every rank ends by itself. Any other failure
    concerns this rank alone. The rank prints its number and the reason, and aborts the job, because the other ranks may
    wait for it. If several ranks fail at the same time for the same reason, each waits for a different time before it
    prints. So the first abort ends the others before they print the same message.
    """
    try:
        work()
        return 0
    except UserError as error:
        if allocation.size == 1 or error.agreed:
            if allocation.rank == 0:
                print(f"Error: {error}", file=console(), flush=True)
            else:
                # mpirun and srun end all ranks when the first one exits. Rank 0 must have printed the error by then.
                time.sleep(PRINT_SECONDS)
            return 2
        return abort_job(allocation, f"Error: {error}", 2)
    except KeyboardInterrupt:
        return abort_job(allocation, "Interrupted", 130) if allocation.size > 1 else 130
    except BaseException as error:
        if isinstance(error, SystemExit):
            raise
        return abort_job(allocation, traceback.format_exc(), 1)


def wait_unless_first(environ: Mapping[str, str]) -> bool:
    """Return True if this process should print an error that all ranks have; otherwise wait for rank 0 to print it."""
    try:
        first = Allocation.from_environment(environ).rank == 0
    except LaunchError:
        # The variables contradict each other. A process that one of them gives a number above 0 does not print.
        values = [environ.get(name, "") for name in RANK_VARIABLES]
        first = not any(value.isdecimal() and int(value) > 0 for value in values)
    if not first:
        time.sleep(PRINT_SECONDS)
    return first


def abort_job(allocation: Allocation, message: str, status: int) -> int:
    """Print why this rank failed and abort the MPI job. Return the exit status if no MPI job has to be aborted."""
    host = socket.gethostname()
    time.sleep(min(0.5 * allocation.rank, 5.0))
    print(
        f"Rank {allocation.rank} of {allocation.size} on {host} failed.\n{message}",
        file=console(),
        flush=True,
    )
    if allocation.size > 1:
        abort_mpi(status)
    return status


def abort_mpi(status: int) -> None:
    """End all ranks of the MPI job with an exit status. Return if MPI does not run. Any thread may call this."""
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is None or not mpi.Is_initialized() or mpi.Is_finalized():
        return
    # Another thread may hold a lock of the MPI. Then the end of this process makes the starter end the others.
    end = threading.Timer(ABORT_SECONDS, os._exit, [status])
    end.daemon = True
    end.start()
    mpi.COMM_WORLD.Abort(status)
