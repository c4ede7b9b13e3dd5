"""Speed-up, efficiency, cost and breakdown equal calculations by hand and use the right epochs."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from scaling.metrics import PARTS, breakdown, curve, differences, epochs_table, notes, points
from scaling.metrics.bootstrap import effective_size, interval, median_draws
from scaling.records import RecordError
from scaling.runs import EpochTimes, RunLog
from tests.support.sample_logs import SETTINGS, log
from tests.support.sample_runs import run

V100 = {2: 1784.42, 4: 900.49, 8: 456.62, 16: 229.66, 32: 115.02, 64: 59.35, 128: 34.9}
"""Average seconds per epoch of 3DGAN, batch 96 per GPU, with prefetch (raw results of the ISC-HPC 2021 study)."""


def curve_of(*runs: RunLog, skip_epochs: int = 1, **options: Any) -> pd.DataFrame:
    return curve(points(epochs_table(runs, skip_epochs)), **options).set_index("workers")


def test_the_published_v100_series_gives_the_published_efficiencies() -> None:
    """E = T(2) 2 / (N T(N)) equals the authors' table to one decimal."""
    result = curve_of(*(log(n, [s], events=None) for n, s in V100.items()), skip_epochs=0)
    percent = (100 * result["efficiency"]).round(1)
    assert percent[[2, 8, 32, 64, 128]].tolist() == [100.0, 97.7, 97.0, 94.0, 79.9]
    assert result["speedup"].to_dict() == pytest.approx({n: 1784.42 / s for n, s in V100.items()})


def test_the_published_series_rounded_to_whole_seconds() -> None:
    """Rounded seconds change the efficiencies by tenths of a percent, within the rounding error."""
    rounded = {n: float(round(V100[n])) for n in (2, 8, 32, 64, 128)}
    assert list(rounded.values()) == [1784, 457, 115, 59, 35]
    result = curve_of(*(log(n, [s]) for n, s in rounded.items()), skip_epochs=0)
    assert (100 * result["efficiency"]).round(1).tolist() == [100.0, 97.6, 97.0, 94.5, 79.6]
    for n, figure in {8: 0.977, 32: 0.970, 64: 0.940, 128: 0.799}.items():
        lowest, highest = (2 * (1784 - d) / (n * (rounded[n] + d)) for d in (0.5, -0.5))
        assert lowest < figure < highest


def test_dropped_events_do_not_count_as_speed() -> None:
    """Half the time for 8192 instead of 9000 events is less than twice the speed, and the ideal time is smaller."""
    result = curve_of(log(1, [99, 10.0], events=9000), log(2, [99, 5.0], events=8192))
    assert result.loc[2, "events_per_second"] == pytest.approx(8192 / 5)
    assert result.loc[2, "speedup"] == pytest.approx(2 * 8192 / 9000)
    assert result.loc[2, "efficiency"] == pytest.approx(8192 / 9000)
    assert result.loc[2, "ideal_seconds"] == pytest.approx(5.0 * 8192 / 9000)


def test_the_first_epoch_is_left_out_and_the_median_taken() -> None:
    result = curve_of(log(1, [50.0, 10.0, 14.0, 11.0, 12.0]))
    assert result.loc[1, "seconds"] == 11.5
    assert result.loc[1, "events_per_second"] == pytest.approx(9000 / 11.5)
    assert result.loc[1, "n"] == 4
    assert curve_of(log(1, [50.0, 10.0, 14.0]), skip_epochs=0).loc[1, "seconds"] == 14.0
    assert curve_of(log(1, [50.0, 10.0, 14.0]), skip_epochs=2).loc[1, "n"] == 1


def test_repeats_are_pooled_each_without_its_first_epoch() -> None:
    result = curve_of(log(2, [90.0, 6.0, 8.0], name="a"), log(2, [90.0, 7.0], name="b"), log(1, [90.0, 14.0]))
    assert result.loc[2, ["seconds", "n", "runs"]].tolist() == [7.0, 3, 2]
    assert result.loc[2, "efficiency"] == pytest.approx(1.0)


def test_only_the_epochs_after_a_resume_are_used() -> None:
    times = [1.0, 1.0, 1.0, 9.0, 2.0, 2.2]
    runs = [log(2, times, resumed_epochs=3)]
    table = epochs_table(runs)
    assert table[table["used"]]["epoch"].tolist() == [5, 6]
    assert any("was resumed: only the epochs after epoch 3 are used" in note for note in notes(runs, table))


