"""Tests of the parts of the benchmarks that count, decide and print, without measurements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gan.models.conv3d import CONV3D
from tests.benchmarks import compare
from tests.benchmarks.__main__ import ON_DEMAND, jobs, share_of_time
from tests.benchmarks.compare import changes
from tests.benchmarks.figures import Figure, Results, machine_name, read_results, write_results
from tests.benchmarks.goals import GOALS, judge
from tests.benchmarks.limit import Convolution, limit, step_flops, step_layers
from tests.benchmarks.losses import differences, standard_scores
from tests.benchmarks.step import batches
from tests.benchmarks.table import figures_table, goals_table, steps_table
from tests.benchmarks.timing import Case, interleave

MACHINE = {"cpu": "Intel(R) Xeon(R) 8160", "cores": 2, "flags": ["avx512f"], "native_bf16": None, "memory_gb": 16}


def results(*figures: Figure, **machine: Any) -> Results:
    return Results(machine={**MACHINE, **machine}, figures=figures)


def figure(name: str, rounds: Sequence[float], unit: str = "s", reference: str = "") -> Figure:
    return Figure(name=name, unit=unit, rounds=rounds, reference=reference)


def test_a_step_has_the_operations_counted_by_hand() -> None:
    flops = {layer.name: layer.flops for layer in step_layers(CONV3D.filter_set("original"))}
    # Output cells x filters x kernel x channels, twice.
    assert flops["g1"] == 2 * (7 * 7 * 8) * 64 * (6 * 6 * 8) * 8
    assert flops["g2"] == 2 * (13 * 14 * 9) * 6 * (6 * 5 * 8) * 64
    assert flops["g3"] == 2 * (26 * 26 * 26) * 6 * (3 * 3 * 8) * 6
    assert flops["d2"] == 2 * 25**3 * 8 * 125 * 32
    assert flops["dense"] == 2 * 200 * 3136
    # An event costs about 19 GFLOP per step.
    assert step_flops(CONV3D.filter_set("original")) == pytest.approx(19.0e9, rel=0.01)


def test_the_first_layers_need_fewer_gradients() -> None:
    passes = {layer.name: times for layer, times in step_layers(CONV3D.filter_set("16")).items()}
    assert (passes["dense"].forward, passes["dense"].weights, passes["dense"].inputs) == (3, 2, 0)
    assert (passes["d1"].forward, passes["d1"].weights, passes["d1"].inputs) == (4, 2, 2)
    assert passes["d2"].inputs == 4


def test_gradients_of_a_layer_have_the_shapes_of_its_operands() -> None:
    import tensorflow as tf

    layer = Convolution(name="c", cells=(5, 6, 7), channels=2, kernel=(2, 3, 1), filters=4)
    passes = {name: operation(*operands) for name, (operation, operands) in layer.operations(3, tf.float32).items()}
    assert passes["forward"].shape == (3, *layer.output_cells, 4) == (3, 4, 4, 7, 4)
    assert passes["weights"].shape == (2, 3, 1, 2, 4)
    assert passes["inputs"].shape == (3, 5, 6, 7, 2)


def test_the_limit_is_a_time() -> None:
    measure = limit(CONV3D.filter_set("original"), 1, "fp32")
    measure()
    assert measure() > 0


class Clock:
    """Clock that only the measured cases advance."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def case(self, name: str, seconds: float, **options: Any) -> Case:
        def measure() -> float:
            self.now += seconds
            return seconds

        return Case(name=name, prepare=lambda: measure, **options)


def test_rounds_are_interleaved_until_the_budget_is_used() -> None:
    clock = Clock()
    messages: list[str] = []
    figures = interleave([clock.case("a", 1), clock.case("b", 2)], 10, messages.append, clock)
    assert [len(each.rounds) for each in figures] == [3, 3]
    assert messages[2].startswith("round 1: a 1 s, b 2 s")


def test_one_round_always_runs_and_a_case_may_limit_its_rounds() -> None:
    clock = Clock()
    figures = interleave([clock.case("a", 50), clock.case("b", 1, rounds=1)], 10, lambda text: None, clock)
    assert [len(each.rounds) for each in figures] == [1, 1]
    clock = Clock()
    figures = interleave([clock.case("a", 1), clock.case("b", 1, rounds=1)], 10, lambda text: None, clock)
    assert [len(each.rounds) for each in figures] == [9, 1]


