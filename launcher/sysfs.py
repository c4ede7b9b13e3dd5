"""Read CPUs and NUMA domains from the kernel's files, either this machine's files or a copy of another machine's.

The files differ between kernels and between machines: there may be CPU masks without lists, offline CPUs with or
without a topology, or no folder for NUMA domains. This module hides the differences; `launcher.topology` combines the
numbers. Every function takes `root`, the folder that holds `sys` and `proc`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from launcher.cpulist import parse_cpu_list
from launcher.errors import LaunchError

__all__ = [
    "cgroup_cpus",
    "distances",
    "domain_cpus",
    "domain_ids",
    "memory_bytes",
    "online_cpus",
    "package_of_cpu",
    "sibling_cpus",
]

CPUS = "sys/devices/system/cpu"
NODES = "sys/devices/system/node"


def online_cpus(root: Path) -> tuple[int, ...]:
    """Return the online CPUs, ascending.

    Raises:
        LaunchError: the files list no CPU.
    """
    present = _numbered(root / CPUS, "cpu")
    if not present:
        raise LaunchError(
            f"{root / CPUS} does not list any CPU. Expected the files of a Linux kernel: mount /sys, or give a folder "
            "with a copy of a node's sys and proc"
        )
    if online := _text(root / CPUS / "online"):
        return tuple(cpu for cpu in parse_cpu_list(online) if cpu in set(present))
    # Without the list, an offline CPU has a 0 in its own file, or no topology while other CPUs have one.
    running = [cpu for cpu in present if _text(root / CPUS / f"cpu{cpu}/online") != "0"]
    described = [cpu for cpu in running if (root / CPUS / f"cpu{cpu}/topology").is_dir()]
    return tuple(described or running)


def sibling_cpus(root: Path, cpu: int) -> tuple[int, ...]:
    """Return the hardware threads of a CPU's core, including offline ones; only the CPU if no file lists them."""
    folder = root / CPUS / f"cpu{cpu}/topology"
    for name in ("core_cpus", "thread_siblings"):
        if siblings := _cpus_in(folder, f"{name}_list", name):
            return siblings
    return (cpu,)


def package_of_cpu(root: Path, cpu: int) -> int:
    """Return the number of a CPU's package (processor socket); 0 if it is unknown (-1 on virtual machines)."""
    text = _text(root / CPUS / f"cpu{cpu}/topology/physical_package_id")
    return int(text) if text.isdecimal() else 0


def domain_ids(root: Path) -> tuple[int, ...]:
    """Return the ids of all NUMA domains, including domains without cores; empty on a kernel without NUMA."""
    return _numbered(root / NODES, "node")


def domain_cpus(root: Path, domain: int) -> tuple[int, ...]:
    """Return the CPUs of a NUMA domain; empty for a memory-only domain."""
    return _cpus_in(root / NODES / f"node{domain}", "cpulist", "cpumap")


def distances(root: Path, domain: int) -> tuple[int, ...]:
    """Return the kernel's relative distances from a domain to all domains, ordered by id; empty if unknown."""
    return tuple(int(number) for number in _text(root / NODES / f"node{domain}/distance").split())


def memory_bytes(root: Path, domain: int | None = None) -> int:
    """Return the memory of a domain, or of the whole node for None, in bytes; 0 if there is none or it is unknown."""
    file = root / "proc/meminfo" if domain is None else root / NODES / f"node{domain}/meminfo"
    match = re.search(r"MemTotal:\s*([0-9]+) kB", _text(file))
    return 1024 * int(match[1]) if match else 0


def cgroup_cpus(root: Path) -> tuple[int, ...] | None:
    """Return the cpuset of this process's control group (version 1 or 2); None if no file gives one."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        version2 = controllers == ""
        if not version2 and "cpuset" not in controllers.split(","):
            continue
        mounts = ("sys/fs/cgroup", "sys/fs/cgroup/unified") if version2 else ("sys/fs/cgroup/cpuset",)
        names = ("cpuset.cpus.effective",) if version2 else ("cpuset.effective_cpus", "cpuset.cpus")
        # In a container the path may lead out of the mounted part of the tree, with "..".
        inside = Path(*(part for part in path.split("/") if part not in ("", "..")))
        # A group without the cpuset controller has the cpuset of its nearest parent with one.
        for group in (inside, *inside.parents):
            for file in (root / mount / group / name for mount in mounts for name in names):
                if text := _text(file):
                    return parse_cpu_list(text)
    return None


def _cpus_in(folder: Path, list_name: str, mask_name: str) -> tuple[int, ...]:
    """Return the CPUs in the list file of a folder, else those in its mask file: old kernels write masks only."""
    if text := _text(folder / list_name):
        return parse_cpu_list(text)
    mask = _text(folder / mask_name).replace(",", "")
    bits = int(mask, 16) if mask else 0
    return tuple(cpu for cpu in range(bits.bit_length()) if bits >> cpu & 1)


def _numbered(folder: Path, prefix: str) -> tuple[int, ...]:
    """Return the numbers after `prefix` in the names of a folder's entries, ascending; empty without the folder."""
    names = os.listdir(folder) if folder.is_dir() else []
    matches = (re.fullmatch(rf"{prefix}([0-9]+)", name) for name in names)
    return tuple(sorted(int(match[1]) for match in matches if match))


def _text(path: Path) -> str:
    """Return the content of a file without outer white space; empty if it cannot be read."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