def test_an_interrupted_and_continued_epoch_is_left_out() -> None:
    pieces = [
        EpochTimes(epoch=i, seconds=s, events=9000, whole=w)
        for i, s, w in ((1, 9.0, True), (2, 1.0, False), (3, 5.0, True))
    ]
    runs = [log(1, [], epochs=pieces)]
    table = epochs_table(runs)
    assert points(table)["seconds"].tolist() == [5.0]
    assert notes(runs, table)[0] == "run-1/run.jsonl: 1 interrupted and continued epoch left out."


@pytest.mark.parametrize(("skip", "skipped"), [(1, "1 epoch"), (5, "5 epochs")])
def test_a_run_with_too_few_epochs_keeps_its_last_one_and_gets_a_note(skip: int, skipped: str) -> None:
    runs = [log(1, [12.0])]
    table = epochs_table(runs, skip)
    assert points(table)["seconds"].tolist() == [12.0]
    assert any(f"no epoch after the {skipped} to skip" in note for note in notes(runs, table, skip))


def test_a_run_without_epochs_is_left_out_with_a_note() -> None:
    runs = [log(1, [12.0, 10.0]), log(2, [])]
    table = epochs_table(runs)
    assert points(table)["workers"].tolist() == [1]
    assert "run-2/run.jsonl has no usable epoch and is left out." in notes(runs, table)
    with pytest.raises(RecordError, match="no finished epoch with a time in 1 run;"):
        epochs_table(runs[1:])


def test_epochs_without_a_time_or_events_are_left_out() -> None:
    runs = [log(1, [50.0, 10.0, math.nan, 0.0, math.inf])]
    table = epochs_table(runs)
    assert points(table)["seconds"].tolist() == [10.0]
    assert "run-1/run.jsonl: 3 epochs without a time or without events left out." in notes(runs, table)


@pytest.mark.parametrize("status", ["interrupted", "failed"])
def test_an_unfinished_run_is_used_with_a_note(status: str) -> None:
    runs = [log(1, [12.0, 10.0], status=status)]
    table = epochs_table(runs)
    assert len(points(table)) == 1
    assert any(f"ended as {status} after 2 finished epochs" in note for note in notes(runs, table))


def test_a_record_without_an_end_is_used_with_a_note() -> None:
    record = dataclasses.replace(run(1, [12.0, 10.0]), end=None)
    runs = [log(1, [12.0, 10.0], status="unknown", record=record)]
    assert any(
        "has no end record: it is still running or was killed" in note for note in notes(runs, epochs_table(runs))
    )


def test_notes_of_a_parser_are_shown_with_the_source() -> None:
    runs = [log(1, [9.0] * 3, notes=["2 lines left out."])]
    assert notes(runs, epochs_table(runs)) == [
        "run-1/run.jsonl: 2 lines left out.",
        "n = 2 at 1 worker: too few epochs for an interval.",
    ]


def test_sizes_with_few_epochs_get_a_note() -> None:
    runs = [log(1, [9.0, 1.0, 1.1]), log(2, [9.0, 0.6, 0.5]), log(4, [9.0, 0.3, 0.3, 0.3]), log(8, [0.1] * 7)]
    assert notes(runs, epochs_table(runs))[:-1] == ["n = 2 at 1, 2 workers: too few epochs for an interval."]


def test_sizes_with_one_run_get_one_note() -> None:
    runs = [log(1, [9.0] * 5), log(2, [9.0] * 5), log(4, [9.0] * 4, name="a"), log(4, [9.0] * 4, name="b")]
    runs.append(log(8, [9.0, 1.0]))
    [note] = [note for note in notes(runs, epochs_table(runs)) if note.startswith("Only one run")]
    assert "at 1, 2 workers:" in note
    assert "not between runs" in note


def test_a_row_that_stands_for_a_whole_run_is_not_skipped() -> None:
    runs = [log(1, [12.0], summary=True), log(2, [6.0, 5.0], summary=True)]
    table = epochs_table(runs)
    assert table["used"].all()
    assert not any("to skip" in note for note in notes(runs, table))


