"""Check the machine itself: processor, cores, limits, shared memory, batch system.

Each check takes its numbers as arguments, so that tests can pass the numbers of any machine. `machine_checks` reads the
numbers of this machine. `launcher.doctor` checks the libraries.
"""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from launcher import sysfs

__all__ = ["Check", "Status", "machine_checks"]

Status = Literal["ok", "warn", "fail", "info"]

LEAST_SHARED_MEMORY = 256 * 2**20
"""Required size of /dev/shm in bytes. Docker's 64 MB are too little for Open MPI and Intel MPI with a few ranks."""
LEAST_FILES = 1024
"""Required limit of open files. A rank opens libraries, its HDF5 files, and one or two sockets for each rank that it
exchanges data with."""
LEAST_PROCESSES = 4096
"""Required limit of processes. Threads count too: TensorFlow starts a few threads per core in every rank."""
LEAST_LOCKED_MEMORY = 64 * 2**20
"""Required limit of locked memory in bytes. InfiniBand and Omni-Path drivers lock far more than the usual 8 MB."""
LEAST_STACK = 8 * 2**20
"""Required stack limit in bytes: the usual default. Compiled kernels and OpenMP put work arrays on the stack."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """Result of one check."""

    name: str
    """Name of the part that was checked, one or two words."""
    status: Status
    """Result: ok, warn (training works, but not at its best), fail (training cannot work) or info (a fact only)."""
    detail: str
    """What the check found, on one line."""
    remedy: str = ""
    """What to do; empty for ok and info."""


def machine_checks(environ: Mapping[str, str], root: Path = Path("/")) -> list[Check]:
    """Check this machine. `root` is the folder with its `sys`, `proc` and `dev`."""
    limits = {
        name: resource.getrlimit(number)[0]
        for name, number in (
            ("open files", resource.RLIMIT_NOFILE),
            ("processes", resource.RLIMIT_NPROC),
            ("locked memory", resource.RLIMIT_MEMLOCK),
            ("stack", resource.RLIMIT_STACK),
        )
    }
    fabric = any((root / "sys/class" / name).is_dir() for name in ("infiniband", "hfi1"))
    shared = root / "dev/shm"
    programs = [name for name in ("ibrun", "srun", "sbatch") if shutil.which(name, path=environ.get("PATH"))]
    return [
        check_processor((root / "proc/cpuinfo").read_text(errors="replace")),
        check_cores(sorted(os.sched_getaffinity(0)), len(sysfs.online_cpus(root)), cpu_quota(root)),
        check_limits(limits, fabric=fabric),
        check_shared_memory(shutil.disk_usage(shared) if shared.is_dir() else None),
        check_batch_system(environ, programs),
    ]


def check_processor(cpuinfo: str) -> Check:
    """Report the name of the processor and whether it computes in BF16. `cpuinfo` is the text of /proc/cpuinfo."""
    flags = next((line.split(":", 1)[1].split() for line in cpuinfo.splitlines() if line.startswith("flags")), [])
    model = next(
        (line.split(":", 1)[1].strip() for line in cpuinfo.splitlines() if line.startswith("model name")), "unknown"
    )
    units = [flag for flag in ("avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    native = "amx_bf16" in units or "avx512_bf16" in units
    support = "BF16 in hardware" if native else "no BF16 in hardware: --precision bf16 works, but saves no time"
    return Check(name="Processor", status="info", detail=f"{model} ({', '.join(units) or 'no AVX-512'}); {support}")


def check_cores(cpus: list[int], online: int, quota: float | None) -> Check:
    """Compare the number of CPUs that this process may use with all CPUs and with the limit of its control group.

    Args:
        cpus: the CPUs that this process may use.
        online: number of CPUs of the machine.
        quota: limit of the control group in CPUs, as `cpu_quota` returns it.
    """
    detail = f"this process may use {len(cpus)} of {online} CPUs"
    if quota is not None and quota < len(cpus):
        return Check(
            name="Cores",
            status="warn",
            detail=f"{detail}, but its control group limits it to the time of {quota:g}",
            remedy="Raise the CPU limit of the container, or start no more threads than it allows.",
        )
    if len(cpus) == 1 and online > 1:
        return Check(
            name="Cores",
            status="warn",
            detail=detail,
            remedy="This process is bound to one CPU. Ask the batch system for more (Slurm: --cpus-per-task), or start "
            "it unbound (mpirun --bind-to none).",
        )
    return Check(name="Cores", status="ok", detail=detail)


def cpu_quota(root: Path) -> float | None:
    """Return the limit of this process's control group in CPUs, such as 2.5; None without a limit.

    Source: the kernel's documentation of cpu.max (version 2) and cpu.cfs_quota_us (version 1). Parent groups are
    ignored. A container usually has its own limit, and cannot see its parent groups.
    """
    groups = root / "sys/fs/cgroup"
    try:
        path = next(
            line.split(":", 2)[2]
            for line in (root / "proc/self/cgroup").read_text().splitlines()
            if line.startswith("0::")
        )
    except (OSError, StopIteration):
        path = "/"
    texts = []
    for file in (groups / path.lstrip("/") / "cpu.max", groups / "cpu.max"):
        if file.is_file():
            texts.append(file.read_text().split())
    for folder in (groups / "cpu", groups / "cpu,cpuacct"):
        if (folder / "cpu.cfs_quota_us").is_file():
            parts = [(folder / name).read_text().strip() for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")]
            texts.append(parts)
    limits = [int(quota) / int(period) for quota, period in texts if quota not in ("max", "-1")]
    return min(limits, default=None)


def check_limits(limits: Mapping[str, int], *, fabric: bool) -> Check:
    """Check the soft limits.

    Args:
        limits: number of open files and processes, bytes of locked memory and stack. RLIM_INFINITY is no limit.
        fabric: whether there is a network card that needs locked memory.
    """
    wanted = {"open files": LEAST_FILES, "processes": LEAST_PROCESSES, "stack": LEAST_STACK}
    if fabric:
        wanted["locked memory"] = LEAST_LOCKED_MEMORY
    options = {"open files": "n", "processes": "u", "stack": "s", "locked memory": "l"}
    low = [name for name, least in wanted.items() if limits[name] != resource.RLIM_INFINITY and limits[name] < least]
    detail = ", ".join(f"{name} {_amount(name, value)}" for name, value in limits.items())
    if not low:
        return Check(name="Limits", status="ok", detail=detail)
    # The unit of ulimit is KiB for memory.
    raising = "; ".join(
        f"ulimit -{options[name]} {wanted[name] // (1024 if name in ('stack', 'locked memory') else 1)}" for name in low
    )
    remedy = f"Raise the limit of {', '.join(low)} before starting: {raising} (or ask the site)."
    return Check(name="Limits", status="warn", detail=detail, remedy=remedy)


def _amount(name: str, value: int) -> str:
    if value == resource.RLIM_INFINITY:
        return "unlimited"
    return f"{value / 2**20:.0f} MB" if name in ("stack", "locked memory") else str(value)


def check_shared_memory(usage: tuple[int, int, int] | None) -> Check:
    """Check /dev/shm, through which the ranks of a node exchange data.

    Args:
        usage: total, used and free bytes; None if there is no /dev/shm.
    """
    remedy = "Start the container with --shm-size=1g, or mount the host's /dev/shm in it."
    if usage is None:
        return Check(name="/dev/shm", status="warn", detail="missing", remedy=remedy)
    total, _, free = usage
    detail = f"{free / 2**20:.0f} of {total / 2**20:.0f} MB free"
    if free < LEAST_SHARED_MEMORY:
        if total >= LEAST_SHARED_MEMORY:
            remedy = "Remove the files that crashed jobs left in /dev/shm."
        return Check(name="/dev/shm", status="warn", detail=detail, remedy=remedy)
    return Check(name="/dev/shm", status="ok", detail=detail)


def check_batch_system(environ: Mapping[str, str], programs: list[str]) -> Check:
    """Report the site, the batch system, and whether this process is in a job.

    Args:
        programs: names of the programs among ibrun, srun and sbatch that are on PATH.
    """
    site = f"TACC {environ['TACC_SYSTEM']}" if environ.get("TACC_SYSTEM") else ""
    job = f"in Slurm job {environ['SLURM_JOB_ID']}" if environ.get("SLURM_JOB_ID") else "not in a Slurm job"
    parts = [part for part in (site, job if programs or "SLURM_JOB_ID" in environ else "", ", ".join(programs)) if part]
    return Check(name="Batch system", status="info", detail="; ".join(parts) or "none found")
