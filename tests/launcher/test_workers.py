"""The usual number of workers per node."""

from __future__ import annotations

from launcher.machines import load_machine
from launcher.tuned import Tuned
from launcher.workers import DEFAULT_WORKERS_PER_NODE, usual_workers_per_node


def test_machine_wins_over_tuned_settings_and_these_over_the_default() -> None:
    machine = load_machine("stampede3-spr")
    tuned = Tuned(workers_per_node=3, inter_op=1, intra_op=1, ratio=1.0, measured="")
    assert machine.workers_per_node not in (3, DEFAULT_WORKERS_PER_NODE)
    assert usual_workers_per_node(machine, tuned) == machine.workers_per_node
    assert usual_workers_per_node(None, tuned) == 3
    assert usual_workers_per_node(None, None) == DEFAULT_WORKERS_PER_NODE
