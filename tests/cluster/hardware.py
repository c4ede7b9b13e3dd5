"""Makes the nodes of a bed look like those of a machine that is not here: its CPUs and NUMA domains, its affinity.

Everything that reads a node's shape (the launcher, Slurm, hwloc and with it every MPI) reads /sys; everything that
binds goes through the C library. So a bed lays a generated /sys/devices/system over the node's, and preloads
`affinity_shim.c`, which keeps the masks that this machine's kernel would refuse.
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
"""Where the shim keeps its records on every node."""


def build_shim(topology: Topology, library: Path, records: str = RECORDS) -> Path:
    """Compile the shim for a node of this shape; returns the library."""
    macros = {"CPUS": topology.cpu_count, "DOMAINS": len(topology.domains), "RECORDS": f'"{records}"'}
    command = ["gcc", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-O2", str(SOURCE), "-o", str(library), "-ldl"]
    subprocess.run(command + [f"-D{name}={value}" for name, value in macros.items()], check=True)
    return library


def prepare(folder: Path, machine: Machine) -> None:
    """Write what `login.sh` and `node.sh` look for in a bed's folder when its nodes are to look like a machine's."""
    topology = machine.topology()
    write_sysfs(folder / "hardware", topology)
    for domain in topology.domains:
        # libnuma, and Slurm with it, also wants to know how much is free.
        with (folder / f"hardware/sys/devices/system/node/node{domain.id}/meminfo").open("a") as meminfo:
            meminfo.write(f"Node {domain.id} MemFree:        {domain.memory_bytes // 1024} kB\n")
    library = build_shim(topology, folder / "affinity_shim.so")
    (folder / "preload").write_text(f"{library}\n")
    (folder / "etc").mkdir()
    (folder / "etc/ld.so.preload").touch()
