"""Known machines: the shape of their nodes, how jobs start there, and the limits of their partitions.

Each machine is one TOML file in this folder. Users can write files for other machines. `description` holds what a file
says, as Python objects; `files` reads and checks the files. A file describes a node from its documentation: a run reads
the real node. `launcher.batch.script` turns the description into a job script.
"""

from __future__ import annotations

from launcher.machines.description import Machine, Node, Partition
from launcher.machines.files import load_machine, machine_names

__all__ = ["Machine", "Node", "Partition", "load_machine", "machine_names"]