def test_a_case_that_does_not_fit_is_left_out_with_a_note() -> None:
    clock = Clock()
    first, second = interleave(
        [clock.case("a", 6, expected=6), clock.case("b", 6, expected=6)], 10, lambda text: None, clock
    )
    assert (len(first.rounds), second.rounds, second.median) == (1, (), None)
    assert "left out" in second.note


RATE = "step/original/8/matmul-fp32"


def run(step: Sequence[float], rate: float = 200.0, other: Sequence[float] = (1.0,) * 5) -> Results:
    return results(
        figure(RATE, [rate] * 5, "GFLOP/s"),
        figure("step/original/8/ours-fp32", step, reference=RATE),
        figure("startup/plan", other),
    )


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        (run([1.0] * 5), run([1.3] * 5), "slower"),
        (run([1.0] * 5), run([1.02] * 5), "same"),
        (run([1.0] * 5), run([0.7] * 5), "faster"),
        # A machine with half the speed: the expected time, and a longer time.
        (run([1.0] * 5), run([2.0] * 5, rate=100), "same"),
        (run([1.0] * 5), run([3.0] * 5, rate=100), "slower"),
        # A faster machine does not hide a slower program.
        (run([1.0] * 5), run([0.9] * 5, rate=300), "slower"),
        # These may be chance: the rounds of both runs scatter, or each run has only one round.
        (run([0.7, 0.8, 1.0, 1.4, 1.6]), run([0.8, 1.0, 1.3, 1.7, 1.9]), "same"),
        (run([1.0]), run([1.12]), "same"),
        # One disturbed round does not hide the slower others.
        (run([1.0] * 5), run([1.3, 1.3, 1.3, 1.3, 9.0]), "slower"),
    ],
)
def test_a_step_is_slower_beyond_the_noise_at_equal_rates(old: Results, new: Results, verdict: str) -> None:
    step, plan = changes(old, new)
    assert step.verdict == verdict
    assert step.normalized
    assert (plan.verdict, plan.normalized) == ("same", False)


def test_more_events_a_second_are_faster() -> None:
    old, new = (results(figure("input/x", [rate] * 5, "events/s")) for rate in (100.0, 200.0))
    assert [change.verdict for change in changes(old, new)] == ["faster"]
    assert [change.verdict for change in changes(new, old)] == ["slower"]


def test_from_none_to_some_is_slower() -> None:
    old, new = (results(figure("startup/plan-heavy", [count], "modules")) for count in (0, 1))
    assert [change.verdict for change in changes(old, new)] == ["slower"]
    assert [change.verdict for change in changes(old, old)] == ["same"]


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=9))
def test_nothing_is_slower_than_itself(rounds: list[float]) -> None:
    assert [change.verdict for change in changes(run(rounds), run(rounds))] == ["same", "same"]


