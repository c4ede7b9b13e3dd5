"""The machines of the launcher, a user's own machine file, and the limits of partitions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.errors import LaunchError
from launcher.machines import load_machine, machine_names
from launcher.placement import place

OWN = """\
title = "Two nodes under a desk"
source = "built it"
launcher = "mpirun"
workers_per_node = 2

[node]
processor = "1 x something"
packages = 1
domains_per_package = 2
cores_per_domain = 3
threads_per_core = 2
numbering = "contiguous"
memory_gib = 64

[[partitions]]
name = "day"
max_nodes = 2
max_hours = 24

[environment]
HDF5_USE_FILE_LOCKING = "FALSE"
"""


def test_the_names_of_all_machines() -> None:
    assert machine_names() == (
        "frontera-clx",
        "generic",
        "lonestar6-milan",
        "single-node",
        "stampede2-skx",
        "stampede3-icx",
        "stampede3-skx",
        "stampede3-spr",
    )


@pytest.mark.parametrize(
    ("name", "cores", "threads", "domains"),
    [
        ("stampede2-skx", 48, 96, 2),
        ("stampede3-skx", 48, 48, 2),
        ("stampede3-icx", 80, 80, 2),
        ("stampede3-spr", 112, 112, 8),
        ("frontera-clx", 56, 56, 2),
        ("lonestar6-milan", 128, 128, 2),
    ],
)
def test_nodes_have_their_published_shape(name: str, cores: int, threads: int, domains: int) -> None:
    topology = load_machine(name).topology()
    assert (topology.core_count, topology.cpu_count) == (cores, threads)
    assert len(topology.domains) == domains
    assert topology.cpus() == tuple(range(threads))
    assert len(topology.packages) == 2


@pytest.mark.parametrize("name", [name for name in machine_names() if load_machine(name).node])
def test_the_default_number_of_workers_gives_no_warning(name: str) -> None:
    machine = load_machine(name)
    assert place(machine.topology(), machine.workers_per_node).warnings == ()


def test_cpu_numbers_alternate_between_packages_or_fill_them() -> None:
    interleaved, contiguous = (load_machine(name).topology() for name in ("stampede3-skx", "lonestar6-milan"))
    assert [core.cpus for core in interleaved.cores_of(1)[:3]] == [(1,), (3,), (5,)]
    assert [core.cpus for core in contiguous.cores_of(1)[:3]] == [(64,), (65,), (66,)]


def test_a_users_own_file(tmp_path: Path) -> None:
    file = tmp_path / "desk.toml"
    file.write_text(OWN)
    machine = load_machine(file)
    assert (machine.name, machine.title, machine.launcher) == ("desk", "Two nodes under a desk", "mpirun")
    assert (machine.reference, machine.max_workers) == (str(file), 6)
    assert (machine.batch, machine.requeue, machine.signal, machine.modules) == ("slurm", False, False, ())
    assert machine.environment == {"HDF5_USE_FILE_LOCKING": "FALSE"}
    topology = machine.topology()
    assert [core.cpus for core in topology.cores] == [(0, 6), (1, 7), (2, 8), (3, 9), (4, 10), (5, 11)]
    assert [domain.distances for domain in topology.domains] == [(10, 12), (12, 10)]
    assert [domain.memory_bytes for domain in topology.domains] == [32 * 2**30] * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text + "[", "not a TOML file"),
        (lambda text: text.replace("cores_per_domain = 3\n", ""), r"\[node\]: cores_per_domain is missing"),
        (lambda text: text.replace("packages = 1", "packages = 0"), r"\[node\]: packages is 0; expected a whole"),
        (lambda text: text.replace("packages = 1", "packages = 90000000"), "1,080,000,000 hardware threads"),
        (lambda text: text.replace("packages = 1", "packages = 1000"), "2,000 NUMA domains; expected at most 1,024"),
        (lambda text: text.replace("packages = 1", "packages = true"), r"\[node\]: packages is True"),
        (lambda text: text.replace('"contiguous"', '"random"'), "numbering is 'random'; expected one of inter"),
        (lambda text: text.replace('"mpirun"', '"qsub"'), "launcher is 'qsub'; expected one of ibrun"),
        (lambda text: text.replace("title", "titel"), "unknown titel; expected only batch"),
        (lambda text: text.replace("max_hours = 24", 'max_hours = "24"'), "max_hours is '24'"),
        (lambda text: text.replace('= "FALSE"', "= false"), r"\[environment\] is .*; expected a text"),
        (lambda text: text.replace("[[partitions]]", "[partitions]"), r"write \[\[partitions\]\]"),
        (lambda text: text.replace("[node]", "[[node]]"), "expected a table, but it is"),
        (lambda text: 'requeue = "yes"\n' + text, "requeue is 'yes'; expected true or false"),
        (lambda text: "signal = 1\n" + text, "signal is 1; expected true or false"),
        (lambda text: 'modules = "intel"\n' + text, "modules is 'intel'; expected a list of texts"),
        (lambda text: 'modules = ["intel\\nrm x"]\n' + text, r"modules is \['intel.*; expected a list of texts"),
        (lambda text: 'note = "a\\nrm x"\n' + text, "note is 'a.*; expected a text of one line"),
        (lambda text: 'script = "a\\nrm x.sh"\n' + text, "script is 'a.*; expected a text of one line"),
        (lambda text: 'script = "../a;rm x"\n' + text, "script is '../a;rm x'; expected letters"),
        (lambda text: text.replace('= "FALSE"', '= "a\\u2028b"'), r"\[environment\] is .*; expected a text"),
        (lambda text: text.replace('"day"', '"day\\nrm x #"'), "name is 'day.*; expected a text of one line"),
        (lambda text: text.replace('"day"', '"day --wrap=x"'), "name is 'day --wrap=x'; expected letters"),
        (lambda text: "modules = [1]\n" + text, r"modules is \[1\]; expected a list of texts"),
        (lambda text: 'batch = "pbs"\n' + text, "batch is 'pbs'; expected one of slurm, none"),
        (lambda text: 'options = ["exclusive"]\n' + text, "options holds 'exclusive'; expected options of sbatch"),
        (lambda text: 'options = ["--mem=0\\nrm x"]\n' + text, r"options is \['--mem=0.*; expected a list of texts"),
        (lambda text: 'options = ["--mem=ä"]\n' + text, "options holds '--mem=ä'; expected options of sbatch"),
        (lambda text: text + '"A B" = "1"\n', r"variable 'A B'; expected a name that a shell can export"),
        (lambda text: text.replace("node = 2\n", "node = 7\n"), "workers_per_node: 7 workers .*; expected 1 to 6"),
        (lambda text: 'file = "/x"\n' + text, "unknown file; expected only batch"),
    ],
)  # fmt: skip
def test_errors_in_a_file_are_named(change: Callable[[str], str], message: str, tmp_path: Path) -> None:
    file = tmp_path / "desk.toml"
    file.write_text(change(OWN))
    with pytest.raises(LaunchError, match=message) as caught:
        load_machine(file)
    assert "desk.toml" in str(caught.value)


def test_a_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    file = tmp_path / "desk.toml"
    file.write_bytes(b'title = "\xff"')
    with pytest.raises(LaunchError, match=r"desk\.toml: not a TOML file: it is not text"):
        load_machine(file)


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match=r"unknown machine 'stampede4'. Expected one of frontera-clx, .*TOML file"):
        load_machine("stampede4")
    with pytest.raises(LaunchError, match=r"cannot read the machine file .*none\.toml: No such file"):
        load_machine(tmp_path / "none.toml")


def test_a_site_with_unknown_nodes_needs_a_snapshot() -> None:
    machine = load_machine("generic")
    with pytest.raises(LaunchError, match="give the file with --topology"):
        machine.topology()
    assert machine.partition_for(100_000) is None


def test_partitions_are_chosen_by_nodes_and_hours() -> None:
    frontera = load_machine("frontera-clx")
    chosen = [frontera.partition_for(nodes) for nodes in (1, 3, 512, 513)]
    assert [partition.name for partition in chosen if partition] == ["small", "normal", "normal", "large"]
    with pytest.raises(LaunchError, match=r"no partition for 2,049 nodes: at most 2048 nodes a job"):
        frontera.partition_for(2049)
    with pytest.raises(LaunchError, match=r"for 4 nodes for 49 hours: it has small \(1-2 nodes, 48 h\), normal"):
        frontera.partition_for(4, hours=49)


def test_a_named_partition_gives_its_own_limit() -> None:
    machine = load_machine("stampede2-skx")
    chosen = machine.partition_for(256, 48, "skx-large")
    assert chosen is not None
    assert chosen.name == "skx-large"
    for nodes, hours, name, message in (
        (129, 1, "skx-normal", "skx-normal of machine .* takes at most 128 nodes a job, but this job has 129 nodes"),
        (4, 3, "skx-dev", "takes at most 2 hours a job, but this job has 4 nodes for 3 hours"),
        (4, 1, "normal", "has no partition 'normal'; it has skx-normal"),
    ):
        with pytest.raises(LaunchError, match=message):
            machine.partition_for(nodes, hours, name)
    with pytest.raises(LaunchError, match="large of machine frontera-clx takes at least 513 nodes a job"):
        load_machine("frontera-clx").partition_for(512, 1, "large")


def test_workers_are_limited_by_the_cores_of_a_node() -> None:
    load_machine("stampede2-skx").check_workers(48)
    load_machine("generic").check_workers(1000)
    with pytest.raises(
        LaunchError, match="49 workers on a node; expected 1 to 48, the cores of a node of machine stamp"
    ):
        load_machine("stampede2-skx").check_workers(49)
    with pytest.raises(LaunchError, match="0 workers on a node; expected at least 1"):
        load_machine("generic").check_workers(0)


def test_a_machine_without_a_batch_system_has_one_node() -> None:
    machine = load_machine("single-node")
    assert machine.partition_for(1, 1000) is None
    with pytest.raises(LaunchError, match="2 nodes on machine single-node, which has no batch system"):
        machine.partition_for(2)
