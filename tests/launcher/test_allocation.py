"""Read rank, size and hosts from real environments of every starter, and reject damaged ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.allocation import Allocation, expand_node_list, expand_tasks_per_node
from launcher.errors import LaunchError
from tests.support.environment import DATA

DUMPS = DATA / "env"
HOSTS = ("c401-001", "c401-002", "c401-003", "c401-004")


def environment(name: str) -> dict[str, str]:
    lines = (DUMPS / f"{name}.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


@pytest.mark.parametrize(
    ("starter", "source"),
    [
        ("mpirun-ompi4", "Open MPI"),
        ("mpirun-ompi5", "Open MPI"),
        ("mpirun-mpich", "MPICH/Hydra"),
        ("mpirun-impi", "Intel MPI"),
        ("srun", "Slurm"),
        ("srun-pmi2-mpich", "Slurm"),
        ("srun-pmix-ompi4", "Slurm"),
    ],
)
@pytest.mark.parametrize(("rank", "local_rank"), [(0, 0), (5, 1)])
def test_every_starter_gives_the_same_place(starter: str, source: str, rank: int, local_rank: int) -> None:
    assert Allocation.from_environment(environment(f"{starter}.rank{rank}")) == Allocation(
        rank=rank,
        size=16,
        local_rank=local_rank,
        local_size=4,
        node_count=4,
        hosts=HOSTS,
        source=source,
        promised_size=16,
    )


def test_every_dump_is_used() -> None:
    starters = {file.name.split(".")[0] for file in DUMPS.glob("*.rank*.env")}
    assert starters == {
        "mpirun-ompi4", "mpirun-ompi5", "mpirun-mpich", "mpirun-impi", "srun", "srun-pmi2-mpich", "srun-pmix-ompi4"
    }  # fmt: skip


def test_an_environment_without_a_starter_is_one_worker() -> None:
    assert Allocation.from_environment({"HOME": "/root"}) == Allocation()


def test_a_batch_script_without_srun_is_one_worker_and_knows_the_requested_number() -> None:
    assert Allocation.from_environment(environment("batch")) == Allocation(promised_size=16)


@pytest.mark.parametrize("step", [0xFFFFFFFA, 0xFFFFFFFB, 0xFFFFFFFC])
def test_a_step_without_srun_is_not_a_task(step: int) -> None:
    environ = {**environment("srun.rank0"), "SLURM_STEP_ID": str(step)}
    assert Allocation.from_environment(environ).source == "none"


def test_settings_for_intel_mpi_do_not_turn_mpich_into_intel_mpi() -> None:
    environ = {**environment("mpirun-mpich.rank5"), "I_MPI_FABRICS": "shm:ofi", "I_MPI_ROOT": "/opt/mpi"}
    assert Allocation.from_environment(environ).source == "MPICH/Hydra"


def test_mpirun_wins_over_the_srun_step_around_it() -> None:
    environ = {**environment("srun.rank5"), "PMI_RANK": "2", "PMI_SIZE": "3", "MPI_LOCALRANKID": "2"}
    allocation = Allocation.from_environment(environ)
    assert (allocation.rank, allocation.size, allocation.local_rank, allocation.source) == (2, 3, 2, "MPICH/Hydra")


def test_the_local_size_is_that_of_the_own_node() -> None:
    environ = {**environment("srun.rank5"), "SLURM_STEP_TASKS_PER_NODE": "5,3(x2),5"}
    assert Allocation.from_environment(environ).local_size == 3


@pytest.mark.parametrize(
    ("dump", "changes", "message"),
    [
        ("mpirun-ompi5.rank5", {"OMPI_COMM_WORLD_RANK": "five"}, "OMPI_COMM_WORLD_RANK is 'five'"),
        ("mpirun-ompi5.rank5", {"OMPI_COMM_WORLD_RANK": "-1"}, "OMPI_COMM_WORLD_RANK is '-1'"),
        ("mpirun-ompi5.rank5", {"OMPI_COMM_WORLD_SIZE": "5"}, "rank 5 of 5"),
        ("mpirun-ompi5.rank5", {"OMPI_COMM_WORLD_SIZE": ""}, "OMPI_COMM_WORLD_SIZE is not set"),
        ("mpirun-ompi5.rank5", {"OMPI_COMM_WORLD_LOCAL_RANK": "4"}, "local rank 4 of 4"),
        ("mpirun-impi.rank0", {"PMI_SIZE": "0"}, "PMI_SIZE is '0'"),
        ("mpirun-impi.rank0", {"SLURM_JOB_NODELIST": "c[1-"}, "not a node list"),
        ("srun.rank5", {"SLURM_STEP_TASKS_PER_NODE": "4x4"}, "not a list of tasks per node"),
        ("srun.rank5", {"SLURM_NODEID": "7"}, "SLURM_NODEID is 7"),
        ("srun-pmix-ompi4.rank5", {"SLURM_STEP_ID": ""}, "PMIX_RANK is 5, but no variable gives"),
    ],
)  # fmt: skip
def test_a_damaged_variable_is_named(dump: str, changes: dict[str, str], message: str) -> None:
    with pytest.raises(LaunchError, match=message):
        Allocation.from_environment({**environment(dump), **changes})


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("c1", ["c1"]),
        ("a[1-3,07-09],b5", ["a1", "a2", "a3", "a07", "a08", "a09", "b5"]),
        ("r[0-1]n[09-10]-ib", ["r0n09-ib", "r0n10-ib", "r1n09-ib", "r1n10-ib"]),
        ("n[8-11]", ["n8", "n9", "n10", "n11"]),
    ],
)
def test_node_lists(text: str, names: list[str]) -> None:
    assert list(expand_node_list(text)) == names


@pytest.mark.parametrize(
    "text", ["", "a,", "a[", "a]", "a[]", "a[3-1]", "a[1-]", "a[x]", "a[1[2]]", "a b", "a[0-999999999]"]
)
def test_other_texts_are_not_node_lists(text: str) -> None:
    with pytest.raises(LaunchError, match="not a node list"):
        expand_node_list(text)


@st.composite
def ranges(draw: st.DrawFn) -> tuple[str, list[str]]:
    """Draw a range of a node list, and the numbers in it padded to the width of the first one."""
    first, length, width = draw(st.integers(0, 200)), draw(st.integers(1, 30)), draw(st.integers(1, 4))
    numbers = [f"{n:0{max(width, len(str(first)))}d}" for n in range(first, first + length)]
    return (numbers[0] if length == 1 else f"{numbers[0]}-{numbers[-1]}"), numbers


@st.composite
def node_lists(draw: st.DrawFn) -> tuple[str, list[str]]:
    """Draw a node list with up to two brackets in a name, and the names in it."""
    texts, names = [], []
    for _ in range(draw(st.integers(1, 4))):
        prefix = draw(st.text("abcxyz-", min_size=1, max_size=3))
        expanded, text = [prefix], prefix
        for _ in range(draw(st.integers(0, 2))):
            parts = draw(st.lists(ranges(), min_size=1, max_size=3))
            text += "[" + ",".join(part for part, _ in parts) + "]"
            expanded = [name + n for name in expanded for _, numbers in parts for n in numbers]
        texts.append(text)
        names += expanded
    return ",".join(texts), names


@given(node_lists())
def test_node_lists_expand_to_their_names(case: tuple[str, list[str]]) -> None:
    text, names = case
    assert list(expand_node_list(text)) == names


@given(st.lists(st.tuples(st.integers(0, 128), st.integers(1, 200)), min_size=1, max_size=6))
def test_tasks_per_node_expand_to_their_counts(runs: list[tuple[int, int]]) -> None:
    text = ",".join(str(count) if times == 1 else f"{count}(x{times})" for count, times in runs)
    assert list(expand_tasks_per_node(text)) == [count for count, times in runs for _ in range(times)]


@pytest.mark.parametrize("text", ["", "4(x)", "(x3)", "4(x-1)", "4(x999999)", "four", "4,"])
def test_other_texts_are_not_lists_of_tasks(text: str) -> None:
    with pytest.raises(LaunchError, match="not a list of tasks per node"):
        expand_tasks_per_node(text)


@given(st.text(max_size=30))
def test_any_text_is_expanded_or_rejected_with_a_clear_error(text: str) -> None:
    for expand in (expand_node_list, expand_tasks_per_node):
        message = ""
        try:
            expanded: tuple[object, ...] = expand(text)
        except LaunchError as error:
            expanded, message = (), str(error)
        assert expanded or "as Slurm writes it" in message
