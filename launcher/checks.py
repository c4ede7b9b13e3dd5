"""What a check of the environment finds, and the checks of the machine itself: processor, cores, limits, memory.

Each check takes what was read and judges it, so it can be tried on the figures of any machine;
`machine_checks` reads those of this one. The libraries are checked in launcher.doctor.
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

# Docker's default of 64 MB is too little for the shared segments of Open MPI and Intel MPI with a few ranks.
SMALL_SHARED_MEMORY = 256 * 2**20
# A rank opens libraries, its HDF5 files and a socket or two for each rank it talks to.
FEW_FILES = 1024
# TensorFlow starts a few threads per core in every rank.
FEW_PROCESSES = 4096
# What an InfiniBand or Omni-Path driver pins for one rank is well above the kernel's default of 8 MB.
LITTLE_LOCKED_MEMORY = 64 * 2**20
# The usual default; compiled kernels and OpenMP put work arrays there.
SMALL_STACK = 8 * 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One finding."""

    name: str
    """What was looked at, in a word or two."""
    status: Status
    """ok; warn: training works, but not as well; fail: it can't work; info: neither good nor bad."""
    detail: str
    """What was found."""
    remedy: str = ""
    """What to do; empty for ok and info."""


def machine_checks(environ: Mapping[str, str], root: Path = Path("/")) -> list[Check]:
    """Check this machine."""
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
    """Tell whether the processor computes BF16 itself."""
    flags = next((line.split(":", 1)[1].split() for line in cpuinfo.splitlines() if line.startswith("flags")), [])
    model = next(
        (line.split(":", 1)[1].strip() for line in cpuinfo.splitlines() if line.startswith("model name")), "unknown"
    )
    units = [flag for flag in ("avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    native = "amx_bf16" in units or "avx512_bf16" in units
    speech = "BF16 in hardware" if native else "no BF16 in hardware: --precision bf16 works, but saves no time"
    return Check(name="Processor", status="info", detail=f"{model} ({', '.join(units) or 'no AVX-512'}); {speech}")


def check_cores(cpus: list[int], online: int, quota: float | None) -> Check:
    """Compare the CPUs this process may use with those of the machine and with the time its group may use."""
    detail = f"{len(cpus)} of {online} CPUs may be used"
    if quota is not None and quota < len(cpus):
        return Check(
            name="Cores",
            status="warn",
            detail=f"{detail}, but the control group allows the time of {quota:g}",
            remedy="Raise the container's CPU limit, or start no more threads than it allows.",
        )
    if len(cpus) == 1 and online > 1:
        return Check(
            name="Cores",
            status="warn",
            detail=detail,
            remedy="Something has bound this process to one CPU: ask the batch system for more (Slurm: "
            "--cpus-per-task) or start without binding (mpirun --bind-to none).",
        )
    return Check(name="Cores", status="ok", detail=detail)


def cpu_quota(root: Path) -> float | None:
    """Read how many CPUs' time the control group may use; None without a limit.

    Source: the kernel's documentation of cpu.max (version 2) and cpu.cfs_quota_us (version 1). Groups above
    this one are not looked at; in a container, where the limit usually is, they can't be seen.
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
    """Judge the soft limits, in files, processes and bytes; resource.RLIM_INFINITY is no limit.

    `fabric` tells whether there is a network card that needs locked memory.
    """
    wanted = {"open files": FEW_FILES, "processes": FEW_PROCESSES, "stack": SMALL_STACK}
    if fabric:
        wanted["locked memory"] = LITTLE_LOCKED_MEMORY
    options = {"open files": "n", "processes": "u", "stack": "s", "locked memory": "l"}
    low = [name for name, least in wanted.items() if limits[name] != resource.RLIM_INFINITY and limits[name] < least]
    detail = ", ".join(f"{name} {_amount(name, value)}" for name, value in limits.items())
    if not low:
        return Check(name="Limits", status="ok", detail=detail)
    # ulimit counts memory in KiB.
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
    """Judge total, used and free bytes of /dev/shm, through which the ranks of a node talk; None if it is missing."""
    remedy = "Give the container more: --shm-size=1g, or mount the host's /dev/shm."
    if usage is None:
        return Check(name="/dev/shm", status="warn", detail="missing", remedy=remedy)
    total, _, free = usage
    detail = f"{free / 2**20:.0f} of {total / 2**20:.0f} MB free"
    if free < SMALL_SHARED_MEMORY:
        if total >= SMALL_SHARED_MEMORY:
            remedy = "Remove what jobs that crashed have left in /dev/shm."
        return Check(name="/dev/shm", status="warn", detail=detail, remedy=remedy)
    return Check(name="/dev/shm", status="ok", detail=detail)


def check_batch_system(environ: Mapping[str, str], programs: list[str]) -> Check:
    """Tell what batch system there is and whether this is inside a job."""
    site = f"TACC {environ['TACC_SYSTEM']}" if environ.get("TACC_SYSTEM") else ""
    job = f"in Slurm job {environ['SLURM_JOB_ID']}" if environ.get("SLURM_JOB_ID") else "not in a Slurm job"
    parts = [part for part in (site, job if programs or "SLURM_JOB_ID" in environ else "", ", ".join(programs)) if part]
    return Check(name="Batch system", status="info", detail="; ".join(parts) or "none found")
