"""Every reader returns the numbers in its logs. Missing facts come from hints and from names of files."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from scaling.parsers import Hints, read_runs
from scaling.records import RecordError
from scaling.runs import RunLog
from tests.support.environment import DATA

LOGS = DATA / "logs"


def read(path: Path, **hints: object) -> RunLog:
    runs = read_runs([path], Hints(**hints))  # type: ignore[arg-type]
    assert len(runs) == 1
    return runs[0]


def written(folder: Path, text: str, name: str = "train.log") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


def seconds(run: RunLog) -> list[tuple[int, float]]:
    return [(each.epoch, each.seconds) for each in run.epochs]


def test_a_3dgan_log_of_horovod() -> None:
    run = read(LOGS / "3dgan-horovod.log")
    assert run.format == "3dgan"
    assert (run.workers, run.batch_size, run.global_batch_size, run.train_events) == (32, 8, 256, 180000)
    assert seconds(run) == [(1, 131.7), (2, 121.7), (3, 121.2)]
    # The log claims 703.125 batches. 703 batches of 256 events are processed.
    assert {(each.steps, each.events) for each in run.epochs} == {(703, 703 * 256)}
    assert run.epochs[1].losses == {"generator": 12.5, "discriminator": 8.25}
    assert run.status == "complete"
    assert run.notes == ("The time of an epoch includes saving the weights.",)


def test_a_3dgan_log_of_four_ranks_with_colours_and_progress_bars() -> None:
    run = read(LOGS / "3dgan-ranks.log")
    assert (run.workers, run.nodes) == (4, 2)
    assert seconds(run) == [(1, 123.5), (2, 113.25)], "the slowest rank's"
    assert run.epochs[0].steps == 43
    assert any(note.startswith("1 line looks like a record of 3DGAN") for note in run.notes)


@pytest.mark.parametrize("number", ["1e999", "1e100"])
def test_a_number_that_no_run_has_is_no_record(tmp_path: Path, number: str) -> None:
    log = tmp_path / "a.log"
    log.write_text(
        f"Total Training batches = {number} with 180000 events\nTime taken by epoch0 was {number} seconds.\n"
        "Time taken by epoch1 was 1784.25 seconds.\n"
    )
    run = read(log, workers=4)
    assert seconds(run) == [(2, 1784.25)]
    assert any(note.startswith("2 lines look like a record of 3DGAN") for note in run.notes)


@pytest.mark.parametrize(
    ("name", "hints", "workers", "expected"),
    [
        ("3dgan-angle.log", {"workers": 1}, 1, [(1, 1784.25), (2, 1780.5)]),
        ("3dgan-took-np16.log", {}, 16, [(1, 119.5), (2, 118.25), (3, 118.2)]),
        ("3dgan-tf-8gpus.log", {}, 8, [(1, 119.5), (2, 118.25), (3, 118.2)]),
        ("3dgan-conv2d-4nodes-2ppn.log", {}, 8, [(1, 2412.0), (2, 2390.5)]),
    ],
)
def test_the_older_forms_of_3dgan(
    name: str, hints: dict[str, int], workers: int, expected: Sequence[tuple[int, float]]
) -> None:
    run = read(LOGS / name, **hints)
    assert (run.workers, seconds(run)) == (workers, expected)


def test_validation_is_separate_if_the_log_has_its_time() -> None:
    run = read(LOGS / "3dgan-angle.log", workers=4, batch_size=32)
    assert [each.validation_seconds for each in run.epochs] == [61.5, 60.25]
    assert run.epochs[0].events == 1406 * 4 * 32


def test_validation_within_an_epoch_is_noted(tmp_path: Path) -> None:
    text = "Epoch 1 of 1\n\nTesting for epoch 1:\nThe 0 epoch took 12.5 seconds\n"
    assert "The time of an epoch includes the validation." in read(written(tmp_path, text), workers=2).notes


@pytest.mark.parametrize(
    "prefix", ["[1,{}]<stdout>:", "[1,{}]<stdout>: ", "[prterun-c1-7@1,{}]<stdout>:", "[{}] ", "{}: "]
)
def test_ranks_are_counted_from_prefixes(tmp_path: Path, prefix: str) -> None:
    lines = [f"{prefix.format(rank)}Epoch 1 took {rank + 10} sec" for rank in (3, 0, 5, 1, 2, 4)]
    run = read(written(tmp_path, "\n".join(lines)))
    assert (run.workers, seconds(run)) == (6, [(1, 15.0)])


def test_records_that_run_together_in_a_line_are_separated(tmp_path: Path) -> None:
    text = "Epoch 1 took 3 sec[1,1]<stdout>:Epoch 1 took 4 secEpoch 2 took 2 sec\n"
    assert seconds(read(written(tmp_path, text), workers=2)) == [(1, 4.0), (2, 2.0)]


def test_headers_show_that_numbers_count_from_0(tmp_path: Path) -> None:
    text = "Epoch 3 of 9\nEpoch 2 took 7 sec\nEpoch 4 of 9\nEpoch 3 took 8 sec\n"
    assert seconds(read(written(tmp_path, text), workers=2)) == [(3, 7.0), (4, 8.0)]


@pytest.mark.parametrize("start", ["Initialization time was 3 seconds\n", ""])
def test_only_the_newest_start_of_a_log_is_used(tmp_path: Path, start: str) -> None:
    first = "".join(f"Epoch {i} of 9\nThe {i - 1} epoch took {i}00 seconds\n" for i in (1, 2, 3))
    run = read(written(tmp_path, first + start + "Epoch 1 of 9\nThe 0 epoch took 50 seconds\n"), workers=2)
    assert seconds(run) == [(1, 50.0)]
    assert any("2 starts" in note for note in run.notes)
    resumed = first + "Initialization time is 3 seconds\nEpoch 3 of 9\nThe 2 epoch took 50 seconds\n"
    run = read(written(tmp_path, resumed), workers=2)
    assert (seconds(run), run.resumed_epochs) == ([(1, 100.0), (2, 200.0), (3, 50.0)], 2)


def test_a_long_log_gives_the_same_numbers_as_a_short_one(tmp_path: Path) -> None:
    """After many lines, the reader skips lines that repeat known facts, but never lines with times."""
    text = "Global batch size is: 16 / batch size is: 8\n"
    for number in range(40):
        text += f"[1,0]<stdout>:Epoch {number + 1} of 40\n[1,1]<stdout>:Epoch {number + 1} of 40\n"
        text += "".join(f"[1,{i % 2}]<stdout>:processed {i}/500 batches in 2.9123456789\n" for i in range(500))
        text += f"[1,0]<stdout>:processed 500/500 batches in 2[1,1]<stdout>:The {number} epoch took {number + 5} sec\n"
    run = read(written(tmp_path, text))
    assert seconds(run) == [(i + 1, i + 5.0) for i in range(40)]
    assert {each.events for each in run.epochs} == {8000}


def test_an_mlperf_log() -> None:
    run = read(LOGS / "mlperf.log")
    assert (run.format, run.workers, run.nodes, run.global_batch_size, run.batch_size) == ("mllog", 32, 8, 64, 2)
    assert run.train_events == 524288
    assert run.settings == {"benchmark": "cosmoflow"}
    assert seconds(run) == [(1, 120.0), (2, 119.0), (3, 118.0)], "first start to last stop over the ranks"
    assert [each.validation_seconds for each in run.epochs] == [20.0] * 3
    assert run.status == "complete"
    assert run.notes == ("1 line looks like an MLLOG record but cannot be read; left out.",)


def mlperf(*events: tuple[str, int, dict[str, object]]) -> str:
    return "".join(
        f":::MLLOG {json.dumps({'time_ms': time * 1000, 'key': key, 'value': None, 'metadata': metadata})}\n"
        for key, time, metadata in events
    )


def test_evaluation_within_an_epoch_does_not_count_in_its_time(tmp_path: Path) -> None:
    text = mlperf(("epoch_start", 10, {"epoch_num": 0}), ("eval_start", 50, {}), ("eval_stop", 57, {}))
    text += mlperf(("epoch_stop", 70, {"epoch_num": 0}), ("epoch_start", 80, {"epoch_num": 1}))
    run = read(written(tmp_path, text), workers=2)
    assert seconds(run) == [(1, 53.0)]
    assert run.epochs[0].validation_seconds == 7
    assert "1 epoch without both a start and a stop left out." in run.notes


def test_blocks_of_epochs_give_means(tmp_path: Path) -> None:
    text = mlperf(
        ("block_start", 0, {"first_epoch_num": 1, "epoch_count": 4}), ("block_stop", 80, {"first_epoch_num": 1})
    )
    text += mlperf(
        ("block_start", 90, {"first_epoch_num": 5, "epoch_count": 2}), ("block_stop", 120, {"first_epoch_num": 5})
    )
    run = read(written(tmp_path, text), workers=2)
    assert seconds(run) == [(1, 20.0), (2, 15.0)]
    assert any(note.startswith("Times are means") for note in run.notes)


def test_a_file_of_csvlogger() -> None:
    run = read(LOGS / "csvlogger-8workers.csv")
    assert (run.format, run.workers) == ("keras-csv", 8)
    assert seconds(run) == [(1, 131.5), (2, 121.5), (3, 121.25)]
    assert run.epochs[0].losses == {"loss": 14.25, "val_loss": 13.5}
    assert run.epochs[2].losses == {"loss": 11.75}
    assert "1 row incomplete or without a time; left out." in run.notes


def test_csvlogger_without_a_time_gives_an_error_with_the_option(tmp_path: Path) -> None:
    path = written(tmp_path, "epoch;loss;lap\n0;1.5;7\n1;1.25;6\n")
    with pytest.raises(RecordError, match=r"the columns are epoch, loss, lap\. .*--column seconds=NAME"):
        read(path, workers=2)
    assert seconds(read(path, workers=2, columns={"seconds": "lap"})) == [(1, 7.0), (2, 6.0)]


def test_a_horovod_timeline() -> None:
    run = read(LOGS / "horovod-timeline.json")
    assert (run.format, run.workers, run.summary) == ("timeline", 2, True)
    (only,) = run.epochs
    events = [each for each in json.loads((LOGS / "horovod-timeline.json").read_text()) if each["ph"] in "BE"]
    assert only.seconds == pytest.approx((events[-1]["ts"] - events[0]["ts"]) / 1e6)
    assert only.communication_seconds == pytest.approx(covered(events, ("MEMCPY_", "MPI_")))
    assert only.negotiation_seconds == pytest.approx(covered(events, ("NEGOTIATE_",)))


def covered(events: Sequence[dict[str, object]], names: tuple[str, ...]) -> float:
    """Return the seconds with at least one tensor in a phase of `names`, counted in microseconds."""
    stacks: dict[object, list[tuple[str, int]]] = {}
    inside: set[int] = set()
    for each in [*events, *({"ph": "E", "pid": pid, "ts": events[-1]["ts"]} for pid in range(9) for _ in range(3))]:
        stack = stacks.setdefault(each["pid"], [])
        if each["ph"] == "B":
            stack.append((str(each["name"]), int(str(each["ts"]))))
        elif stack:
            name, began = stack.pop()
            if name.startswith(names):
                inside.update(range(began, int(str(each["ts"]))))
    return len(inside) / 1e6


def test_a_timeline_without_an_end_is_read_with_a_note(tmp_path: Path) -> None:
    text = (LOGS / "horovod-timeline.json").read_text()
    run = read(written(tmp_path, text[: len(text) // 2], "timeline.json"))
    assert run.epochs[0].communication_seconds > 0
    assert any("has no end" in note for note in run.notes)


def test_the_v100_table_gives_a_run_per_row() -> None:
    runs = read_runs([LOGS / "v100.csv"])
    assert [(run.workers, run.epochs[0].seconds) for run in runs] == [
        (2, 1784),
        (8, 457),
        (32, 115),
        (64, 59),
        (128, 35),
    ]
    assert all(run.summary and run.format == "table" for run in runs)
    assert runs[1].source == f"{LOGS / 'v100.csv'}:3"


def test_the_user_can_give_the_meaning_of_columns() -> None:
    columns = {"seconds": "average_train_time", "workers": "num_replicas_in_sync", "setting.type": "precision"}
    runs = read_runs([LOGS / "replicas.json"], Hints(columns=columns))
    assert [(run.workers, run.epochs[0].seconds, run.settings) for run in runs] == [
        (2, 1784.0, {"type": "fp32"}),
        (8, 457.0, {"type": "fp32"}),
    ]
    with pytest.raises(RecordError, match=r"no column 'laps' for seconds; the columns are num_replicas"):
        read_runs([LOGS / "replicas.json"], Hints(columns={"seconds": "laps"}))
    with pytest.raises(RecordError, match="'colour' is unknown; expected workers, nodes, seconds"):
        read_runs([LOGS / "replicas.json"], Hints(columns={"colour": "laps", "seconds": "average_train_time"}))


def test_rows_with_an_epoch_make_one_run_for_the_same_workers_and_settings(tmp_path: Path) -> None:
    text = "workers,precision,epoch,seconds,events\n4,fp32,0,30,900\n4,fp32,1,20,900\n"
    text += "4,bf16,0,15,900\n8,fp32,0,16,\n8,fp32,1,x,9\n"
    runs = read_runs([written(tmp_path, text, "all.csv")])
    assert [(run.workers, run.settings["precision"], seconds(run)) for run in runs] == [
        (4, "fp32", [(1, 30.0), (2, 20.0)]),
        (4, "bf16", [(1, 15.0)]),
        (8, "fp32", [(1, 16.0)]),
    ]
    assert [run.epochs[0].events for run in runs] == [900, 900, None]
    assert not any(run.summary for run in runs)
    assert runs[0].notes == ("1 row of the table without a time or workers left out.",)


@pytest.mark.parametrize(
    "text",
    [
        '[{"workers": 4, "seconds": 2.5}, {"workers": 8, "seconds": 1.5}]',
        '{"workers": 4, "seconds": 2.5}\n{"workers": 8, "seconds": 1.5}\n',
        '{"workers": [4, 8], "seconds": [2.5, 1.5]}',
        '{"rows": [{"workers": 4, "seconds": 2.5}, {"workers": 8, "seconds": 1.5}], "by": "me"}',
        "workers\tseconds\r\n4\t2.5\r\n8\t1.5",
        '"workers", "seconds"\n"4", 2.5\n\n8, 1.5\n',
        "\ufeffworkers;seconds\n4;2.5\n8;1.5\n",
    ],
)
def test_tables_of_many_forms(tmp_path: Path, text: str) -> None:
    runs = read_runs([written(tmp_path, text, "table")])
    assert [(run.workers, run.epochs[0].seconds) for run in runs] == [(4, 2.5), (8, 1.5)]


def test_extra_p_lines_are_a_table(tmp_path: Path) -> None:
    text = (
        '{"params": {"p": 4}, "metric": "time", "value": 12.3}\n{"params": {"p": 8}, "metric": "time", "value": 7.1}\n'
    )
    runs = read_runs([written(tmp_path, text)], Hints(columns={"workers": "params.p", "seconds": "value"}))
    assert [(run.workers, run.epochs[0].seconds) for run in runs] == [(4, 12.3), (8, 7.1)]


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [
        ([0, 1, 2, 0, 1, 2], [[0, 1, 2], [3, 4, 5]]),
        ([1, 2, 1, 2, 3], [[0, 1], [2, 3, 4]]),
        ([2, 1, 3], [[1, 0, 2]]),
        ([1, 1, 2, 2], [[0, 3], [1, 2]]),
        (["", "", ""], [[0, 1, 2]]),
    ],
)
def test_an_epoch_that_occurs_again_starts_a_repeat(
    tmp_path: Path, epochs: Sequence[object], expected: Sequence[Sequence[int]]
) -> None:
    """The seconds of a row are its number plus 10."""
    text = "workers,epoch,seconds\n" + "".join(f"4,{epoch},{10 + row}\n" for row, epoch in enumerate(epochs))
    runs = read_runs([written(tmp_path, text, "all.csv")])
    assert [seconds(run) for run in runs] == [
        [(place, 10.0 + row) for place, row in enumerate(rows, start=1)] for rows in expected
    ]


def test_rows_with_the_same_run_column_stay_together(tmp_path: Path) -> None:
    text = "workers,run,epoch,seconds\n4,a,2,5\n4,b,1,7\n4,a,1,6\n4,b,1,8\n"
    assert [seconds(run) for run in read_runs([written(tmp_path, text, "all.csv")])] == [
        [(1, 6.0), (2, 5.0)],
        [(1, 7.0), (2, 8.0)],
    ]


@pytest.mark.parametrize("line", [":::MLLOG {garbage", ":::MLLOG {garbage}", ":::MLLOG {}", ":::MLLOG garbage"])
def test_a_line_that_only_looks_like_mllog_is_counted(tmp_path: Path, line: str) -> None:
    text = mlperf(("epoch_start", 10, {"epoch_num": 1}), ("epoch_stop", 70, {"epoch_num": 1}))
    text += ':::MLLOG {"time_ms": 1, "key": "Cache-Clear", "value": null}\n'
    run = read(written(tmp_path, text + f"{line}\n{line}\n"), workers=2)
    assert run.notes == ("2 lines look like an MLLOG record but cannot be read; left out.",)


LINE = "The 0 epoch took 121.7 seconds\n"


@pytest.mark.parametrize(
    ("name", "workers", "nodes"),
    [
        ("8nodes-4ppn.log", 32, 8),
        ("run_nodes=8_ppn4/out.log", 32, 8),
        ("np32.log", 32, None),
        ("np32/8nodes/out.log", 32, 8),
        ("64gpus-16nodes.txt", 64, 16),
        ("4-workers-per-node_2-nodes.log", 8, 2),
        ("gbs512-bs8.log", 64, None),
    ],
)
def test_sizes_are_found_in_usual_names(tmp_path: Path, name: str, workers: int, nodes: int | None) -> None:
    run = read(written(tmp_path, LINE, name))
    assert (run.workers, run.nodes) == (workers, nodes)
    assert any("from the file's path" in note for note in run.notes)


@pytest.mark.parametrize(
    "name", ["n8.log", "run-32-.log", "rank3.log", "gpu1.log", "8nodes.log", "4workers-8workers.log"]
)
def test_ambiguous_names_give_no_sizes(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        RecordError, match=r"does not contain the number of workers.*Give --workers N, or --name-pattern"
    ):
        read(written(tmp_path, LINE, name))


def test_an_option_wins_over_a_name_pattern_and_this_over_the_log(tmp_path: Path) -> None:
    path = tmp_path / "np4-n8-bf16.log"
    shutil.copy(LOGS / "3dgan-horovod.log", path)
    pattern = r"n(?P<workers>\d+)-(?P<precision>\w+)\.log"
    run = read(path, name_pattern=pattern)
    assert (run.workers, run.settings) == (8, {"precision": "bf16"})
    assert "workers: 8 in the match of --name-pattern, but 32 in the log." in run.notes
    assert read(path, name_pattern=pattern, workers=16).workers == 16
    assert read(path).workers == 32


@pytest.mark.parametrize(
    ("hints", "message"),
    [
        ({"name_pattern": "(["}, "is not a regular expression"),
        ({"name_pattern": "nodes"}, "has no named group"),
        ({"name_pattern": r"(?P<workers>train)"}, r"finds 'train' for workers; expected a number"),
        ({"workers": 0}, "workers is 0; expected 1 or more"),
    ],
)
def test_a_wrong_hint_gives_an_error_with_its_value(tmp_path: Path, hints: dict[str, object], message: str) -> None:
    path = written(tmp_path, LINE)
    with pytest.raises(RecordError, match=message):
        read(path, **hints)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"\x1f\x8b\x08\x00", "is compressed; .*Unpack it"),
        (b"\x89HDF\r\n\x1a\n" + bytes(range(256)) * 4, "the file is binary"),
        ("workers,seconds\n".encode("utf-16"), "is UTF-16"),
        (b"hello\n", "format of this file is unknown, it begins with 'hello'; expected a run.jsonl"),
        (b"Epoch 1 of 25\nprocessed 1/43 batches in 2.95\n", "log does not contain the time of an epoch"),
        (
            b"The 0 epoch took nan seconds\nTotal Training batches = 1 with 8 events",
            "1 line similar to a record cannot be read",
        ),
        (b':::MLLOG {"key": "run_start", "time_ms": 1}\n', "no epoch in its :::MLLOG lines has a start and a stop"),
        (b"workers,seconds\n4,x\n,2\n", r"no row of the table has both .* \(2 rows without\)"),
        (b'[{"workers": 4, "seconds": }]', "neither JSON nor JSON Lines"),
        (b'{"workers": [1, 2], "seconds": [1]}', "have different lengths"),
        (b'[\n{"ph": "M", "pid": 0}\n]', "contains no events of a Horovod timeline"),
    ],
)
def test_a_file_that_cannot_be_read_gives_an_error_with_its_path(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "log"
    path.write_bytes(content)
    with pytest.raises(RecordError, match=message) as caught:
        read(path, workers=4)
    assert str(path) in str(caught.value)


def test_a_path_that_is_not_a_file_gives_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no such file"):
        read(tmp_path / "missing")
    with pytest.raises(RecordError, match="not a regular file"):
        read(Path("/dev/zero"))
    with pytest.raises(RecordError, match="contains no file that can be read"):
        read(tmp_path)


def test_a_number_that_the_log_lacks_is_none_or_nan() -> None:
    run = read_runs([LOGS / "v100.csv"])[0]
    assert (run.nodes, run.batch_size, run.epochs[0].events) == (None, None, None)
    assert math.isnan(run.epochs[0].validation_seconds)
