"""Known machines: the shape of their nodes, how jobs start there, and the limits of their partitions.

Each machine is one TOML file in this folder. Users can write files for other machines. `files` reads and checks them;
`description` has the classes for their content. The files repeat what a site documents about its nodes. A run does not
use these facts: it reads the real node. `launcher.batch.script` writes job scripts for a machine.
"""

from __future__ import annotations

from launcher.machines.description import Machine, Node, Partition
from launcher.machines.files import load_machine, machine_names

__all__ = ["Machine", "Node", "Partition", "load_machine", "machine_names"]
