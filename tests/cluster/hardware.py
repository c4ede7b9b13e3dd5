"""Make the nodes of a bed look like another machine: its CPUs, NUMA domains and affinity.

Programs that read a node's shape (the launcher, Slurm, hwloc and with it every MPI) read /sys, and programs that bind
call the C library. So a bed mounts a generated /sys/devices/system on each node, and preloads `affinity_shim.c`, which
stores masks that this machine's kernel would refuse.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from launcher.machines import Machine
from launcher.topology import Topology
from tests.support.sysfs_trees import write_sysfs

__all__ = ["RECORDS", "build_shim", "prepare"]

SOURCE = Path(__file__).with_name("affinity_shim.c")
RECORDS = "/dev/shm/affinity"
"""Folder of the shim's records on every node."""


def build_shim(topology: Topology, library: Path, records: str = RECORDS) -> Path:
    """Compile the shim for a node of this shape and return the library."""
    macros = {"CPUS": topology.cpu_count, "DOMAINS": len(topology.domains), "RECORDS": f'"{records}"'}
    command = ["gcc", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-O2", str(SOURCE), "-o", str(library), "-ldl"]
    subprocess.run(command + [f"-D{name}={value}" for name, value in macros.items()], check=True)
    return library


def prepare(folder: Path, machine: Machine) -> None:
    """Write files into a bed's folder, from which `login.sh` and `node.sh` make nodes like the machine's nodes."""
    topology = machine.topology()
    write_sysfs(folder / "hardware", topology)
    for domain in topology.domains:
        # libnuma, which Slurm uses, also reads the free memory.
        with (folder / f"hardware/sys/devices/system/node/node{domain.id}/meminfo").open("a") as meminfo:
            meminfo.write(f"Node {domain.id} MemFree:        {domain.memory_bytes // 1024} kB\n")
    library = build_shim(topology, folder / "affinity_shim.so")
    (folder / "preload").write_text(f"{library}\n")
    (folder / "etc").mkdir()
    (folder / "etc/ld.so.preload").touch()
