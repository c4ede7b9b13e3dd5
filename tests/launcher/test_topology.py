"""Topologies from this machine, from files of other machines and from snapshots; reading and writing of CPU lists."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher import sysfs
from launcher.cpulist import format_cpu_list, parse_cpu_list
from launcher.errors import LaunchError
from launcher.machines import load_machine
from launcher.topology import (
    Core,
    Domain,
    Topology,
    from_json,
    load_topology,
    read_topology,
    restrict,
    to_json,
)
from tests.support.sysfs_trees import write_sysfs

MACHINES = ["stampede2-skx", "stampede3-skx", "stampede3-spr", "lonestar6-milan"]
SKX = load_machine("stampede2-skx").topology()

needs_lscpu = pytest.mark.skipif(shutil.which("lscpu") is None, reason="lscpu is not installed")


def lscpu(*options: str) -> set[tuple[int, int, int]]:
    """Return CPU, package and NUMA domain of every online CPU according to lscpu."""
    lines = subprocess.run(
        ["lscpu", "-p=CPU,SOCKET,NODE", *options], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    rows = (line.split(",") for line in lines if not line.startswith("#"))
    return {(int(cpu), int(package or 0), int(node or 0)) for cpu, package, node in rows}


def as_rows(topology: Topology) -> set[tuple[int, int, int]]:
    """Return CPU, package and NUMA domain of every CPU of a topology."""
    return {(cpu, core.package, core.domain) for core in topology.cores for cpu in core.cpus}


@needs_lscpu
def test_this_machine_has_the_topology_that_lscpu_shows() -> None:
    allowed = os.sched_getaffinity(0)
    rows = {row for row in lscpu() if row[0] in allowed}
    assert as_rows(read_topology(affinity=allowed)) == rows


@needs_lscpu
@pytest.mark.parametrize("name", MACHINES)
def test_other_machines_have_the_topology_that_lscpu_shows(name: str, tmp_path: Path) -> None:
    write_sysfs(tmp_path, load_machine(name).topology())
    assert as_rows(read_topology(tmp_path)) == lscpu("--sysroot", str(tmp_path))


@pytest.mark.parametrize("lists", [True, False])
@pytest.mark.parametrize("name", MACHINES)
def test_the_files_of_a_node_give_its_topology(name: str, lists: bool, tmp_path: Path) -> None:
    topology = load_machine(name).topology()
    assert read_topology(write_sysfs(tmp_path, topology, lists=lists)) == topology


def test_interleaved_numbers_alternate_between_packages() -> None:
    assert SKX.cores_of(0)[0].cpus == (0, 48)
    assert SKX.cores_of(1)[23].cpus == (47, 95)
    assert (SKX.core_count, SKX.cpu_count, SKX.packages) == (48, 96, (0, 1))
    assert [domain.memory_bytes for domain in SKX.domains] == [96 * 2**30] * 2


@pytest.mark.parametrize("source", ["online list", "online file", "missing topology"])
def test_offline_cpus_are_left_out(source: str, tmp_path: Path) -> None:
    write_sysfs(tmp_path, SKX, lists=source == "online list")
    cpu_dir = tmp_path / "sys/devices/system/cpu"
    if source == "online list":
        (cpu_dir / "online").write_text("0-1,3-47,49-94\n")
    elif source == "online file":
        for cpu in (2, 48, 95):
            (cpu_dir / f"cpu{cpu}/online").write_text("0\n")
    else:
        for cpu in (2, 48, 95):
            shutil.rmtree(cpu_dir / f"cpu{cpu}/topology")
    topology = read_topology(tmp_path)
    assert set(topology.cpus()) == set(range(96)) - {2, 48, 95}
    by_first = {core.cpus[0]: core.cpus for core in topology.cores}
    assert (by_first[0], by_first[50], by_first[47], by_first[1]) == ((0,), (50,), (47,), (1, 49))
    assert topology == restrict(SKX, topology.cpus())


def test_memory_only_domains_and_domains_without_memory(tmp_path: Path) -> None:
    cores = tuple(Core(package=0, domain=cpu // 2, cpus=(cpu,)) for cpu in range(4))
    domains = (
        Domain(id=0, package=0, memory_bytes=2**30, distances=(10, 21, 17)),
        Domain(id=1, package=0, memory_bytes=0, distances=(21, 10, 28)),
        Domain(id=3, package=None, memory_bytes=2**34, distances=(17, 28, 10)),
    )
    topology = Topology(cores, domains)
    assert read_topology(write_sysfs(tmp_path, topology)) == topology
    assert topology.cores_of(3) == ()


def test_without_numa_folders_there_is_one_domain_with_all_memory(tmp_path: Path) -> None:
    topology = read_topology(write_sysfs(tmp_path, SKX, nodes=False))
    assert topology.domains == (Domain(id=0, package=None, memory_bytes=192 * 2**30),)
    assert len(topology.cores_of(0)) == 48
    assert topology.packages == (0, 1)


def test_without_topology_files_every_cpu_is_a_core(tmp_path: Path) -> None:
    for cpu in range(3):
        (tmp_path / f"sys/devices/system/cpu/cpu{cpu}").mkdir(parents=True)
    assert [core.cpus for core in read_topology(tmp_path).cores] == [(0,), (1,), (2,)]


def test_an_unknown_package_is_package_0(tmp_path: Path) -> None:
    write_sysfs(tmp_path, SKX)
    for file in tmp_path.glob("sys/devices/system/cpu/cpu*/topology/physical_package_id"):
        file.write_text("-1\n")
    assert read_topology(tmp_path).packages == (0,)


def test_a_folder_without_sysfs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="does not list any CPU"):
        read_topology(tmp_path)


def test_an_affinity_mask_limits_the_topology(tmp_path: Path) -> None:
    topology = read_topology(write_sysfs(tmp_path, SKX), affinity={0, 2, 48})
    assert [core.cpus for core in topology.cores] == [(0, 48), (2,)]
    assert [domain.memory_bytes for domain in topology.domains] == [96 * 2**30] * 2
    assert [domain.package for domain in topology.domains] == [0, None]


def test_a_mask_with_only_other_cpus_is_an_error() -> None:
    with pytest.raises(LaunchError, match="may run on CPUs 96-99, but the node has 0-95"):
        restrict(SKX, range(96, 100))


@pytest.mark.parametrize(
    ("membership", "file", "text", "cpus"),
    [
        ("0::/job/step", "sys/fs/cgroup/job/step/cpuset.cpus.effective", "0-3", (0, 1, 2, 3)),
        ("0::/job/step", "sys/fs/cgroup/job/cpuset.cpus.effective", "0,2", (0, 2)),
        ("3:cpuset:/job\n0::/job", "sys/fs/cgroup/cpuset/job/cpuset.effective_cpus", "1", (1,)),
        ("5:cpu,cpuset:/job", "sys/fs/cgroup/cpuset/job/cpuset.cpus", "4-5", (4, 5)),
        ("0::/../outside", "sys/fs/cgroup/cpuset.cpus.effective", "7", (7,)),
        ("4:memory:/job", "sys/fs/cgroup/cpuset/job/cpuset.cpus", "4-5", None),
        ("0::/", "sys/fs/cgroup/cpuset.cpus.effective", "", None),
    ],
)
def test_the_cpuset_of_a_control_group(
    membership: str, file: str, text: str, cpus: tuple[int, ...] | None, tmp_path: Path
) -> None:
    for path, content in (("proc/self/cgroup", membership), (file, text)):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(f"{content}\n")
    assert sysfs.cgroup_cpus(tmp_path) == cpus


@pytest.mark.parametrize("name", MACHINES)
def test_a_snapshot_gives_its_topology(name: str, tmp_path: Path) -> None:
    topology = load_machine(name).topology()
    file = tmp_path / "node.json"
    file.write_text(json.dumps(to_json(topology)))
    assert load_topology(file) == topology
    assert load_topology(write_sysfs(tmp_path / "tree", topology)) == topology


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "version 1"),
        ({"format": "other"}, "not a snapshot"),
        ({"cores": []}, "0 cores"),
        ({"cores": [{"package": 0, "domain": 0, "cpus": ""}]}, "1 core, 1 of them without a CPU"),
        ({"cores": [{"package": 0, "domain": 9, "cpus": "0"}]}, r"cores belong to NUMA domains \[9\]"),
        ({"cores": [{"package": 0, "domain": 0, "cpus": c} for c in ("0-1", "1-2")]}, "CPUs 1 belong to several cores"),
        ({"cores": [{"package": 0, "cpus": "0"}]}, "no 'domain'"),
        ({"cores": [{"package": "0", "domain": 0, "cpus": "0"}]}, "wrong type"),
        ({"cores": [{"package": 0, "domain": 0, "cpus": 7}]}, "wrong type"),
        ({"cores": [{"package": 0, "domain": 0, "cpus": "a"}]}, "not a list of CPU numbers"),
        ({"cores": 5}, "wrong type"),
        ({"domains": [{"id": 0, "package": 0, "memory_bytes": -1, "distances": []}]}, "wrong type"),
        ({"domains": [{"id": 0, "package": 0, "memory_bytes": 1, "distances": [10, 21]}]}, "some distances only"),
    ],
)
def test_damaged_snapshots_are_errors(change: dict[str, object], message: str, tmp_path: Path) -> None:
    data = {**to_json(restrict(SKX, [0])), **change}
    if "domains" not in change:
        data["domains"] = [{"id": 0, "package": 0, "memory_bytes": 1, "distances": []}]
    with pytest.raises(LaunchError, match=message):
        from_json(data)
    file = tmp_path / "node.json"
    file.write_text(json.dumps(data))
    with pytest.raises(LaunchError, match=r"cannot read the topology .*node\.json"):
        load_topology(file)


def test_other_files_are_not_snapshots(tmp_path: Path) -> None:
    file = tmp_path / "node.json"
    with pytest.raises(LaunchError, match=r"node\.json: .*No such file"):
        load_topology(file)
    file.write_text("{")
    with pytest.raises(LaunchError, match=r"cannot read the topology"):
        load_topology(file)
    with pytest.raises(LaunchError, match="not a snapshot"):
        from_json([1, 2])


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("0-11,48-59", [*range(12), *range(48, 60)]),
        ("0-22:2,48-70:2", [*range(0, 24, 2), *range(48, 72, 2)]),
        ("3", [3]),
        ("0-1", [0, 1]),
        ("0,2", [0, 2]),
        ("0,2-4", [0, 2, 3, 4]),
        ("", []),
    ],
)
def test_cpu_lists_are_parsed_and_formatted(text: str, cpus: list[int]) -> None:
    assert list(parse_cpu_list(text)) == cpus
    assert format_cpu_list(cpus) == text


@pytest.mark.parametrize("text", ["a", "1-", "3-1", "-1", "0-8:0", "0,,1", "0-999999", "1;2"])
def test_other_texts_are_not_cpu_lists(text: str) -> None:
    with pytest.raises(LaunchError, match="not a list of CPU numbers"):
        parse_cpu_list(text)


@given(st.sets(st.integers(0, 300)))
def test_any_set_of_cpus_can_be_formatted_and_parsed(cpus: set[int]) -> None:
    assert set(parse_cpu_list(format_cpu_list(cpus))) == cpus
