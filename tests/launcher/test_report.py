"""The placement report: it shows all workers, equal nodes only once, and warnings about faults."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from launcher.cpulist import parse_cpu_list
from launcher.report import WorkerReport, placement_warnings, render

NODE = tuple(range(96))
CPUS = ("0-22:2,48-70:2", "24-46:2,72-94:2", "1-23:2,49-71:2", "25-47:2,73-95:2")


def worker(rank: int, host: str = "c1", **changes: Any) -> WorkerReport:
    local = rank % 4
    base = WorkerReport(
        rank=rank, local_rank=local, host=host, cpus=parse_cpu_list(CPUS[local]), cores=12, domains=(local // 2,),
        memory=f"preferred:{local // 2}", threads=40, threads_outside=0, inter_op=2, intra_op=11, bound_by="launcher",
        node_cpus=NODE,
    )  # fmt: skip
    return replace(base, **changes)


def nodes(count: int) -> list[WorkerReport]:
    return [worker(rank, f"c{rank // 4:03d}") for rank in range(4 * count)]


def test_good_placement_has_all_workers_and_no_warning() -> None:
    reports = nodes(1)
    assert placement_warnings(reports) == []
    text = render(reports)
    for cpus in CPUS:
        assert cpus in text
    assert "4 workers on 1 node\n" in text


def test_equal_nodes_are_shown_once() -> None:
    reports = nodes(128)
    reports[5] = replace(reports[5], memory="default")
    lines = render(reports).splitlines()
    assert lines[0] == "Placement: 512 workers on 128 nodes"
    assert len(lines) == 1 + 2 * 6
    assert any(line.startswith("c000 and 126 alike: c002, c003, c004, ... c127") for line in lines)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"cpus": parse_cpu_list(CPUS[0])},
            "c1: local rank 0 and local rank 1 share 24 CPUs (0-22:2,48-70:2)",
        ),
        ({"domains": (0, 1)}, "c1: local rank 1 runs on several NUMA domains: 0, 1"),
        ({"threads_outside": 3}, "c1: local rank 1: 3 of 40 threads may leave its CPUs"),
        ({"intra_op": 24}, "c1: local rank 1 runs 24 compute threads on 12 cores"),
        (
            {"memory_bytes": 1 << 30, "remote_bytes": 1 << 28},
            "c1: local rank 1 has 25% of its 1.0 GiB of memory on other NUMA domains",
        ),
        ({"cpus": parse_cpu_list("24-44:2,72-92:2")}, "c1: CPUs 46,94 of the job's 96 are idle"),
    ],
)
def test_warning_names_host_and_worker(changes: dict[str, Any], message: str) -> None:
    reports = [worker(0), worker(1, **changes), worker(2), worker(3)]
    found = placement_warnings(reports)
    assert any(text.startswith(message) for text in found), found


def test_little_memory_elsewhere_is_no_fault() -> None:
    """5% are allowed, and so is what the interpreter needs before it is bound."""
    some: list[dict[str, Any]] = [
        {"memory_bytes": 1 << 30, "remote_bytes": 53 << 20},
        {"memory_bytes": 100 << 20, "remote_bytes": 60 << 20},
    ]
    for changes in some:
        assert placement_warnings([worker(0), worker(1, **changes), worker(2), worker(3)]) == []


def test_same_fault_on_many_nodes_is_one_warning() -> None:
    reports = [replace(report, intra_op=24) if report.local_rank == 0 else report for report in nodes(32)]
    assert placement_warnings(reports) == [
        "c000 and 31 nodes like it: local rank 0 runs 24 compute threads on 12 cores"
    ]


def test_report_as_values_for_the_record() -> None:
    plain = worker(1).as_dict()
    assert plain["cpus"] == CPUS[1]
    assert plain["node_cpus"] == "0-95"