@pytest.mark.parametrize(("slower", "status"), [(False, 0), (True, 1)])
def test_the_exit_status_of_compare_shows_slower_figures(
    slower: bool, status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    write_results(old, run([1.0] * 5), [])
    write_results(new, run([1.5 if slower else 1.0] * 5), [])
    assert compare.main([str(old), str(new)]) == status
    assert ("step/original/8/ours-fp32: 1 -> 1.5 s" in capsys.readouterr().out) == slower


def test_compare_refuses_other_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "some.json"
    path.write_text("[]")
    assert compare.main([str(path), str(path)]) == 2
    assert "is no result of the benchmarks" in capsys.readouterr().err


def test_results_are_read_as_written(tmp_path: Path) -> None:
    written = results(
        figure("a", [1.0, 2.5, 2.0], reference="b"),
        Figure(name="c", unit="ms", rounds=[], note="not measurable: no Gloo"),
    )
    write_results(tmp_path / "r.json", written, judge(written))
    assert read_results(tmp_path / "r.json") == replace(written, figures=list(written.figures))


def test_goals_are_met_not_met_or_not_measurable() -> None:
    place = "step/original/8"
    run_results = results(
        figure(f"{place}/ours-fp32", [1.0]),
        figure(f"{place}/keras-fp32", [1.6]),
        figure(f"{place}/limit-fp32", [0.5]),
        figure(f"{place}/ours-bf16", [1.0]),
    )
    rows = {row["what"]: row for row in judge(run_results)}
    assert len(rows) == len(GOALS)
    what = "fp32 step over the plain fp32 Keras loop, original filters"
    assert rows[what] == {"what": what, "goal": ">= 1.5x", "measured": "1.60x", "state": "met", "why": ""}
    assert rows["fp32 step time over the sum of its convolutions alone"]["state"] == "not met"
    bf16 = rows["BF16 step over the plain fp32 Keras loop, original filters"]
    assert (bf16["state"], bf16["measured"]) == ("not measurable here", "")
    assert "no BF16 instructions" in goals_table(judge(run_results))
    assert rows["launcher plan"]["state"] == "not measured"


def test_the_worst_of_several_figures_decides_a_goal() -> None:
    run_results = results(figure("weak/fp32/ratio", [1.95]), figure("weak/bf16/ratio", [1.7]), native_bf16="amx_bf16")
    row = next(row for row in judge(run_results) if row["what"].startswith("weak scaling"))
    assert (row["measured"], row["state"]) == ("1.70x", "not met")


def test_the_table_gives_rates_and_ratios() -> None:
    place = "step/original/8"
    run_results = results(
        figure(f"{place}/matmul-fp32", [200.0], "GFLOP/s"),
        figure(f"{place}/ours-fp32", [1.0, 0.9, 1.1]),
        figure(f"{place}/keras-fp32", [1.6]),
        figure(f"{place}/limit-fp32", [0.8]),
        Figure(name=f"{place}/limit-bf16", unit="s", note="not native"),
    )
    lines = steps_table(run_results, {"original": 19_000_000_000}).splitlines()
    ours = next(line for line in lines if "ours-fp32" in line)
    # 19 GFLOP x 8 events per second are 76% of 200 GFLOP/s.
    assert ours.split() == ["original", "8", "ours-fp32", "1.000", "0.100", "3", "8.0", "1.60", "1.25", "76%"]
    assert next(line for line in lines if "limit-bf16" in line).endswith("not native")
    assert "ours-fp32" not in figures_table(run_results.figures)
    assert "matmul-fp32" in figures_table(run_results.figures)


def test_a_quick_run_measures_less_and_losses_run_only_on_demand() -> None:
    everything, quick = jobs([], quick=False), jobs([], quick=True)
    assert {job.batch for job in everything if job.section == "step"} == {8, 32, 128}
    assert [job.title for job in quick if job.section == "step"] == ["step original 8"]
    assert not {job.section for job in [*everything, *quick]} & ON_DEMAND.keys()
    assert [job.section for job in jobs(["losses"], quick=False)] == ["losses"]


def test_budgets_shrink_when_time_runs_out() -> None:
    todo = jobs([], quick=False)
    assert share_of_time(todo, 1e6) == 1
    assert 0 < share_of_time(todo, 600) < share_of_time(todo, 800) <= 1


def test_a_machine_has_a_name_for_a_file() -> None:
    assert machine_name(MACHINE) == "intel-xeon-8160-2-cores"
    assert machine_name({**MACHINE, "flags": ["avx512_bf16", "amx_bf16"]}) == "intel-xeon-8160-2-cores-amx"


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 9))
def test_batches_take_every_event_before_any_comes_again(events: int, batch: int, number: int) -> None:
    drawn = batches(events, batch, number).ravel()
    assert drawn.shape == (batch * number,)
    counts = np.bincount(drawn, minlength=events)
    assert counts.max() - counts.min() <= 1


def test_losses_differ_by_their_means() -> None:
    noise = np.random.default_rng(1).normal(size=(300, 4))
    other = np.random.default_rng(2).normal(size=(300, 4)) + np.array([0, 0, 0, 2])
    scores = np.abs(standard_scores(noise, other))
    assert scores[:3].max() < 4 < scores[3]
    assert differences(np.array([[1.0, 2.2], [3.0, 3.0]]), np.array([[1.0, 2.0], [4.0, 3.0]])) == pytest.approx(
        [0.1, 0.25]
    )
