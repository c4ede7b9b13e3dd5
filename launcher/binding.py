"""Makes the placement so and reads back what came of it: CPU masks of all threads, memory policy.

What a worker should get is decided in `placement`; this is the only module that changes a process's binding.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import LaunchError
from launcher.placement import Placement, WorkerPlacement, place
from launcher.topology import Topology, restrict

__all__ = ["Decision", "ThreadMasks", "bind", "decide", "given_cpus", "memory_policy", "thread_masks"]

_SET_MEMPOLICY = {"x86_64": 238, "aarch64": 237, "ppc64le": 261}
_GET_MEMPOLICY = {"x86_64": 239, "aarch64": 236, "ppc64le": 260}
_POLICIES = ("default", "preferred", "bind", "interleave", "local", "preferred-many", "weighted-interleave")
_PREFERRED = 1
_MAX_DOMAINS = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What one worker of a node is to do about its binding."""

    placement: Placement
    """Of all workers of the node, on the CPUs that the job has here."""
    keep: bool
    """True where MPI or Slurm has given every worker a share that is as good."""
    given: frozenset[int]
    """CPUs that the job has on this node."""


@dataclass(frozen=True, slots=True)
class ThreadMasks:
    """CPU masks of a process's threads, by thread id."""

    masks: dict[int, frozenset[int]]

    def outside(self, cpus: frozenset[int]) -> int:
        """Number of threads that may run elsewhere."""
        return sum(not mask <= cpus for mask in self.masks.values())


def given_cpus(masks: Sequence[frozenset[int]], launched_by_mpirun: bool, topology: Topology) -> frozenset[int]:
    """The CPUs that the job has on this node: the union of its workers' masks.

    Open MPI binds each of two ranks to one core where nothing is said, whatever the node has. So under an mpirun the
    mask of the process that started the rank counts too: it is what mpirun itself was given.
    """
    given = frozenset().union(*masks)
    if launched_by_mpirun:
        with suppress(OSError):
            given |= os.sched_getaffinity(os.getppid())
    return given & frozenset(topology.cpus())


def decide(topology: Topology, masks: Sequence[frozenset[int]], given: frozenset[int]) -> Decision:
    """Keep the masks the workers came with where they are proper shares, else place the workers on `given`.

    A share is proper where no two overlap, none reaches over a NUMA domain's border, and none is smaller than the
    equal share that the placement gives.

    Args:
        topology: of the node.
        masks: of the node's workers by local rank.
        given: CPUs that the job has here.
    """
    placement = place(restrict(topology, given), len(masks))
    share = min(worker.cores for worker in placement.workers)
    domains = {cpu: core.domain for core in topology.cores for cpu in core.cpus}
    disjoint = sum(map(len, masks)) == len(frozenset().union(*masks))
    inside = all(len({domains.get(cpu) for cpu in mask}) == 1 for mask in masks)
    enough = all(restrict(topology, mask).core_count >= share for mask in masks) if inside else False
    shared = any(worker.shared for worker in placement.workers)
    return Decision(placement=placement, keep=disjoint and inside and enough and not shared, given=given)


def bind(worker: WorkerPlacement, domains: int) -> str:
    """Bind all threads of this process to the worker's CPUs and its memory to its domain; says by whom it is bound.

    Threads started later inherit both. Memory comes from the domain first and from elsewhere when it is full: a bound
    process would be killed there instead.

    Raises:
        LaunchError: the kernel refuses the mask.
    """
    wanted = frozenset(worker.cpus)
    try:
        for thread in _threads():
            with suppress(ProcessLookupError):
                os.sched_setaffinity(thread, wanted)
    except OSError as error:
        raise LaunchError(
            f"the kernel refuses CPUs {sorted(wanted)} to local rank {worker.local_rank} ({error}); the job's cgroup "
            "holds it to others. Let Slurm or MPI bind the ranks and use --bind none"
        ) from error
    if domains > 1 and worker.memory_domain is not None:
        prefer_memory(worker.memory_domain)
    return "launcher"


def prefer_memory(domain: int) -> None:
    """Take this thread's memory, and that of threads it starts, from a NUMA domain while it has some.

    The system call itself: it has been the same since Linux 2.6, where libnuma need not be installed on a node.
    """
    number = _SET_MEMPOLICY.get(platform.machine())
    if number is None:
        return
    bits = ctypes.c_ulong * (_MAX_DOMAINS // (8 * ctypes.sizeof(ctypes.c_ulong)))
    mask = bits()
    width = 8 * ctypes.sizeof(ctypes.c_ulong)
    mask[domain // width] = 1 << (domain % width)
    _system_call(number, ctypes.c_int(_PREFERRED), ctypes.byref(mask), ctypes.c_ulong(_MAX_DOMAINS))


def memory_policy() -> str:
    """The memory policy of this thread as the kernel tells it, such as `preferred:1`, `default` or `unknown`."""
    number = _GET_MEMPOLICY.get(platform.machine())
    if number is None:
        return "unknown"
    mode = ctypes.c_int()
    width = 8 * ctypes.sizeof(ctypes.c_ulong)
    mask = (ctypes.c_ulong * (_MAX_DOMAINS // width))()
    try:
        _system_call(
            number,
            ctypes.byref(mode),
            ctypes.byref(mask),
            ctypes.c_ulong(_MAX_DOMAINS),
            None,
            ctypes.c_ulong(0),
        )
    except OSError:
        return "unknown"
    domains = [word * width + bit for word, bits in enumerate(mask) for bit in range(width) if bits >> bit & 1]
    name = _POLICIES[mode.value] if mode.value < len(_POLICIES) else str(mode.value)
    return name if not domains else f"{name}:{','.join(map(str, domains))}"


def thread_masks() -> ThreadMasks:
    """Read the masks of all threads of this process from the kernel."""
    masks = {}
    for thread in _threads():
        with suppress(ProcessLookupError):
            masks[thread] = frozenset(os.sched_getaffinity(thread))
    return ThreadMasks(masks)


def _threads() -> list[int]:
    return [int(path.name) for path in Path("/proc/self/task").iterdir()]


def _system_call(number: int, *arguments: object) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.syscall(ctypes.c_long(number), *arguments) != 0:
        code = ctypes.get_errno()
        if code != errno.ENOSYS:
            raise OSError(code, os.strerror(code))
