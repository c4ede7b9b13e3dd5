"""Speed-up and efficiency against figures worked out by hand, and the rules on which epochs count."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from scaling.metrics import curve, differences, epochs_table, median_interval, notes, points
from scaling.records import End, RecordError, Run, read_run
from tests.sample_runs import end, epoch, header, run, write


def curve_of(*runs: Run, skip_epochs: int = 1, baseline: int | None = None) -> pd.DataFrame:
    return curve(points(epochs_table(runs, skip_epochs)), baseline).set_index("workers")


def test_published_series_on_v100() -> None:
    """Seconds per epoch of 3DGAN on 2 to 128 GPUs (ISC-HPC 2021 raw results): E = T(2) 2 / (N T(N))."""
    seconds = {2: 1784.0, 8: 457.0, 32: 115.0, 64: 59.0, 128: 35.0}
    result = curve_of(*(run(n, [s]) for n, s in seconds.items()), skip_epochs=0)
    assert result["efficiency"].round(3).to_dict() == {2: 1.0, 8: 0.976, 32: 0.970, 64: 0.945, 128: 0.796}
    assert result["speedup"].to_dict() == pytest.approx({n: 1784.0 / s for n, s in seconds.items()})
    assert result["ideal_speedup"].to_dict() == {2: 1.0, 8: 4.0, 32: 16.0, 64: 32.0, 128: 64.0}


def test_dropped_events_do_not_count_as_speed() -> None:
    """Half the time for 8192 instead of 9000 events is less than twice as fast; the ideal time says so."""
    result = curve_of(run(1, [99, 10.0], events=9000), run(2, [99, 5.0], events=8192))
    assert result.loc[2, "events_per_second"] == pytest.approx(8192 / 5)
    assert result.loc[2, "speedup"] == pytest.approx(2 * 8192 / 9000)
    assert result.loc[2, "efficiency"] == pytest.approx(8192 / 9000)
    assert result.loc[2, "ideal_seconds"] == pytest.approx(5.0 * 8192 / 9000)


def test_the_first_epoch_is_left_out_and_the_median_taken() -> None:
    result = curve_of(run(1, [50.0, 10.0, 14.0, 11.0, 12.0]))
    assert result.loc[1, "seconds"] == 11.5
    assert result.loc[1, "events_per_second"] == pytest.approx(9000 / 11.5)
    assert result.loc[1, "n"] == 4
    assert curve_of(run(1, [50.0, 10.0, 14.0]), skip_epochs=0).loc[1, "seconds"] == 14.0
    assert curve_of(run(1, [50.0, 10.0, 14.0]), skip_epochs=2).loc[1, "n"] == 1


def test_repeats_are_pooled_each_without_its_first_epoch() -> None:
    result = curve_of(run(2, [90.0, 6.0, 8.0], name="a"), run(2, [90.0, 7.0], name="b"), run(1, [90.0, 14.0]))
    assert result.loc[2, ["seconds", "n", "runs"]].tolist() == [7.0, 3, 2]
    assert result.loc[2, "efficiency"] == pytest.approx(1.0)


def test_the_newest_part_of_a_resumed_run_counts(tmp_path: Path) -> None:
    old = (epoch(i, seconds=1.0) for i in range(1, 7))
    new = (epoch(i, seconds=s) for i, s in ((4, 9.0), (5, 2.0), (6, 2.2)))
    runs = [read_run(write(tmp_path, header(4), *old, header(2, resumed_epochs=3), *new, end(6)))]
    table = epochs_table(runs)
    assert table[table["used"]]["epoch"].tolist() == [5, 6]
    assert set(table["workers"]) == {2}
    assert any("was resumed; only epochs after 3 are used" in note for note in notes(runs, table))


@pytest.mark.parametrize("skip", [1, 5])
def test_a_run_too_short_to_skip_keeps_its_last_epoch_and_a_note(skip: int) -> None:
    runs = [run(1, [12.0])]
    table = epochs_table(runs, skip)
    assert points(table)["seconds"].tolist() == [12.0]
    assert any(f"no epoch beyond the {skip} to skip" in note for note in notes(runs, table, skip))


def test_a_run_without_epochs_is_left_out_with_a_note() -> None:
    runs = [run(1, [12.0, 10.0]), run(2, [])]
    table = epochs_table(runs)
    assert points(table)["workers"].tolist() == [1]
    assert "run-2/run.jsonl holds no epoch to use and is left out." in notes(runs, table)
    with pytest.raises(RecordError, match="of 1 run none holds a finished epoch"):
        epochs_table(runs[1:])


def test_epochs_without_a_time_or_events_do_not_count() -> None:
    runs = [run(1, [50.0, 10.0, math.nan, 0.0, math.inf])]
    table = epochs_table(runs)
    assert points(table)["seconds"].tolist() == [10.0]
    assert "run-1/run.jsonl: 3 epochs without a time or events left out." in notes(runs, table)


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (end(2, "interrupted"), "ended as interrupted"),
        (None, "has no end record: it is going on or was killed"),
    ],
)
def test_an_unfinished_run_is_used_with_a_note(last: End | None, said: str) -> None:
    runs = [dataclasses.replace(run(1, [12.0, 10.0]), end=last)]
    table = epochs_table(runs)
    assert len(points(table)) == 1
    assert any(said in note and "2 finished epochs" in note for note in notes(runs, table))


def test_few_epochs_are_said() -> None:
    runs = [run(1, [9.0, 1.0, 1.1]), run(2, [9.0, 0.6, 0.5]), run(4, [9.0, 0.3, 0.3, 0.3]), run(8, [0.1] * 7)]
    said = notes(runs, epochs_table(runs))
    assert said == [
        "n = 2 at 1, 2 workers: too few for an interval.",
        "n = 3 at 4 workers: the interval covers 75% at most.",
    ]


def test_repeats_on_unlike_nodes_are_said() -> None:
    runs = [run(4, [9.0] * 8, nodes=1, name="a"), run(4, [9.0] * 8, nodes=2, name="b")]
    assert notes(runs, epochs_table(runs)) == ["4 workers: repeats on different numbers of nodes (1, 2) are pooled."]


def test_a_baseline_in_the_middle() -> None:
    result = curve_of(run(1, [9, 16.0]), run(4, [9, 5.0]), run(8, [9, 2.5]), baseline=4)
    assert result["speedup"].tolist() == pytest.approx([5 / 16, 1, 2])
    assert result["efficiency"].tolist() == pytest.approx([1.25, 1, 1])
    assert result["ideal_speedup"].tolist() == [0.25, 1, 2]
    assert result["ideal_seconds"].tolist() == pytest.approx([20, 5, 2.5])


def test_a_baseline_that_nobody_ran() -> None:
    with pytest.raises(RecordError, match=r"baseline of 3 workers is in none of the runs, which have 1, 2;"):
        curve_of(run(2, [9, 5.0]), run(1, [9, 10.0]), baseline=3)


def test_intervals_follow_the_spread_and_carry_the_baseline() -> None:
    steady, unsteady = [10.0] * 9, [9.0, 10.0, 11.0] * 3
    exact = curve_of(run(1, steady), run(2, steady), skip_epochs=0)
    assert exact.loc[2, ["efficiency_low", "efficiency", "efficiency_high"]].tolist() == pytest.approx([0.5] * 3)
    loose = curve_of(run(1, unsteady), run(2, steady), skip_epochs=0)
    assert loose.loc[2, "efficiency_low"] == pytest.approx(0.5 * 9 / 10)
    assert loose.loc[2, "efficiency_high"] == pytest.approx(0.5 * 11 / 10)
    assert math.isnan(loose.loc[1, "efficiency_low"])
    both = curve_of(run(1, unsteady), run(2, unsteady), skip_epochs=0)
    far = math.hypot(math.log(10 / 9), math.log(11 / 10))
    assert both.loc[2, "speedup_high"] == pytest.approx(math.exp(far))


@pytest.mark.parametrize("n", [6, 15, 40])
def test_the_interval_covers_the_median_as_often_as_it_says(n: int) -> None:
    """Of 2000 samples of n log-normal epochs 95% or more hold the true median, 1; 93.5% is 3 sigma below."""
    samples = np.random.default_rng(5).lognormal(0, 0.1, (2000, n))
    limits = [median_interval(sample) for sample in samples]
    assert np.mean([low <= 1 <= high for low, high in limits]) > 0.935


@pytest.mark.parametrize("n", [3, 5, 6, 8, 9, 12, 20, 100, 1500])
def test_the_interval_leaves_out_what_the_binomial_allows(n: int) -> None:
    low, high = median_interval(np.random.default_rng(1).permutation(n).astype(float))
    assert low == n - 1 - high
    assert low == 0 or scipy.stats.binom.cdf(low, n, 0.5) <= 0.025
    assert scipy.stats.binom.cdf(low + 1, n, 0.5) > 0.025


@given(st.lists(st.floats(0.1, 1e6), min_size=1, max_size=20))
def test_an_interval_holds_its_median_and_stays_within_the_values(values: list[float]) -> None:
    low, high = median_interval(np.array(values))
    if len(values) < 3:
        assert math.isnan(low)
        assert math.isnan(high)
    else:
        assert min(values) <= low <= np.median(values) <= high <= max(values)


@given(
    st.dictionaries(st.integers(1, 4096), st.lists(st.floats(0.01, 1e5), min_size=2, max_size=6), min_size=1),
    st.data(),
)
def test_any_study_gives_a_curve_that_holds_together(study: dict[int, list[float]], data: st.DataObject) -> None:
    baseline = data.draw(st.sampled_from(sorted(study)))
    result = curve_of(*(run(n, s) for n, s in study.items()), baseline=baseline)
    assert result.index.tolist() == sorted(study)
    assert result.loc[baseline, "efficiency"] == pytest.approx(1)
    assert (result["efficiency"] * result.index / baseline).tolist() == pytest.approx(result["speedup"].tolist())
    times = result["seconds"]
    assert result["speedup"].tolist() == pytest.approx((times[baseline] / times).tolist())
    known = result.dropna()
    assert (known["efficiency_low"] <= known["efficiency"] * (1 + 1e-9)).all()
    assert (known["efficiency_high"] >= known["efficiency"] * (1 - 1e-9)).all()


def test_runs_of_other_sizes_and_lengths_are_alike() -> None:
    other = {"epochs": 3, "out": "elsewhere", "seed": 7, "learning_rate": 0.002}
    staged = ({"path": "/tmp/job/showers_0.h5", "events": 10000},)
    assert differences([run(1, [9.0]), run(64, [9.0], settings=other, files=staged)]) == {}


@pytest.mark.parametrize(
    ("name", "fields", "seen"),
    [
        ("batch_size", {"batch_size": 16}, "16"),
        ("filters", {"settings": {"filters": "original"}}, "'original'"),
        ("precision", {"settings": {"precision": "bf16"}}, "'bf16'"),
        ("new_option", {"settings": {"new_option": True}}, "True"),
        ("train_events", {"train_events": 4500}, "4500"),
        ("data files", {"files": ({"path": "x.h5", "events": 5000},)}, "'x.h5' (5000 events)"),
    ],
)
def test_other_differences_are_shown(name: str, fields: dict[str, Any], seen: str) -> None:
    found = differences([run(1, [9.0]), run(2, [9.0], **fields)])
    assert list(found) == [name]
    assert found[name][seen] == ["run-2/run.jsonl"]
    assert [path for paths in found[name].values() for path in paths] == [
        "run-1/run.jsonl",
        "run-2/run.jsonl",
    ]


def test_a_resume_that_finished_no_epoch_is_left_out_with_a_note(tmp_path: Path) -> None:
    other = run(2, [9.0, 5.0])
    cut = read_run(write(tmp_path, header(4), epoch(1), epoch(2), epoch(3), header(2, resumed_epochs=2)))
    table = epochs_table([other, cut])
    assert points(table)["n"].tolist() == [1]
    assert f"{cut.path} holds no epoch to use and is left out." in notes([other, cut], table)
