"""`python -m scaling compare A B`: slower, worse scaling, noise, and too few epochs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from scaling import metrics
from scaling.cli import main
from scaling.metrics.verdicts import BETTER, SAME, UNKNOWN, WORSE, compare_points
from scaling.parsers.record import run_log
from scaling.records import RecordError
from tests.support.sample_logs import log
from tests.support.sample_runs import end, epoch, header, run, write

SIZES = (4, 16, 64)


def study(folder: Path, seconds: Mapping[int, float], seed: int, epochs: int = 12, noise: float = 0.01) -> Path:
    generator = np.random.default_rng(seed)
    for workers, usual in seconds.items():
        times = usual * (1 + noise * np.abs(generator.standard_normal(epochs)))
        records = (epoch(i, float(t)) for i, t in enumerate(times, start=1))
        write(folder / f"n{workers}", header(workers), *records, end(epochs))
    return folder


def compared(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["compare", *map(str, arguments)])


def test_the_same_speed_is_not_worse(tmp_path: Path) -> None:
    usual = {n: 400 / n for n in SIZES}
    result = compared(study(tmp_path / "a", usual, 1), study(tmp_path / "b", usual, 2))
    assert result.exit_code == 0, result.output
    assert "B is not worse than A beyond the noise and a loss of 1.0%." in result.stdout
    assert result.stdout.count(SAME) == 5
    assert "only one run at 4 workers, 16 workers, 64 workers:" in result.stdout


def test_a_study_that_is_slower_at_all_sizes_is_worse_in_speed_but_not_in_scaling(tmp_path: Path) -> None:
    a = study(tmp_path / "a", {n: 400 / n for n in SIZES}, 1)
    b = study(tmp_path / "b", {n: 440 / n for n in SIZES}, 2)
    result = compared(a, b)
    assert result.exit_code == 1, result.output
    rows = [line for line in result.stdout.splitlines() if line.endswith((SAME, WORSE, BETTER))]
    assert [("events/s" in row, row.endswith(WORSE)) for row in rows] == [
        *((True, True), (True, True), (False, False), (True, True), (False, False))
    ]
    assert "The clearest is events/s at" in result.stdout
    assert compared(b, a).exit_code == 0
    assert compared(a, b, "--threshold", "0.2").exit_code == 0


def test_worse_scaling_is_found_at_the_size_that_has_it(tmp_path: Path) -> None:
    a = study(tmp_path / "a", {n: 400 / n for n in SIZES}, 1)
    b = study(tmp_path / "b", {**{n: 400 / n for n in SIZES}, 64: 7.5}, 2)
    result = compared(a, b)
    assert result.exit_code == 1
    worse = [line.split()[:2] for line in result.stdout.splitlines() if line.endswith(WORSE)]
    assert worse == [["64", "events/s"], ["64", "efficiency"]]


def test_a_change_within_the_noise_is_not_worse(tmp_path: Path) -> None:
    a = study(tmp_path / "a", {4: 100.0}, 1, noise=0.3)
    b = study(tmp_path / "b", {4: 104.0}, 2, noise=0.3)
    assert compared(a, b).exit_code == 0


def test_equal_studies_are_seldom_called_worse() -> None:
    """At most 2.5% of pairs of equal studies may count as worse. The probability of 5 or more of 40 is then 0.4%."""
    generator = np.random.default_rng(7)

    def points(seed: int) -> Any:
        runs = [run(n, (400 / n * np.exp(0.02 * generator.standard_normal(12))).tolist()) for n in SIZES]
        return metrics.points(metrics.epochs_table(list(map(run_log, runs))), draws=400, seed=seed)

    worse = sum((compare_points(points(1), points(2))["verdict"] == WORSE).any() for _ in range(40))
    assert worse < 5


def test_the_interval_contains_the_change(tmp_path: Path) -> None:
    runs = [run(n, [9.0, *(400 / n + 0.1 * k for k in range(6))]) for n in SIZES]
    points = metrics.points(metrics.epochs_table(list(map(run_log, runs))))
    other = metrics.points(metrics.epochs_table(list(map(run_log, runs))), seed=2)
    table = compare_points(points, other)
    assert table["change"].tolist() == [0.0] * 5
    assert (table["change_low"] < 0).all()
    assert (table["change_high"] > 0).all()
    efficiency = table[table["quantity"] == "efficiency"].set_index("workers")["a"]
    curve = metrics.curve(points).set_index("workers")["efficiency"]
    assert efficiency.to_dict() == pytest.approx(curve[[16, 64]].to_dict())


def test_too_few_epochs_are_reported_and_give_status_2(tmp_path: Path) -> None:
    usual = {n: 400 / n for n in SIZES}
    few = study(tmp_path / "few", usual, 1, epochs=2)
    result = compared(few, study(tmp_path / "b", usual, 2))
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ")
    assert "too few epochs" in result.stderr
    # A size with enough epochs gets an answer, and the other sizes are named.
    study(few, {4: 100.0}, 3)
    result = compared(few, tmp_path / "b")
    assert result.exit_code == 2, result.output
    assert sum(line.endswith(UNKNOWN) for line in result.stdout.splitlines()) == 4
    assert "B is not worse than A beyond the noise and a loss of 1.0% in the comparisons with" in result.stdout
    assert (
        "Too few epochs to decide: 16 workers (events/s), 16 workers (efficiency), 64 workers (events/s), "
        "64 workers (efficiency)." in result.stdout
    )
    # A worse size counts, even if other sizes have too few epochs.
    study(few, {4: 50.0}, 3)
    result = compared(few, tmp_path / "b")
    assert result.exit_code == 1, result.output
    assert "Too few epochs to decide: 16 workers" in result.stdout


def test_studies_that_cannot_be_compared_are_an_error(tmp_path: Path) -> None:
    a = study(tmp_path / "a", {4: 100.0}, 1)
    b = study(tmp_path / "b", {8: 50.0}, 2)
    result = compared(a, b)
    assert result.exit_code == 2
    assert "A has 4, B has 8" in result.stderr
    bf16 = write(tmp_path / "c", header(4, {"precision": "bf16"}), *(epoch(i) for i in range(1, 6)), end(5))
    result = compared(a, bf16)
    assert result.exit_code == 2
    assert "precision: 'bf16'" in result.stderr
    assert compared(a, bf16, "--allow-different").exit_code in (0, 1)
    assert compared(a, tmp_path / "missing").exit_code == 2
    points = metrics.points(metrics.epochs_table([run_log(run(4, [9.0, 1.0, 1.0]))]))
    with pytest.raises(RecordError, match="baseline is 5 workers"):
        compare_points(points, points, baseline=5)


def test_only_sizes_with_a_single_run_are_named_as_such(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for repeat in range(2):
            study(tmp_path / name / str(repeat), {4: 100.0}, 2 * repeat + (name == "b"))
    study(tmp_path / "a", {16: 25.0}, 5)
    for repeat in range(2):
        study(tmp_path / "b" / str(repeat), {16: 25.0}, 7 + repeat)
    result = compared(tmp_path / "a", tmp_path / "b")
    assert result.exit_code == 0, result.output
    assert "only one run at 16 workers: " in result.stdout


@pytest.mark.parametrize("events", [None, 1000])
def test_the_efficiency_of_weak_scaling_includes_the_growing_work(events: int | None) -> None:
    """10 s on 4 workers and 12.5 s on 16 workers with 4 times the work give 80%."""
    logs = [
        log(n, [9.0, s, s, s], events=events and n * events, train_events=events and n * events)
        for n, s in ((4, 10.0), (16, 12.5))
    ]
    table = metrics.points(metrics.epochs_table(logs))
    result = compare_points(table, table, mode="weak")
    assert result[result["quantity"] == "efficiency"][["a", "b"]].to_numpy().tolist() == [[pytest.approx(0.8)] * 2]
    curve = metrics.curve(table, mode="weak")
    assert curve["efficiency"].tolist() == pytest.approx([1.0, 0.8])
    with pytest.raises(RecordError, match="mode 'strange' is unknown"):
        compare_points(table, table, mode="strange")


def test_the_command_uses_the_mode_and_takes_exactly_two_studies(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text(
            "workers,seconds\n" + "".join(f"{n},{s + 0.01 * k}\n" for n, s in ((4, 10.0), (16, 12.5)) for k in range(5))
        )
    files = tmp_path / "a.csv", tmp_path / "b.csv"
    weak, strong = (compared(*files, "--mode", mode) for mode in ("weak", "strong"))
    assert [("80.0%" in result.stdout, "20.0%" in result.stdout) for result in (weak, strong)] == [
        (True, False),
        (False, True),
    ]
    refused = compared(*files, "--baseline-from", files[0])
    assert refused.exit_code == 2
    assert "No such option" in refused.stderr
    assert compared(*files, files[0]).exit_code == 2
