"""Place workers on known nodes and unusual nodes, and check rules that hold for any node."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from launcher.cpulist import format_cpu_list
from launcher.errors import LaunchError
from launcher.machines import load_machine
from launcher.placement import Placement, place
from launcher.topology import Core, Domain, Topology, restrict

SKX = load_machine("stampede2-skx").topology()
SPR = load_machine("stampede3-spr").topology()


def node(*domains: tuple[int, int], threads: int = 1, memory: tuple[int, ...] | None = None) -> Topology:
    """Return a node.

    CPU numbers are in the order of the cores. Second hardware threads come after the first threads of all cores.

    Args:
        domains: package and number of cores of each domain.
        threads: hardware threads of each core.
        memory: bytes of each domain; by default 1 GiB.
    """
    total = sum(count for _, count in domains)
    cores, first = [], 0
    for index, (package, count) in enumerate(domains):
        for cpu in range(first, first + count):
            siblings = tuple(cpu + thread * total for thread in range(threads))
            cores.append(Core(package=package, domain=index, cpus=siblings))
        first += count
    sizes = memory or (2**30,) * len(domains)
    numa = (
        Domain(id=i, package=p if count else None, memory_bytes=size, distances=_distances(i, len(domains)))
        for i, ((p, count), size) in enumerate(zip(domains, sizes, strict=True))
    )
    return Topology(tuple(cores), tuple(numa))


def _distances(index: int, count: int) -> tuple[int, ...]:
    return tuple(10 + 10 * abs(index - other) for other in range(count))


def domains_and_cpus(placement: Placement) -> list[tuple[int, str]]:
    """Return NUMA domain and CPU list of every worker."""
    return [(worker.domain, format_cpu_list(worker.cpus)) for worker in placement.workers]


def test_four_workers_on_a_skylake_node() -> None:
    placement = place(SKX, 4)
    assert domains_and_cpus(placement) == [
        (0, "0-22:2,48-70:2"),
        (0, "24-46:2,72-94:2"),
        (1, "1-23:2,49-71:2"),
        (1, "25-47:2,73-95:2"),
    ]
    assert [worker.cores for worker in placement.workers] == [12] * 4
    assert [worker.memory_domain for worker in placement.workers] == [0, 0, 1, 1]
    assert placement.warnings == ()


def test_one_worker_on_two_domains_gives_a_warning_about_idle_cores() -> None:
    placement = place(SKX, 1)
    assert domains_and_cpus(placement) == [(0, "0-94:2")]
    assert placement.warnings == (
        "24 of 48 cores idle: 1 worker stays inside one NUMA domain; 2 or 4 workers would use them all",
    )


def test_three_workers_on_two_domains_give_a_warning_about_idle_cores() -> None:
    placement = place(SKX, 3)
    assert [(worker.domain, worker.cores) for worker in placement.workers] == [(0, 12), (0, 12), (1, 12)]
    assert placement.warnings == (
        "12 of 48 cores idle: 3 workers get equal shares of 12 cores, each inside one NUMA domain; "
        "2 or 4 workers would use them all",
    )


def test_one_worker_on_one_core_gives_no_warning() -> None:
    placement = place(node((0, 1)), 1)
    assert (domains_and_cpus(placement), placement.warnings) == ([(0, "0")], ())


def test_few_workers_use_both_packages() -> None:
    assert [worker.domain for worker in place(SPR, 4).workers] == [0, 1, 4, 5]


def test_more_workers_than_cores_get_hardware_threads() -> None:
    placement = place(node((0, 2), (1, 2), threads=2), 6)
    assert domains_and_cpus(placement) == [(0, "0"), (0, "1"), (0, "4"), (1, "2"), (1, "3"), (1, "6")]
    assert [worker.shared for worker in placement.workers] == [True, False, True, True, False, True]
    assert placement.warnings == (
        "6 workers share 4 physical cores: each runs on one hardware thread; start at most 4 workers on a node to give "
        "each its own cores",
    )


def test_more_workers_than_hardware_threads_share_them() -> None:
    placement = place(node((0, 1), threads=2), 5)
    assert domains_and_cpus(placement) == [(0, "0"), (0, "1"), (0, "0"), (0, "1"), (0, "0")]
    assert placement.warnings == (
        "5 workers share 2 hardware threads of 1 core, so workers will wait for each other; start at most 1 worker "
        "on a node to give each its own cores",
    )


def test_offline_cores_make_domains_unequal() -> None:
    damaged = restrict(SKX, [cpu for cpu in range(96) if cpu not in (1, 49)])
    placement = place(damaged, 4)
    assert [worker.cores for worker in placement.workers] == [11] * 4
    assert domains_and_cpus(placement)[2] == (1, "3-23:2,51-71:2")
    assert placement.warnings[0].startswith("3 of 47 cores idle")


def test_a_domain_without_memory_uses_that_of_the_nearest() -> None:
    topology = node((0, 4), (0, 4), (1, 4), memory=(0, 2**30, 2**30))
    placement = place(topology, 3)
    assert [worker.memory_domain for worker in placement.workers] == [1, 1, 2]
    assert placement.warnings == (
        "NUMA domain 0 has no memory: 1 worker there must use the memory of domain 1, which is slower; "
        "install memory in domain 0",
    )


def test_memory_only_domains_get_no_worker() -> None:
    placement = place(node((0, 4), (0, 0)), 2)
    assert ([worker.domain for worker in placement.workers], placement.warnings) == ([0, 0], ())


def test_unknown_memory_gives_no_memory_domain() -> None:
    placement = place(node((0, 2), memory=(0,)), 1)
    assert (placement.workers[0].memory_domain, placement.warnings) == (None, ())


@pytest.mark.parametrize("workers", [0, -1])
def test_less_than_one_worker_is_an_error(workers: int) -> None:
    with pytest.raises(LaunchError, match="expected 1 to 65536"):
        place(SKX, workers)


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    """Draw a node of any shape: shuffled CPU numbers, unequal domains and cores, domains with and without memory."""
    sizes = draw(st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(any))
    threads = [draw(st.integers(1, 3)) for _ in range(sum(sizes))]
    numbers = iter(draw(st.permutations(range(sum(threads)))))
    cores, done = [], 0
    for domain, size in enumerate(sizes):
        for count in threads[done : done + size]:
            cpus = tuple(sorted(next(numbers) for _ in range(count)))
            cores.append(Core(package=domain // 2, domain=domain, cpus=cpus))
        done += size
    memory = [draw(st.sampled_from([0, 2**30])) for _ in sizes]
    domains = (
        Domain(id=i, package=None, memory_bytes=size, distances=_distances(i, len(sizes)))
        for i, size in enumerate(memory)
    )
    return Topology(tuple(cores), tuple(domains))


anywhere = given(topologies(), st.integers(1, 70))


@anywhere
def test_every_worker_stays_inside_its_domain(topology: Topology, workers: int) -> None:
    placement = place(topology, workers)
    assert [worker.local_rank for worker in placement.workers] == list(range(workers))
    for worker in placement.workers:
        own = {cpu for core in topology.cores_of(worker.domain) for cpu in core.cpus}
        assert worker.cpus
        assert set(worker.cpus) <= own
    domains = [worker.domain for worker in placement.workers]
    assert domains == sorted(domains)


@anywhere
def test_shares_are_equal_disjoint_and_of_whole_cores_while_there_are_cores(topology: Topology, workers: int) -> None:
    placement = place(topology, workers)
    if workers > topology.core_count:
        return
    by_cpu = {cpu: core for core in topology.cores for cpu in core.cpus}
    assert len({worker.cores for worker in placement.workers}) == 1
    used = [cpu for worker in placement.workers for cpu in worker.cpus]
    assert len(set(used)) == len(used)
    for worker in placement.workers:
        whole = {cpu for core in {by_cpu[cpu] for cpu in worker.cpus} for cpu in core.cpus}
        assert whole == set(worker.cpus)
        assert not worker.shared


@anywhere
def test_no_larger_share_would_fit(topology: Topology, workers: int) -> None:
    share = place(topology, workers).workers[0].cores
    if workers <= topology.core_count:
        counts = [len(topology.cores_of(domain.id)) for domain in topology.domains]
        assert sum(count // (share + 1) for count in counts) < workers


@anywhere
def test_every_thread_is_used_before_any_is_shared(topology: Topology, workers: int) -> None:
    placement = place(topology, workers)
    if workers <= topology.core_count:
        return
    by_cpu = {cpu: core for core in topology.cores for cpu in core.cpus}
    workers_of = Counter(cpu for worker in placement.workers for cpu in worker.cpus)
    assert {len(worker.cpus) for worker in placement.workers} == {1}
    assert {by_cpu[cpu] for cpu in workers_of} == set(topology.cores)
    if workers <= topology.cpu_count:
        assert max(workers_of.values()) == 1
    else:
        counts = [workers_of[cpu] for cpu in topology.cpus()]
        assert max(counts) - min(counts) <= 1


@anywhere
def test_shared_means_that_another_worker_runs_on_the_core(topology: Topology, workers: int) -> None:
    placement = place(topology, workers)
    by_cpu = {cpu: core for core in topology.cores for cpu in core.cpus}
    users = Counter(core for worker in placement.workers for core in {by_cpu[cpu] for cpu in worker.cpus})
    for worker in placement.workers:
        mine = {by_cpu[cpu] for cpu in worker.cpus}
        assert worker.shared == any(users[core] > 1 for core in mine)
        assert worker.cores == len(mine)
    assert placement.shared == (max(users.values()) > 1)


@anywhere
@example(SKX, 1)
@example(SKX, 4)
def test_every_loss_has_a_warning_and_every_warning_a_loss(topology: Topology, workers: int) -> None:
    placement = place(topology, workers)
    used = {cpu for worker in placement.workers for cpu in worker.cpus}
    idle = sum(not set(core.cpus) & used for core in topology.cores)
    losses = {
        "idle": idle > 0,
        "share": any(worker.shared for worker in placement.workers),
        "no memory": any(worker.memory_domain not in (None, worker.domain) for worker in placement.workers),
    }
    for word, occurs in losses.items():
        assert any(word in warning.split(";")[0].split("get equal")[0] for warning in placement.warnings) == occurs
    if idle:
        assert any(warning.startswith(f"{idle} of {topology.core_count} cores idle") for warning in placement.warnings)


@anywhere
def test_the_numbers_of_workers_in_a_warning_leave_no_core_idle(topology: Topology, workers: int) -> None:
    for warning in place(topology, workers).warnings:
        if "would use them all" in warning:
            numbers = [int(word) for word in warning.split(";")[1].split() if word.isdigit()]
            assert numbers
            for better in numbers:
                assert not any("idle" in other for other in place(topology, better).warnings)


@anywhere
def test_memory_comes_from_the_own_domain_or_the_nearest(topology: Topology, workers: int) -> None:
    with_memory = {domain.id for domain in topology.domains if domain.memory_bytes}
    for worker in place(topology, workers).workers:
        if worker.domain in with_memory:
            assert worker.memory_domain == worker.domain
        elif with_memory:
            nearest = min(abs(worker.domain - other) for other in with_memory)
            assert worker.memory_domain in with_memory
            assert abs(worker.domain - worker.memory_domain) == nearest
        else:
            assert worker.memory_domain is None


@anywhere
def test_the_order_of_cores_and_domains_does_not_matter(topology: Topology, workers: int) -> None:
    reversed_topology = Topology(tuple(reversed(topology.cores)), tuple(reversed(topology.domains)))
    assert place(topology, workers) == place(reversed_topology, workers)
