"""The command lines that start ranks: their text, their bindings, and a dry run of Open MPI's lines."""

from __future__ import annotations

import re
import shlex
import subprocess

import pytest

from launcher.commands import STARTERS, Command, ibrun, intel_mpi, mpich, open_mpi, srun
from launcher.cpulist import parse_cpu_list
from launcher.machines import load_machine
from launcher.placement import Placement, place
from launcher.topology import Core, Domain, Topology, restrict
from tests.support.environment import mpi_environment

SKX = load_machine("stampede2-skx").topology()
FOUR = place(SKX, 4)
MASKS = "0x555555000000555555,0x555555000000555555000000,0xaaaaaa000000aaaaaa,0xaaaaaa000000aaaaaa000000"


def test_open_mpi() -> None:
    command = open_mpi(SKX, FOUR, 128)
    assert command.text() == ("mpirun -np 512 --map-by ppr:2:numa:pe=12 --bind-to core python -m launcher")
    assert command.binds


def test_intel_mpi() -> None:
    command = intel_mpi(SKX, FOUR, 128)
    assert command.text() == (f"I_MPI_PIN=1 'I_MPI_PIN_DOMAIN=[{MASKS}]' mpirun -n 512 -ppn 4 python -m launcher")
    assert command.binds


def test_mpich() -> None:
    command = mpich(SKX, FOUR, 128)
    assert command.text() == "mpirun -n 512 -ppn 4 -bind-to none python -m launcher"
    assert not command.binds


def test_srun() -> None:
    command = srun(SKX, FOUR, 128)
    assert command.text() == (
        "srun --nodes=128 --ntasks=512 --ntasks-per-node=4 --kill-on-bad-exit=1 --cpus-per-task=24 "
        f"--cpu-bind=mask_cpu:{MASKS} --distribution=block:block --mem-bind=local --mpi=pmix python -m launcher"
    )
    assert command.binds
    assert "--mpi=pmi2" in srun(SKX, FOUR, 128, mpi="pmi2").argv


def test_ibrun_takes_its_size_from_the_job() -> None:
    command = ibrun(SKX, FOUR, 128)
    assert command.text() == "ibrun python -m launcher"
    assert command.note == "run it in a job with #SBATCH -N 128 -n 512"


@pytest.mark.parametrize("builder", STARTERS.values(), ids=STARTERS.keys())
def test_the_command_of_the_ranks_comes_last_and_is_quoted_for_a_shell(builder) -> None:  # type: ignore[no-untyped-def]
    launch = ("python", "-m", "launcher", "--data", "/scratch/my showers/*.h5", "--out", "it's")
    command = builder(SKX, FOUR, 2, launch)
    assert command.argv[-len(launch) :] == launch
    assert tuple(shlex.split(command.text())[-len(launch) :]) == launch


def masks_of(command: Command) -> list[int]:
    """Return the CPU masks in a command line."""
    return [int(mask, 16) for mask in re.findall(r"0x[0-9a-f]+", command.text())]


@pytest.mark.parametrize("workers", [1, 2, 3, 5, 48, 60, 200])
def test_masks_are_those_of_the_placement(workers: int) -> None:
    placement = place(SKX, workers)
    expected = [sum(1 << cpu for cpu in worker.cpus) for worker in placement.workers]
    if workers <= SKX.core_count:
        assert masks_of(srun(SKX, placement, 2)) == expected
    assert masks_of(intel_mpi(SKX, placement, 2)) == expected


@pytest.mark.parametrize(("workers", "count"), [(1, None), (2, "48"), (3, None), (4, "24"), (48, "2"), (60, None)])
def test_srun_gives_cpus_per_task_only_if_the_shares_are_the_whole_node(workers: int, count: str | None) -> None:
    match = re.search(r"--cpus-per-task=(\d+)", srun(SKX, place(SKX, workers), 1).text())
    assert (match and match[1]) == count


def test_the_launcher_binds_shared_cores_under_srun() -> None:
    command = srun(SKX, place(SKX, 60), 2)
    assert not command.binds
    assert "--cpu-bind=none" in command.argv


