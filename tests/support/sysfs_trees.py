"""Write the kernel's files for nodes of other machines, so that tests can read them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from launcher.cpulist import format_cpu_list
from launcher.topology import Topology


def mask(cpus: Sequence[int]) -> str:
    """Return CPUs as a mask in the kernel's format: hexadecimal words of 32 bits, separated by commas."""
    bits = sum(1 << cpu for cpu in cpus)
    words = [f"{bits >> shift & 0xFFFFFFFF:08x}" for shift in range(0, max(bits.bit_length(), 1), 32)]
    return ",".join(reversed(words))


def write_sysfs(root: Path, topology: Topology, *, lists: bool = True, nodes: bool = True) -> Path:
    """Write `sys` and `proc` of a node, and return `root`.

    Args:
        root: folder for `sys` and `proc`.
        topology: topology of the node.
        lists: whether to write CPU lists. Old kernels write masks only.
        nodes: whether to write the folders of the NUMA domains.
    """

    def put(path: str, text: object) -> None:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")

    def cpu_set(path: str, list_name: str, mask_name: str, cpus: Sequence[int]) -> None:
        put(f"{path}/{mask_name}", mask(cpus))
        if lists:
            # The kernel writes no strides.
            put(f"{path}/{list_name}", ",".join(map(str, cpus)))

    cpu_dir, node_dir = "sys/devices/system/cpu", "sys/devices/system/node"
    # lscpu reads sysfs only for the CPUs that this file lists.
    put("proc/cpuinfo", "\n".join(f"processor : {cpu}\nvendor_id : any\n" for cpu in topology.cpus()))
    put("proc/meminfo", f"MemTotal: {sum(d.memory_bytes for d in topology.domains) // 1024} kB")
    if lists:
        put(f"{cpu_dir}/online", format_cpu_list(topology.cpus()))
        put(f"{cpu_dir}/possible", f"0-{topology.cpus()[-1]}")
        put(f"{cpu_dir}/present", f"0-{topology.cpus()[-1]}")
    for number, core in enumerate(topology.cores):
        for cpu in core.cpus:
            folder = f"{cpu_dir}/cpu{cpu}/topology"
            put(f"{folder}/physical_package_id", core.package)
            put(f"{folder}/core_id", number)
            cpu_set(folder, "thread_siblings_list", "thread_siblings", core.cpus)
            in_package = sorted(c for other in topology.cores if other.package == core.package for c in other.cpus)
            cpu_set(folder, "core_siblings_list", "core_siblings", in_package)
    for domain in topology.domains if nodes else ():
        folder = f"{node_dir}/node{domain.id}"
        inside = sorted(cpu for core in topology.cores_of(domain.id) for cpu in core.cpus)
        cpu_set(folder, "cpulist", "cpumap", inside)
        put(f"{folder}/meminfo", f"Node {domain.id} MemTotal:       {domain.memory_bytes // 1024} kB")
        put(f"{folder}/distance", " ".join(map(str, domain.distances)))
    return root
