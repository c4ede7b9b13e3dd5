"""The default number of workers per node."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from launcher.machines import Machine
    from launcher.tuned import Tuned

__all__ = ["DEFAULT_WORKERS_PER_NODE", "usual_workers_per_node"]

DEFAULT_WORKERS_PER_NODE = 4
"""Workers per node if neither a machine nor `launcher tune` gives a number."""


def usual_workers_per_node(machine: Machine | None, tuned: Tuned | None) -> int:
    """Return the default number of workers per node: the machine's number, else the tuned number, else 4.

    Args:
        machine: the machine that the user named, if any.
        tuned: the settings that `launcher tune` measured on nodes like the one in use, if any.
    """
    source = machine or tuned
    return source.workers_per_node if source else DEFAULT_WORKERS_PER_NODE
