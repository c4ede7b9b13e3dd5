"""Bind a process to its cores and its memory, and read the binding back from the kernel.

`launcher.placement` computes a placement for a whole node. Only this module changes the CPU masks and the memory policy
of a process.
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

from launcher.cpulist import format_cpu_list
from launcher.errors import LaunchError
from launcher.placement import Placement, WorkerPlacement, place
from launcher.topology import Topology, restrict

__all__ = ["Decision", "ThreadMasks", "bind", "decide", "given_cpus", "memory_policy", "prefer_memory", "thread_masks"]

# Numbers of the system calls set_mempolicy and get_mempolicy, by processor architecture.
_SET_MEMPOLICY = {"x86_64": 238, "aarch64": 237, "ppc64le": 261}
_GET_MEMPOLICY = {"x86_64": 239, "aarch64": 236, "ppc64le": 260}

# The kernel's memory policies by number (MPOL_* in linux/mempolicy.h), and the number of "preferred".
_POLICIES = ("default", "preferred", "bind", "interleave", "local", "preferred-many", "weighted-interleave")
_PREFERRED = 1

# A set of NUMA domains as the two system calls take it: one bit for each domain, in machine words.
_MAX_DOMAINS = 1024
_WORD_BITS = 8 * ctypes.sizeof(ctypes.c_ulong)
_DomainMask = ctypes.c_ulong * (_MAX_DOMAINS // _WORD_BITS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """Result of `decide`: whether the workers of a node keep their CPU masks, and a placement for the other case."""

    placement: Placement
    """Placement of all workers of the node, within the CPUs that the job has here."""
    keep: bool
    """True if MPI or Slurm has already bound the workers to masks that are as good as the placement."""


@dataclass(frozen=True, slots=True)
class ThreadMasks:
    """The CPU masks of all threads of a process."""

    masks: dict[int, frozenset[int]]
    """CPUs that each thread may run on, by thread id."""

    def outside(self, cpus: frozenset[int]) -> int:
        """Return the number of threads that may run on other CPUs too."""
        return sum(not mask <= cpus for mask in self.masks.values())


def given_cpus(masks: Sequence[frozenset[int]], launched_by_mpirun: bool, topology: Topology) -> frozenset[int]:
    """Return the CPUs that the job has on this node: all CPUs in the workers' masks.

    By default Open MPI binds each of two ranks to one core, even on a node with more cores. Under an mpirun the result
    therefore includes the mask of the parent process, because the parent has the mask of mpirun itself.

    Args:
        masks: CPU masks of the node's workers.
        launched_by_mpirun: whether an mpirun started this process.
        topology: topology of the node.
    """
    cpus = frozenset().union(*masks)
    if launched_by_mpirun:
        with suppress(OSError):
            cpus |= os.sched_getaffinity(os.getppid())
    return cpus & frozenset(topology.cpus())


def decide(topology: Topology, masks: Sequence[frozenset[int]], job_cpus: frozenset[int]) -> Decision:
    """Decide whether the workers keep the CPU masks that they started with, or get the placement on `job_cpus`.

    They keep the masks if no two overlap, none extends over several NUMA domains, and none has fewer cores than the
    placement gives to a worker.

    Args:
        topology: topology of the node.
        masks: CPU masks of the node's workers, by local rank.
        job_cpus: CPUs that the job has on this node.
    """
    placement = place(restrict(topology, job_cpus), len(masks))
    share = min(worker.cores for worker in placement.workers)
    domain_of = {cpu: core.domain for core in topology.cores for cpu in core.cpus}
    disjoint = sum(map(len, masks)) == len(frozenset().union(*masks))
    in_one_domain = all(len({domain_of.get(cpu) for cpu in mask}) == 1 for mask in masks)
    enough = in_one_domain and all(restrict(topology, mask).core_count >= share for mask in masks)
    return Decision(placement=placement, keep=disjoint and enough and not placement.shared)


def bind(worker: WorkerPlacement, domains: int) -> str:
    """Bind all threads of this process to a worker's CPUs, and its memory to the worker's NUMA domain.

    Threads that start later inherit both. When the domain is full, memory comes from other domains. With strict
    binding, the kernel would kill the process.

    Args:
        worker: the worker of this process.
        domains: number of NUMA domains of the node. With one domain the memory policy stays as it is.

    Returns:
        "launcher", the binder's name in reports.

    Raises:
        LaunchError: the kernel refuses the CPU mask.
    """
    cpus = frozenset(worker.cpus)
    try:
        for thread in _threads():
            with suppress(ProcessLookupError):
                os.sched_setaffinity(thread, cpus)
    except OSError as error:
        raise LaunchError(
            f"the kernel refuses CPUs {format_cpu_list(cpus)} for local rank {worker.local_rank} ({error}). Expected "
            "CPUs that the job's control group allows: let Slurm or MPI bind the ranks, and use --bind none"
        ) from error
    if domains > 1 and worker.memory_domain is not None:
        prefer_memory(worker.memory_domain)
    return "launcher"


def prefer_memory(domain: int) -> None:
    """Allocate memory of this thread, and of threads that it starts, in one NUMA domain until that domain is full.

    This is a direct system call, because a node may not have libnuma. The call has not changed since Linux 2.6. On an
    unknown processor architecture the function does nothing.

    Raises:
        OSError: the kernel refuses the call, as in some containers.
    """
    number = _SET_MEMPOLICY.get(platform.machine())
    if number is None:
        return
    mask = _DomainMask()
    mask[domain // _WORD_BITS] = 1 << (domain % _WORD_BITS)
    _system_call(number, ctypes.c_int(_PREFERRED), ctypes.byref(mask), ctypes.c_ulong(_MAX_DOMAINS))


def memory_policy() -> str:
    """Return the kernel's memory policy for this thread, such as "preferred:1"; "unknown" if it cannot be read."""
    number = _GET_MEMPOLICY.get(platform.machine())
    if number is None:
        return "unknown"
    mode = ctypes.c_int()
    mask = _DomainMask()
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
    domains = [
        index * _WORD_BITS + bit for index, word in enumerate(mask) for bit in range(_WORD_BITS) if word >> bit & 1
    ]
    name = _POLICIES[mode.value] if mode.value < len(_POLICIES) else str(mode.value)
    return name if not domains else f"{name}:{','.join(map(str, domains))}"


def thread_masks() -> ThreadMasks:
    """Read the CPU masks of all threads of this process from the kernel."""
    masks = {}
    for thread in _threads():
        with suppress(ProcessLookupError):
            masks[thread] = frozenset(os.sched_getaffinity(thread))
    return ThreadMasks(masks)


def _threads() -> list[int]:
    """Return the ids of all threads of this process."""
    return [int(path.name) for path in Path("/proc/self/task").iterdir()]


def _system_call(number: int, *arguments: object) -> None:
    """Make a system call. Do nothing on a kernel without it.

    Raises:
        OSError: the kernel refuses the call.
    """
    library = ctypes.CDLL(None, use_errno=True)
    if library.syscall(ctypes.c_long(number), *arguments) != 0:
        code = ctypes.get_errno()
        if code != errno.ENOSYS:
            raise OSError(code, os.strerror(code))
