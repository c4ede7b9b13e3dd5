"""The choice between the workers' masks and a new placement, and bindings as the kernel reports them."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from launcher.binding import decide, given_cpus, memory_policy, thread_masks
from launcher.topology import Core, Domain, Topology
from tests.support.environment import ROOT


def node(packages: int = 2, cores: int = 24) -> Topology:
    """Return a node like those of Stampede2: CPU numbers alternate between packages, second threads come last."""
    total = packages * cores
    return Topology(
        cores=tuple(
            Core(package=p, domain=p, cpus=(packages * i + p, packages * i + p + total))
            for p in range(packages)
            for i in range(cores)
        ),
        domains=tuple(Domain(id=p, package=p, memory_bytes=96 << 30, distances=()) for p in range(packages)),
    )


SKX = node()
ALL = frozenset(SKX.cpus())


def share(rank: int) -> frozenset[int]:
    """Return the CPUs that the placement gives to one of four workers."""
    return frozenset(decide(SKX, [ALL] * 4, ALL).placement.workers[rank].cpus)


def test_unbound_workers_are_placed_two_in_each_domain() -> None:
    decision = decide(SKX, [ALL] * 4, ALL)
    assert not decision.keep
    assert [worker.domain for worker in decision.placement.workers] == [0, 0, 1, 1]
    assert [worker.cores for worker in decision.placement.workers] == [12] * 4


def test_good_masks_are_kept_in_any_order() -> None:
    assert decide(SKX, [share(rank) for rank in (2, 0, 3, 1)], ALL).keep


@pytest.mark.parametrize(
    ("masks", "why"),
    [
        ([share(0), share(0), share(2), share(3)], "two workers share cores"),
        (
            [frozenset(range(r * 12, r * 12 + 12)) | frozenset(range(48 + r * 12, 60 + r * 12)) for r in range(4)],
            "every mask extends over both domains",
        ),
        ([frozenset({2 * r, 2 * r + 48}) for r in range(4)], "each worker has 1 of 48 cores"),
    ],
)
def test_bad_masks_are_replaced(masks: list[frozenset[int]], why: str) -> None:
    decision = decide(SKX, masks, ALL)
    assert not decision.keep, why
    assert sum(worker.cores for worker in decision.placement.workers) == 48


def test_the_placement_stays_within_the_cpus_of_the_job() -> None:
    half = frozenset(cpu for cpu in ALL if cpu % 48 < 24)
    decision = decide(SKX, [half] * 2, half)
    assert {cpu for worker in decision.placement.workers for cpu in worker.cpus} == half
    assert [worker.cores for worker in decision.placement.workers] == [12, 12]


def test_the_mask_of_the_parent_counts_only_under_mpirun() -> None:
    here = frozenset(os.sched_getaffinity(0))
    machine = Topology(
        cores=tuple(Core(package=0, domain=0, cpus=(cpu,)) for cpu in sorted(here)),
        domains=(Domain(id=0, package=0, memory_bytes=1, distances=()),),
    )
    one = frozenset({min(here)})
    assert given_cpus([one], False, machine) == one
    assert given_cpus([one], True, machine) == one | frozenset(os.sched_getaffinity(os.getppid()))


BIND_AND_PRINT = """
import json, os, threading
from launcher.binding import bind, memory_policy, prefer_memory, thread_masks
from launcher.placement import WorkerPlacement
waiting = threading.Event()
threading.Thread(target=waiting.wait, daemon=True).start()
cpu = min(os.sched_getaffinity(0))
by = bind(WorkerPlacement(local_rank=0, domain=0, memory_domain=0, cpus=(cpu,), cores=1), domains=1)
threading.Thread(target=waiting.wait, daemon=True).start()
prefer_memory(0)
masks = thread_masks()
each = [sorted(mask) for mask in masks.masks.values()]
print(json.dumps([by, cpu, each, masks.outside(frozenset({cpu})), memory_policy()]))
"""


def test_bind_covers_earlier_and_later_threads_and_sets_the_memory_policy() -> None:
    done = subprocess.run([sys.executable, "-c", BIND_AND_PRINT], cwd=ROOT, capture_output=True, text=True, check=True)
    by, cpu, masks, outside, policy = json.loads(done.stdout)
    assert (by, outside) == ("launcher", 0)
    assert masks == [[cpu]] * 3
    assert policy in ("preferred:0", "unknown")


def test_threads_outside_a_mask_are_counted() -> None:
    masks = thread_masks()
    here = frozenset(os.sched_getaffinity(0))
    assert masks.outside(here) == 0
    assert masks.outside(frozenset()) == len(masks.masks) >= 1
    assert memory_policy() == "unknown" or memory_policy().startswith(
        ("default", "preferred", "bind", "interleave", "local")
    )