def test_communicators_are_compared_except_for_a_single_worker() -> None:
    def on(workers: int, name: str) -> RunLog:
        return log(workers, [9.0], settings={**SETTINGS, "communicator": name})

    assert differences([on(1, "none"), on(2, "horovod"), on(4, "horovod")]) == {}
    found = differences([on(1, "none"), on(2, "mpi"), on(4, "horovod")])
    assert found == {"communicator": {"mpi": ["run-2/run.jsonl"], "horovod": ["run-4/run.jsonl"]}}


def test_repeats_that_differ_much_get_a_note() -> None:
    equal = [log(1, [9.0, 1.0, 1.2, 1.1], name="a"), log(1, [9.0, 1.1, 1.0, 1.2], name="b")]
    assert notes(equal, epochs_table(equal)) == []
    different = [equal[0], log(1, [9.0, 2.0, 2.2, 2.1], name="b")]
    assert "2 repeats differ more from each other than their epochs do" in notes(different, epochs_table(different))[0]


def test_repeats_on_different_numbers_of_nodes_get_a_note() -> None:
    runs = [log(4, [9.0] * 8, nodes=1, name="a"), log(4, [9.0] * 8, nodes=2, name="b")]
    [note] = notes(runs, epochs_table(runs))
    assert note.startswith("4 workers: the repeats ran on different numbers of nodes (1, 2);")


def test_node_hours_core_hours_and_separate_times() -> None:
    run = log(8, [99, 1800.0], times={"validation_seconds": 20.0, "checkpoint_seconds": 3.0})
    row = curve_of(run).loc[8]
    assert row[["node_hours", "core_hours", "validation_seconds", "checkpoint_seconds"]].tolist() == [1, 48, 20, 3]
    unknown = curve_of(log(8, [99, 1800.0], nodes=None)).loc[8]
    assert unknown[["nodes", "node_hours", "core_hours"]].isna().all()


def test_a_baseline_in_the_middle() -> None:
    result = curve_of(log(1, [9, 16.0]), log(4, [9, 5.0]), log(8, [9, 2.5]), baseline=4)
    assert result["speedup"].tolist() == pytest.approx([5 / 16, 1, 2])
    assert result["efficiency"].tolist() == pytest.approx([1.25, 1, 1])
    assert result["ideal_speedup"].tolist() == [0.25, 1, 2]
    assert result["ideal_seconds"].tolist() == pytest.approx([20, 5, 2.5])


def test_a_baseline_that_no_run_has_is_an_error() -> None:
    with pytest.raises(RecordError, match=r"the runs have 1, 2 workers, but the baseline is 3 workers;"):
        curve_of(log(2, [9, 5.0]), log(1, [9, 10.0]), baseline=3)


def test_a_baseline_from_other_runs() -> None:
    """Intervals include the uncertainty of this baseline, even at its own size."""
    other = points(epochs_table([log(2, [9, 10.0, 11.0, 10.5]), log(4, [9, 5.0])]))
    result = curve_of(log(2, [9, 8.0, 8.0, 8.0, 8.0]), log(8, [9, 2.5]), baseline=2, reference=other)
    assert result["speedup"].tolist() == pytest.approx([10.5 / 8, 10.5 / 2.5])
    assert result["efficiency"].tolist() == pytest.approx([10.5 / 8, 10.5 / 10])
    assert result.loc[2, "speedup_low"] < 10.5 / 8 < result.loc[2, "speedup_high"]


def test_the_same_runs_as_their_own_reference_have_an_interval() -> None:
    """Equal draws on both sides would cancel, and the interval would have no width."""
    own = points(epochs_table([log(2, [9, 10.0, 11.0, 10.5, 10.2])]))
    row = curve(own, reference=own).iloc[0]
    assert row["speedup"] == 1
    assert row["speedup_high"] / row["speedup_low"] > row["seconds_high"] / row["seconds_low"]


def test_modes_without_events() -> None:
    """The same time on twice the workers has an efficiency of 50% for a fixed data set, and 100% for a growing one."""
    runs = [log(2, [9.0, 10.0], events=None), log(4, [9.0, 10.0], events=None)]
    table = epochs_table(runs)
    for mode, efficiency, ideal in (("fixed-local", 0.5, 5.0), ("strong", 0.5, 5.0), ("weak", 1.0, 10.0)):
        row = curve(points(table), mode=mode).iloc[1]
        assert (row["efficiency"], row["ideal_seconds"], row["mode"]) == (efficiency, ideal, mode)
    assert notes(runs, table)[0] == "Events are not known at 2, 4 workers: every epoch counts as the same work."
    with pytest.raises(RecordError, match="mode 'stron' is unknown; expected one of fixed-local, strong, weak"):
        curve(points(table), mode="stron")


