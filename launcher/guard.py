"""Ends every rank of a job when one of them fails, and says why, once."""

from __future__ import annotations

import socket
import sys
import time
import traceback
from collections.abc import Callable

from launcher.allocation import Allocation
from launcher.output import console
from scaling.records import UserError

__all__ = ["guarded"]

FIRST_SPEAKS = 1.0
"""Seconds that the others leave to rank 0 for an error that all ranks have."""


def guarded(allocation: Allocation, work: Callable[[], None]) -> int:
    """Run this rank's work and return its exit status; where it fails alone, end all ranks and say why, once.

    An agreed error is raised by every rank: rank 0 speaks and all end by themselves. Any other failure is this rank's
    own: it names itself and aborts the job, because the others may be waiting for it. Ranks that fail of the same
    cause at the same time speak in turn, so that the first one's abort silences the rest.
    """
    try:
        work()
        return 0
    except UserError as error:
        if allocation.size == 1 or error.agreed:
            if allocation.rank == 0:
                print(f"Error: {error}", file=console(), flush=True)
            else:
                # The starter ends all ranks when the first one exits: rank 0 must have spoken by then.
                time.sleep(FIRST_SPEAKS)
            return 2
        return _abort(allocation, f"Error: {error}", 2)
    except KeyboardInterrupt:
        return _abort(allocation, "Interrupted", 130) if allocation.size > 1 else 130
    except BaseException as error:
        if isinstance(error, SystemExit):
            raise
        return _abort(allocation, traceback.format_exc(), 1)


def _abort(allocation: Allocation, message: str, status: int) -> int:
    host = socket.gethostname()
    time.sleep(min(0.5 * allocation.rank, 5.0))
    print(
        f"Rank {allocation.rank} of {allocation.size} on {host} failed.\n{message}",
        file=console(),
        flush=True,
    )
    mpi = sys.modules.get("mpi4py.MPI")
    if allocation.size > 1 and mpi is not None and mpi.Is_initialized() and not mpi.Is_finalized():
        mpi.COMM_WORLD.Abort(status)
    return status
