"""A few small allreduces in SimGrid agree with the formula. `python -m tests.simgrid` simulates larger ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.simgrid.simulation import Case, SimulationError, compile_program, missing, simulate
from tests.support.packages import skip_or_fail


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if reason := missing():
        skip_or_fail("simgrid", reason)
    return compile_program(tmp_path_factory.mktemp("simgrid"))


@pytest.mark.parametrize("ranks", [2, 16, 64])
@pytest.mark.parametrize("algorithm", ["ring", "tree"])
def test_one_rank_a_node_takes_what_the_formula_says(algorithm: str, ranks: int, program: Path) -> None:
    results = simulate(Case(algorithm=algorithm, ranks=ranks, ranks_per_node=1), (65536, 4194304), program)
    assert [result.message_bytes for result in results] == [65536, 4194304]
    # The formula uses the longest path for all messages. A tree over few leaf switches has shorter paths.
    assert all(0.75 < result.ratio < 1.2 for result in results)
    assert results[1].ratio == pytest.approx(1, abs=0.02)


def test_a_ring_of_four_ranks_a_node_is_as_slow_as_its_slowest_link(program: Path) -> None:
    large = simulate(Case(algorithm="ring", ranks=64, ranks_per_node=4), (4194304,), program)[0]
    assert large.ratio == pytest.approx(1, abs=0.02)


def test_a_tree_of_four_ranks_a_node_first_halves_within_the_node(program: Path) -> None:
    large = simulate(Case(algorithm="tree", ranks=64, ranks_per_node=4), (4194304,), program)[0]
    assert large.ratio == pytest.approx(1, abs=0.02)


def test_more_ranks_than_the_platform_has_are_refused(program: Path) -> None:
    with pytest.raises(SimulationError, match="512 ranks need 512 nodes; the platform has 256"):
        simulate(Case(algorithm="ring", ranks=512, ranks_per_node=1), (4096,), program)