def test_weak_scaling_with_events() -> None:
    result = curve_of(log(1, [9, 10.0], events=1000), log(8, [9, 12.5], events=8000), mode="weak")
    assert result.loc[8, ["speedup", "efficiency", "ideal_seconds"]].tolist() == pytest.approx([6.4, 0.8, 10.0])


def test_settings_separate_curves() -> None:
    bf16: dict[str, Any] = {"settings": {**SETTINGS, "precision": "bf16"}}
    runs = [log(1, [9.0, 4.0]), log(2, [9.0, 2.5]), log(2, [9.0, 2.0], **bf16), log(4, [9.0, 1.0], **bf16)]
    assert list(differences(runs)) == ["precision"]
    assert differences(runs, series=["precision"]) == {}
    result = curve(points(epochs_table(runs, series=["precision"])))
    assert result["series"].tolist() == ["precision bf16"] * 2 + ["precision fp32"] * 2
    assert result["baseline"].tolist() == [2, 2, 1, 1]
    assert result["efficiency"].tolist() == pytest.approx([1, 1, 1, 0.8])
    with pytest.raises(RecordError, match="no run has the setting 'colour' for a series; expected one of batch_size"):
        epochs_table(runs, series=["colour"])


def test_constant_times_have_intervals_without_width() -> None:
    result = curve_of(log(1, [10.0] * 9), log(2, [10.0] * 9), skip_epochs=0)
    assert result.loc[2, ["efficiency_low", "efficiency", "efficiency_high"]].tolist() == pytest.approx([0.5] * 3)


def test_intervals_include_the_uncertainty_of_the_baseline() -> None:
    """The width for the log ratio of two independent medians is the root of the sum of their squared widths."""
    generator = np.random.default_rng(3)
    unsteady = [10 * generator.lognormal(0, 0.05, 40) for _ in range(2)]
    runs = [log(n, times.tolist()) for n, times in zip((1, 2), unsteady, strict=True)]
    both = curve_of(*runs, skip_epochs=0)
    width = np.log(both["seconds_high"] / both["seconds_low"])
    ratio = math.log(both.loc[2, "speedup_high"] / both.loc[2, "speedup_low"])
    assert ratio == pytest.approx(math.hypot(width[1], width[2]), rel=0.1)
    assert math.isnan(both.loc[1, "efficiency_low"])
    steady = curve_of(log(1, [10.0] * 40), runs[1], skip_epochs=0)
    assert math.log(steady.loc[2, "speedup_high"] / steady.loc[2, "speedup_low"]) == pytest.approx(width[2], rel=0.05)


def test_the_draws_of_a_point_do_not_depend_on_other_points() -> None:
    unsteady = [10.0, 11.0, 12.0, 10.5]
    alone, among = curve_of(log(4, unsteady)), curve_of(log(4, unsteady), log(2, [9.0, 30.0]), baseline=4)
    assert alone.loc[4, "seconds_high"] == among.loc[4, "seconds_high"]


# The nominal coverage is 95%. Each bound is the measured coverage minus 4 standard errors of 400 samples.
@pytest.mark.parametrize(
    ("repeats", "epochs", "between", "least"),
    [(1, 3, 0, 0.87), (1, 6, 0, 0.93), (1, 20, 0, 0.91), (3, 5, 0, 0.93), (5, 5, 1, 0.90), (2, 5, 1, 0.80)],
)
def test_intervals_have_their_nominal_coverage(repeats: int, epochs: int, between: float, least: float) -> None:
    generator = np.random.default_rng(5)
    covered = 0
    for sample in range(400):
        offsets = generator.normal(0, between, (repeats, 1))
        times = np.exp(0.05 * (offsets + generator.normal(0, 1, (repeats, epochs))))
        low, high = interval(median_draws(list(times), (sample,), draws=400))
        covered += low <= 1 <= high
    assert covered / 400 > least


