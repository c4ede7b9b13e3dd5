"""What the kernel's files say about CPUs and NUMA domains, read from this machine or from a copy of
another's files.

The files differ by age and by machine: masks without lists, offline CPUs with or without a topology, no
NUMA directory. That is hidden here; what the numbers mean together is left to `launcher.topology`. Every
function takes the root directory under which `sys` and `proc` are found.
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
    """CPUs that run. Raises LaunchError where none is listed."""
    present = _numbered(root / CPUS, "cpu")
    if not present:
        raise LaunchError(f"{root / CPUS} does not list any CPU; expected Linux with /sys mounted, or a copy of one")
    if online := _text(root / CPUS / "online"):
        return tuple(cpu for cpu in parse_cpu_list(online) if cpu in set(present))
    # Without the list: an offline CPU says so, or has lost its topology while others have theirs.
    running = [cpu for cpu in present if _text(root / CPUS / f"cpu{cpu}/online") != "0"]
    described = [cpu for cpu in running if (root / CPUS / f"cpu{cpu}/topology").is_dir()]
    return tuple(described or running)


def sibling_cpus(root: Path, cpu: int) -> tuple[int, ...]:
    """The hardware threads of this CPU's core, offline ones too; only itself where nobody says."""
    folder = root / CPUS / f"cpu{cpu}/topology"
    for name in ("core_cpus", "thread_siblings"):
        if siblings := _cpus_in(folder, f"{name}_list", name):
            return siblings
    return (cpu,)


def package_of_cpu(root: Path, cpu: int) -> int:
    """The physical package; 0 where it is not known, which virtual machines report as -1."""
    text = _text(root / CPUS / f"cpu{cpu}/topology/physical_package_id")
    return int(text) if text.isdecimal() else 0


def domain_ids(root: Path) -> tuple[int, ...]:
    """NUMA domains, those without cores included; none on kernels without NUMA."""
    return _numbered(root / NODES, "node")


def domain_cpus(root: Path, domain: int) -> tuple[int, ...]:
    """The CPUs of a NUMA domain; none for memory-only domains."""
    return _cpus_in(root / NODES / f"node{domain}", "cpulist", "cpumap")


def distances(root: Path, domain: int) -> tuple[int, ...]:
    """The kernel's distances from a domain to all domains; none where it does not say."""
    return tuple(int(number) for number in _text(root / NODES / f"node{domain}/distance").split())


def memory_bytes(root: Path, domain: int | None = None) -> int:
    """Memory of a domain, or of the whole machine; 0 where there is none or it is not known."""
    file = root / "proc/meminfo" if domain is None else root / NODES / f"node{domain}/meminfo"
    match = re.search(r"MemTotal:\s*([0-9]+) kB", _text(file))
    return 1024 * int(match[1]) if match else 0


def cgroup_cpus(root: Path) -> tuple[int, ...] | None:
    """The cpuset of this process's control group, version 2 or 1; None where there is none to see."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        version2 = controllers == ""
        if not version2 and "cpuset" not in controllers.split(","):
            continue
        mounts = ("sys/fs/cgroup", "sys/fs/cgroup/unified") if version2 else ("sys/fs/cgroup/cpuset",)
        names = ("cpuset.cpus.effective",) if version2 else ("cpuset.effective_cpus", "cpuset.cpus")
        # Inside a container the path may lead above the mounted part.
        inside = Path(*(part for part in path.split("/") if part not in ("", "..")))
        # A group without the controller has the cpuset of the nearest group above that has it.
        for group in (inside, *inside.parents):
            for file in (root / mount / group / name for mount in mounts for name in names):
                if text := _text(file):
                    return parse_cpu_list(text)
    return None


def _cpus_in(folder: Path, list_name: str, mask_name: str) -> tuple[int, ...]:
    """CPUs from the list file of a folder, or from its mask file: old kernels have masks only."""
    if text := _text(folder / list_name):
        return parse_cpu_list(text)
    mask = _text(folder / mask_name).replace(",", "")
    bits = int(mask, 16) if mask else 0
    return tuple(cpu for cpu in range(bits.bit_length()) if bits >> cpu & 1)


def _numbered(folder: Path, prefix: str) -> tuple[int, ...]:
    names = os.listdir(folder) if folder.is_dir() else []
    matches = (re.fullmatch(rf"{prefix}([0-9]+)", name) for name in names)
    return tuple(sorted(int(match[1]) for match in matches if match))


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
