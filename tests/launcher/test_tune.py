"""Tuning: the candidates, the winner, the stored settings, and their use in a plan."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from gan.settings import MODELS, TrainingSettings
from launcher import tune as tuning
from launcher.cli import cli
from launcher.errors import LaunchError
from launcher.machines import load_machine
from launcher.placement import place
from launcher.plan import make_plan, to_json
from launcher.plan_text import render
from launcher.threads import plan_threads
from launcher.topology import Core, Domain, Topology, read_topology, restrict
from launcher.tune import Candidate, Result, candidates, measure, winner
from launcher.tune_worker import Task
from launcher.tuned import NodeType, Tuned, find_tuned, forget, keep, node_type

SKYLAKE = load_machine("stampede2-skx").topology()
HERE = read_topology(affinity=os.sched_getaffinity(0))
WORTH_IT = Tuned(workers_per_node=1, inter_op=3, intra_op=7, ratio=1.25, measured="2026-01-02, filters 16")


def settings(folder: Path) -> dict[str, str]:
    return {"XDG_CONFIG_HOME": str(folder)}


@given(domains=st.lists(st.integers(0, 12), min_size=1, max_size=4).filter(any), default=st.integers(1, 6))
def test_candidates_are_few_and_distinct_and_begin_with_the_defaults(domains: list[int], default: int) -> None:
    cores = [Core(package=0, domain=d, cpus=()) for d, count in enumerate(domains) for _ in range(count)]
    numbered = tuple(replace(core, cpus=(cpu,)) for cpu, core in enumerate(cores))
    node = Topology(numbered, tuple(Domain(id=d, package=0, memory_bytes=1) for d in range(len(domains))))
    tried = candidates(node, default)
    planned = plan_threads(min(worker.cores for worker in place(node, default).workers), {})
    assert tried[0] == Candidate(default, planned.inter_op, planned.intra_op)
    assert len(set(tried)) == len(tried) <= 12
    for candidate in tried:
        assert candidate.workers == default or candidate.workers <= node.core_count
        assert candidate.intra_op <= max(worker.cores for worker in place(node, candidate.workers).workers)


def test_candidates_of_a_skylake_node() -> None:
    tried = candidates(SKYLAKE, 4)
    assert tried[:3] == [Candidate(4, 2, 11), Candidate(2, 2, 23), Candidate(8, 2, 5)]
    assert {Candidate(4, 1, 12), Candidate(2, 1, 24)} <= set(tried)


def result(candidate: Candidate, rate: float) -> Result:
    return Result(candidate=candidate, cores=1, events_per_second=rate)


def test_winner_is_faster_by_more_than_noise() -> None:
    default, other = Candidate(4, 2, 11), Candidate(2, 1, 24)
    clear = winner([result(default, 100.0), result(other, 130.0)], Task())
    assert (clear.workers_per_node, clear.inter_op, clear.intra_op, clear.ratio) == (2, 1, 24, 1.3)
    assert "filters 16, batch 8, fp32" in clear.measured
    noise = winner([result(default, 100.0), result(other, 101.0)], Task())
    assert (noise.workers_per_node, noise.intra_op, noise.ratio) == (4, 11, 1.0)
    table = tuning.render([result(default, 100.0), result(other, 130.0)], clear).splitlines()
    assert [line.endswith("<-") for line in table] == [False, True, False]
    assert table[1].split()[-2] == "1.30"


def test_time_limits_the_candidates_and_the_best_must_win_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    rates = iter([50.0, 60.0, 70.0, 65.0, 52.0, 66.0])

    def measured(topology: Topology, candidate: Candidate, *rest: object) -> Result:
        clock[0] += 15
        return result(candidate, next(rates))

    monkeypatch.setattr(tuning, "measure", measured)
    monkeypatch.setattr(tuning.time, "monotonic", lambda: clock[0])
    said: list[str] = []
    results = tuning.tune(SKYLAKE, {}, Task(), 61.0, 4, said.append)
    assert [each.events_per_second for each in results] == [52.0, 60.0, 66.0, 65.0]
    assert "4 of 9 settings; for all of them give --seconds 150" in said[4]
    tried = len(candidates(HERE, 1))
    rates = iter([50.0] * tried)
    assert [each.events_per_second for each in tuning.tune(HERE, {}, Task(), 600.0, 1)] == [50.0] * tried


def test_stored_settings_are_for_the_same_type_of_node_only(tmp_path: Path) -> None:
    kind = node_type(SKYLAKE)
    assert (kind.domains, kind.threads) == ((24, 24), 96)
    path = keep(WORTH_IT, kind, settings(tmp_path))
    assert path.parent == tmp_path / "3dgan-scaling" / "tuned"
    assert find_tuned(SKYLAKE, settings(tmp_path)) == WORTH_IT
    assert find_tuned(SKYLAKE, {"HOME": str(tmp_path)}) is None
    assert find_tuned(restrict(SKYLAKE, range(48)), settings(tmp_path)) is None
    assert find_tuned(SKYLAKE, {}) is None
    assert forget(kind, settings(tmp_path)) == path
    assert forget(kind, settings(tmp_path)) is None
    assert find_tuned(SKYLAKE, settings(tmp_path)) is None


def test_names_of_node_types_are_valid_file_names(tmp_path: Path) -> None:
    named = NodeType(processor="Intel(R) Xeon(R) Platinum 8160 CPU @ 2.10GHz", domains=(24, 24), threads=96)
    assert named.name == "intel-xeon-platinum-8160-cpu-2-10ghz-24x2-96"
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("processor\t: 0\nCPU part\t: 0xd4f\n")
    assert node_type(SKYLAKE, tmp_path).name == "0xd4f-24x2-96"
    assert node_type(SKYLAKE, tmp_path / "absent").processor == "unknown"


@pytest.mark.parametrize("text", ["workers_per_node = 0", "not toml", 'intra_op = "2"', "workers_per_node = 2"])
def test_error_names_the_damaged_file(tmp_path: Path, text: str) -> None:
    path = keep(WORTH_IT, node_type(SKYLAKE), settings(tmp_path))
    path.write_text(text)
    with pytest.raises(LaunchError, match=r"24x2-96\.toml cannot be used .*--forget"):
        find_tuned(SKYLAKE, settings(tmp_path))


def test_settings_that_cannot_be_stored_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="neither XDG_CONFIG_HOME nor HOME is set"):
        keep(WORTH_IT, node_type(SKYLAKE), {})
    (tmp_path / "3dgan-scaling").write_text("in the way")
    with pytest.raises(LaunchError, match="cannot be written"):
        keep(WORTH_IT, node_type(SKYLAKE), settings(tmp_path))


def origins(**options: object) -> dict[str, str]:
    return {v.name: v.origin for v in make_plan(**options).threads.variables}  # type: ignore[arg-type]


def test_plan_uses_the_stored_settings_and_names_them(tmp_path: Path) -> None:
    keep(WORTH_IT, node_type(HERE), settings(tmp_path))
    plan = make_plan(environ=settings(tmp_path))
    assert (plan.workers_per_node, plan.threads.inter_op, plan.threads.intra_op) == (1, 3, 7)
    text = render(plan)
    assert "1.25x the events/s of the untuned plan" in text
    assert "  TF_NUM_INTRAOP_THREADS=7  (tuned)" in text
    assert to_json(plan)["tuned"]["ratio"] == 1.25
    # There is no measurement for another number of workers, or for the node of another machine.
    for other in ({"workers_per_node": 2}, {"machine": "stampede2-skx"}):
        assert set(origins(environ=settings(tmp_path), **other).values()) == {"plan"}
    assert make_plan(environ=settings(tmp_path), workers_per_node=2).tuned is None


def test_options_and_environment_win_over_stored_settings(tmp_path: Path) -> None:
    keep(WORTH_IT, node_type(HERE), settings(tmp_path))
    environ = {**settings(tmp_path), "TF_NUM_INTEROP_THREADS": "1"}
    plan = make_plan(environ=environ, intra_op=2)
    assert (plan.threads.inter_op, plan.threads.intra_op) == (1, 2)
    found = origins(environ=environ, intra_op=2)
    assert (found["TF_NUM_INTEROP_THREADS"], found["TF_NUM_INTRAOP_THREADS"]) == ("user", "option")


def test_forget_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    run: Callable[..., object] = lambda: CliRunner().invoke(cli, ["tune", "--forget"]).output  # noqa: E731
    assert "Nothing is stored for" in str(run())
    path = keep(WORTH_IT, node_type(HERE), os.environ)
    assert str(run()) == f"Removed {path}.\n"
    assert not path.exists()


@pytest.mark.parametrize("model", MODELS)
def test_the_default_recipe_of_the_model_is_measured(model: str) -> None:
    task = Task(model=model)
    assert task.settings() == TrainingSettings.of(model=model, batch_size=8, precision="fp32")
    assert str(task) == f"{model}, filters {task.settings().filters}, batch 8, fp32"
    assert Task(model=model, batch_size=1).settings().shape_weight == 0


def test_wrong_filters_are_an_error_before_the_measurement() -> None:
    result = CliRunner().invoke(cli, ["tune", "--model", "conv2d", "--filters", "16"])
    assert result.exit_code == 2
    assert result.output.startswith("Error: --filters is '16'")


@pytest.mark.slow
def test_worker_runs_real_steps_on_its_cores() -> None:
    one = restrict(HERE, HERE.cpus()[:1])
    task = Task(filters="original", batch_size=1)
    found = measure(one, Candidate(1, 1, 1), {**os.environ, "OMP_NUM_THREADS": "wrong"}, task, 0.1)
    assert found.cores == 1
    assert 0 < found.events_per_second < 1000


def test_error_of_a_worker_gives_its_reason() -> None:
    one = restrict(HERE, HERE.cpus()[:1])
    with pytest.raises(LaunchError, match=r"a worker failed during the measurement .*--filters is 'none'"):
        measure(one, Candidate(1, 1, 1), os.environ, Task(filters="none"), 0.1)