def test_equal_repeats_count_their_epochs_and_different_ones_count_as_one_each() -> None:
    generator = np.random.default_rng(1)
    equal = [generator.lognormal(0, 0.05, 10) for _ in range(6)]
    different = [factor * part for factor, part in zip((1, 2, 3, 4, 5, 6), equal, strict=True)]
    assert effective_size(equal) > 30
    assert effective_size(different) == pytest.approx(6, rel=0.05)
    assert effective_size(equal[:1]) == 10
    assert effective_size([part[:1] for part in equal]) == 6
    assert effective_size([np.full(4, 2.0)] * 2) == 8


def test_repeats_of_different_length_are_resampled_within_their_epochs() -> None:
    """Equal values give only this value. With two repeats of lengths 1 and 9, a median comes from one of them."""
    drawn = np.unique(median_draws([np.full(3, 5.0), np.full(8, 5.0)], (1,), draws=300))
    assert drawn == pytest.approx([5.0])
    mixed = np.log(median_draws([np.full(2, 1.0), np.full(8, 9.0)], (1,), draws=300))
    assert len(np.unique(mixed.round(9))) == 2


@settings(deadline=None)
@given(st.lists(st.lists(st.floats(0.1, 1e6), min_size=1, max_size=6), min_size=1, max_size=4))
def test_an_interval_is_ordered_and_is_missing_for_fewer_than_three_values(repeats: list[list[float]]) -> None:
    low, high = interval(median_draws([np.array(part) for part in repeats], (1,), draws=100))
    if sum(map(len, repeats)) < 3:
        assert math.isnan(low)
        assert math.isnan(high)
    else:
        assert 0 <= low <= high


@settings(deadline=None, max_examples=50)
@given(
    st.dictionaries(
        st.integers(1, 4096), st.lists(st.floats(0.01, 1e5), min_size=2, max_size=6), min_size=1, max_size=5
    ),
    st.data(),
)
def test_any_study_gives_a_consistent_curve(study: dict[int, list[float]], data: st.DataObject) -> None:
    baseline = data.draw(st.sampled_from(sorted(study)))
    result = curve_of(*(log(n, s) for n, s in study.items()), baseline=baseline)
    assert result.index.tolist() == sorted(study)
    assert result.loc[baseline, "efficiency"] == pytest.approx(1)
    assert (result["efficiency"] * result.index / baseline).tolist() == pytest.approx(result["speedup"].tolist())
    times = result["seconds"]
    assert result["speedup"].tolist() == pytest.approx((times[baseline] / times).tolist())
    known = result.dropna(subset=["efficiency_low"])
    assert (known["efficiency_low"] <= known["efficiency_high"]).all()


def test_runs_of_different_sizes_can_be_compared() -> None:
    assert differences([log(1, [9.0]), log(64, [9.0])]) == {}


@pytest.mark.parametrize(
    ("name", "fields", "seen"),
    [
        ("batch_size", {"batch_size": 16}, "16"),
        ("filters", {"settings": {**SETTINGS, "filters": "original"}}, "original"),
        ("new_option", {"settings": {**SETTINGS, "new_option": "True"}}, "True"),
        ("train_events", {"train_events": 4500}, "4500"),
        ("train_events", {"train_events": None}, "not recorded"),
    ],
)
def test_other_differences_are_reported(name: str, fields: dict[str, Any], seen: str) -> None:
    found = differences([log(1, [9.0]), log(2, [9.0], **fields)])
    assert list(found) == [name]
    assert found[name][seen] == ["run-2/run.jsonl"]
    assert [path for paths in found[name].values() for path in paths] == ["run-1/run.jsonl", "run-2/run.jsonl"]