def test_srun_does_not_bind_to_missing_memory() -> None:
    cores = tuple(Core(package=0, domain=cpu // 2, cpus=(cpu,)) for cpu in range(4))
    domains = tuple(Domain(id=i, package=0, memory_bytes=size) for i, size in enumerate((0, 2**30)))
    topology = Topology(cores, domains)
    assert "--mem-bind=local" not in srun(topology, place(topology, 2), 1).argv


@pytest.mark.parametrize("workers", [1, 3, 60])
def test_the_launcher_binds_if_open_mpi_cannot_map_the_placement(workers: int) -> None:
    command = open_mpi(SKX, place(SKX, workers), 2)
    assert not command.binds
    extra = ":oversubscribe" if workers > 48 else ""
    assert command.argv[4:7] == (f"ppr:{workers}:node{extra}", "--bind-to", "none")


def test_open_mpi_does_not_map_by_domains_without_cores() -> None:
    half = restrict(SKX, SKX.cores_of(0)[0].cpus + SKX.cores_of(0)[1].cpus)
    assert not open_mpi(half, place(half, 2), 1).binds


@pytest.fixture(scope="module")
def open_mpi_5(mpirun: str) -> str:
    version = subprocess.run([mpirun, "--version"], capture_output=True, text=True, check=True).stdout
    if "(Open MPI) 5" not in version:
        pytest.skip(f"the dry run needs mpirun of Open MPI 5, this is {version.splitlines()[0]}")
    return mpirun


def dry_run(mpirun: str, command: Command, synthetic: str, nodes: int, slots: int) -> list[list[int] | None]:
    """Return the cores to which Open MPI would bind each rank, numbered over the node; None for an unbound rank."""
    hosts = ",".join(f"n{node}:{slots}" for node in range(nodes))
    dry = ("--display", "map", "--do-not-launch", "--host", hosts)
    done = subprocess.run(
        [mpirun, *dry, *command.argv[1:]],
        capture_output=True,
        text=True,
        timeout=60,
        env=mpi_environment(HWLOC_SYNTHETIC=synthetic),
    )
    assert "JOB MAP" in done.stdout, done.stdout + done.stderr
    bindings = re.findall(r"Binding: (?:package\[\d+\]\[core:L([0-9,-]+)\]|UNBOUND)", done.stdout)
    return [list(parse_cpu_list(cores)) if cores else None for cores in bindings]


def core_numbers(topology: Topology, placement: Placement) -> list[list[int]]:
    """Return the cores of each worker, numbered over the node."""
    index = {cpu: number for number, core in enumerate(topology.cores) for cpu in core.cpus}
    return [sorted({index[cpu] for cpu in worker.cpus}) for worker in placement.workers]


@pytest.mark.mpi
@pytest.mark.parametrize(
    "name", ["stampede2-skx", "stampede3-skx", "stampede3-icx", "stampede3-spr", "frontera-clx", "lonestar6-milan"]
)
def test_open_mpi_would_bind_512_ranks_as_the_placement_says(name: str, open_mpi_5: str) -> None:
    machine = load_machine(name)
    assert machine.node is not None
    topology, nodes = machine.topology(), 512 // machine.workers_per_node
    placement = place(topology, machine.workers_per_node)
    synthetic = (
        f"pack:{machine.node.packages} group:{machine.node.domains_per_package} [numa] "
        f"core:{machine.node.cores_per_domain} pu:{machine.node.threads_per_core}"
    )
    command = open_mpi(topology, placement, nodes)
    assert command.binds
    mapped = dry_run(open_mpi_5, command, synthetic, nodes, machine.workers_per_node)
    assert mapped == core_numbers(topology, placement) * nodes


@pytest.mark.mpi
@pytest.mark.parametrize("workers", [1, 2, 3, 6, 60])
def test_open_mpi_accepts_other_numbers_of_workers(workers: int, open_mpi_5: str) -> None:
    placement = place(SKX, workers)
    command = open_mpi(SKX, placement, 2)
    mapped = dry_run(open_mpi_5, command, "pack:2 [numa] core:24 pu:2", 2, min(workers, 48))
    expected = core_numbers(SKX, placement) if command.binds else [None] * workers
    assert mapped == expected * 2