def test_each_mode_keeps_other_sizes_equal() -> None:
    weak = [log(n, [9.0], train_events=900 * n, settings={"events": str(1000 * n)}) for n in (1, 8)]
    assert differences(weak, mode="weak") == {}
    assert list(differences(weak)) == ["events", "train_events"]
    strong = [log(n, [9.0], batch_size=64 // n, global_batch_size=64, settings={"batch_size": str(n)}) for n in (1, 8)]
    assert differences(strong, mode="strong") == {}
    assert list(differences(strong)) == ["batch_size"]
    assert list(differences([log(1, [9.0]), log(8, [9.0])], mode="strong")) == ["global_batch_size"]


def test_breakdown_adds_up_and_explains_the_efficiency() -> None:
    """1 worker computes 8 s of 10 s. 4 workers compute 2.4 s of 4 s, instead of 2 s at the speed of the baseline.

    The slowest rank computes 1.25 times as long. So the others wait for it in 0.6 s of the 1.2 s of exchange.
    """
    one = log(1, [99, 10.0], times={"input_seconds": 2.0, "communication_seconds": 0.0, "slowest_ratio": 1.0})
    four = log(4, [99, 4.0], times={"input_seconds": 0.4, "communication_seconds": 1.2, "slowest_ratio": 1.25})
    table = breakdown([one, four]).set_index("workers")
    assert table[list(PARTS)].sum(axis=1).tolist() == pytest.approx([1, 1])
    assert table.loc[4, list(PARTS)].tolist() == pytest.approx([2 / 4, 0.4 / 4, 0.6 / 4, 0.6 / 4, 0.4 / 4])
    assert table.loc[4, "load_balance"] == pytest.approx(1 / 1.25)
    assert table.loc[4, "communication_efficiency"] == pytest.approx(3.0 / 4)
    assert table.loc[4, "parallel_efficiency"] == pytest.approx(2.4 / 4)
    assert table.loc[4, "computation_scaling"] == pytest.approx(2 / 2.4)
    efficiency = curve_of(one, four).loc[4, "efficiency"]
    parallel = table["parallel_efficiency"]
    assert efficiency == pytest.approx(parallel[4] / parallel[1] * table.loc[4, "computation_scaling"])


def test_breakdown_names_the_slowest_rank_and_omits_runs_without_times() -> None:
    times = {"input_seconds": 2.0, "communication_seconds": 1.0, "slowest_ratio": 1.1}
    known = log(1, [99.0, 10.0], times=times, record=run(1, [99.0, 10.0]))
    table = breakdown([known, log(2, [99.0, 5.0])])
    assert table[["workers", "slowest_rank", "slowest_host"]].values.tolist() == [[1, 0, "c001"]]
    assert breakdown([log(2, [99.0, 5.0])]).empty


def test_load_balance_is_missing_if_no_log_records_it() -> None:
    times = {"input_seconds": 1.0, "communication_seconds": 2.0}
    alone, four = log(1, [99, 10.0], times=times), log(4, [99, 10.0], times=times)
    eight = log(8, [99, 10.0, 20.0], times=times)
    mixed = [dataclasses.replace(e, slowest_ratio=1.2) if e.epoch == 3 else e for e in eight.epochs]
    table = breakdown([alone, four, dataclasses.replace(eight, epochs=mixed)]).set_index("workers")
    unknown = ["imbalance", "load_balance", "communication_efficiency"]
    assert table.loc[4, unknown].isna().all()
    assert table.loc[4, "communication"] == pytest.approx(0.2)
    assert table[list(PARTS)].sum(axis=1).tolist() == pytest.approx([1, 1, 1])
    assert table.loc[1, ["imbalance", "load_balance"]].tolist() == [0, 1], "one worker waits for nobody"
    # The epoch of 20 s has 17 s of computing. The slowest rank computes at least 2 s longer, which is the whole
    # exchange.
    assert table.loc[8, ["n", "load_balance", "communication"]].tolist() == pytest.approx([1, 17 / 19, 0])


def test_a_timeline_has_no_breakdown_because_its_exchange_overlaps() -> None:
    times = {"communication_seconds": 2.0, "negotiation_seconds": 1.0}
    assert breakdown([log(2, [10.0], times=times, summary=True)]).empty


@settings(deadline=None)
@given(st.floats(0, 20), st.floats(0, 20), st.floats(1, 3))
@example(waiting=20.0, exchange=0.0, ratio=1.0)
@example(waiting=5.0, exchange=15.0, ratio=2.0)
def test_any_breakdown_sums_to_one(waiting: float, exchange: float, ratio: float) -> None:
    times = {"input_seconds": waiting, "communication_seconds": exchange, "slowest_ratio": ratio}
    assume(waiting + exchange <= 20)
    row = breakdown([log(2, [20.0], times=times)], skip_epochs=0).iloc[0]
    assert sum(row[part] for part in PARTS) == pytest.approx(1)
    assert min(row[part] for part in PARTS) >= -1e-12
