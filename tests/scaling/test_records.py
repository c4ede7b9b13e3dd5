"""Record files: written records are read back, and any other content gives a clear error."""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.records import (
    SCHEMA,
    STATUSES,
    End,
    Epoch,
    Header,
    RecordError,
    RecordWriter,
    StepTimes,
    from_line,
    read_run,
    to_line,
)
from tests.support.environment import ROOT
from tests.support.sample_runs import end, epoch, header, write

counts = st.integers(0, 2**62)
sizes = st.integers(1, 2**62)
numbers = st.floats(allow_nan=False, allow_infinity=False)
times = st.floats(min_value=0, allow_nan=False, allow_infinity=False)
words = st.text(max_size=20)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | numbers | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(words, plain, max_size=3)
tuples_of_objects = st.lists(objects, max_size=3).map(tuple)
steps = st.builds(StepTimes, median=times, p95=times, max=times)
headers = st.builds(
    Header,
    started=words,
    workers=sizes,
    nodes=sizes,
    batch_size=sizes,
    global_batch_size=sizes,
    train_events=counts,
    validation_events=counts,
    settings=objects,
    communicator=words,
    hosts=st.lists(words, max_size=3).map(tuple),
    placement=tuples_of_objects,
    placement_warnings=st.lists(words, max_size=3).map(tuple),
    versions=st.dictionaries(words, words, max_size=3),
    git_commit=words,
    precision=objects,
    threads=objects,
    files=tuples_of_objects,
    parameters=st.dictionaries(words, counts, max_size=3),
    resumed_epochs=counts,
)
epochs = st.builds(
    Epoch,
    epoch=sizes,
    seconds=times,
    validation_seconds=times,
    checkpoint_seconds=times,
    input_seconds=times,
    communication_seconds=times,
    events=counts,
    steps=counts,
    learning_rate=numbers,
    losses=st.dictionaries(words, numbers, max_size=3),
    step_seconds=steps,
    slowest_rank=counts,
    slowest_host=words,
    slowest_ratio=numbers,
    validation=st.dictionaries(words, numbers, max_size=3),
)
ends = st.builds(End, status=st.sampled_from(STATUSES), ended=words, seconds=times, epochs=counts, message=words)
records = st.one_of(headers, epochs, ends)


def fields_of(record: Any) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(to_line(record))
    return values


@given(records)
def test_a_line_is_read_back_as_the_same_record(record: Header | Epoch | End) -> None:
    line = to_line(record)
    assert "\n" not in line
    assert line.isascii()
    assert from_line(line) == record


@given(records, objects)
def test_unknown_fields_are_ignored(record: Header | Epoch | End, more: dict[str, Any]) -> None:
    values = {**{f"new {key}": value for key, value in more.items()}, **fields_of(record)}
    if "step_seconds" in values:
        values["step_seconds"]["p99"] = 1.0
    assert from_line(json.dumps(values)) == record


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_cannot_express_is_read_as_nan(value: float) -> None:
    line = to_line(epoch(1, losses={"generator": value}, slowest_ratio=value))
    assert json.loads(line)["losses"] == {"generator": None}
    read = from_line(line)
    assert isinstance(read, Epoch)
    assert math.isnan(read.losses["generator"])
    assert math.isnan(read.slowest_ratio)


def test_numpy_numbers_and_paths_can_be_written() -> None:
    numbers: dict[str, Any] = {"seconds": np.float32(2.5), "events": np.int64(7)}
    record = epoch(1, **numbers, losses={"generator": np.float32("nan")})
    read = from_line(to_line(record))
    assert isinstance(read, Epoch)
    assert (read.seconds, read.events) == (2.5, 7)
    started = from_line(to_line(header(settings={"out": Path("runs/a"), "filters": (8, np.int32(16))})))
    assert isinstance(started, Header)
    assert started.settings["out"] == "runs/a"
    assert started.settings["filters"] == [8, 16]


@given(st.text() | plain.map(json.dumps) | st.text().map(lambda text: to_line(header()) + text))
def test_any_text_is_a_record_or_a_record_error(text: str) -> None:
    with contextlib.suppress(RecordError):
        assert isinstance(from_line(text), Header | Epoch | End)


@given(records, st.data())
def test_a_field_of_any_value_is_a_record_or_a_record_error(record: Any, data: st.DataObject) -> None:
    values = fields_of(record)
    values[data.draw(st.sampled_from(sorted(values)))] = data.draw(plain | st.integers(-(10**400), 10**400))
    with contextlib.suppress(RecordError):
        assert isinstance(from_line(json.dumps(values)), Header | Epoch | End)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"record": ["epoch"]}, "'record' one of header, epoch, end"),
        ({"schema": SCHEMA + 1}, f"schema is {SCHEMA + 1}; expected {SCHEMA}"),
        ({"seconds": "10"}, "seconds is '10'; expected a number"),
        ({"seconds": -1.0}, "seconds is -1.0; expected 0 or more"),
        ({"events": 10.5}, "events is 10.5; expected a whole number"),
        ({"events": 10**400}, "expected a whole number"),
        ({"events": True}, "events is True; expected a whole number"),
        ({"epoch": 0}, "epoch is 0; expected 1 or more"),
        ({"losses": {"generator": "low"}}, "losses.generator is 'low'; expected a number"),
        ({"step_seconds": 3}, "step_seconds is 3; expected an object"),
        ({"step_seconds": {"median": 1.0}}, "StepTimes record lacks p95, max"),
        ({"slowest_host": None}, "slowest_host is None; expected a text"),
    ],
)
def test_a_wrong_field_of_an_epoch_is_named(change: dict[str, Any], message: str) -> None:
    line = json.dumps({**fields_of(epoch(1)), **change})
    with pytest.raises(RecordError) as caught:
        from_line(line)
    assert message in str(caught.value)


@pytest.mark.parametrize("line", ["", "{", "[]", "null", "3", "[" * 100_000, '{"a":' * 100_000, "9" * 5000])
def test_a_line_that_is_not_a_record_is_refused(line: str) -> None:
    with pytest.raises(RecordError):
        from_line(line)


def test_missing_fields_are_named() -> None:
    values = fields_of(header())
    del values["workers"], values["nodes"], values["hosts"]
    with pytest.raises(RecordError, match=r"Header record lacks workers, nodes$"):
        from_line(json.dumps(values))


@pytest.mark.parametrize("name", ["workers", "nodes", "batch_size", "global_batch_size"])
def test_a_count_of_zero_is_refused(name: str) -> None:
    with pytest.raises(RecordError, match=f"{name} is 0; expected 1 or more"):
        from_line(json.dumps({**fields_of(header()), name: 0}))


def test_an_unknown_status_is_refused() -> None:
    with pytest.raises(RecordError, match="status 'asleep' is unknown; expected one of complete"):
        end(3, status="asleep")


def test_a_file_is_read_from_its_path_and_from_its_folder(tmp_path: Path) -> None:
    path = write(tmp_path / "new" / "folder", header(4), epoch(1), epoch(2), end(2))
    run = read_run(path)
    assert run == read_run(path.parent)
    assert (run.header, run.epochs, run.end) == (header(4), (epoch(1), epoch(2)), end(2))
    assert run.complete
    assert (run.parts, run.truncated) == (1, False)


@settings(max_examples=40)
@given(st.data())
def test_a_file_cut_anywhere_gives_the_whole_lines_before_the_cut(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = write(tmp_path_factory.mktemp("cut"), header(2), epoch(1), epoch(2), end(2))
    first_line = path.read_bytes().index(b"\n") + 1
    cut = data.draw(st.integers(first_line, path.stat().st_size))
    os.truncate(path, cut)
    left = path.read_bytes()

    run = read_run(path)
    assert run.epochs == (epoch(1), epoch(2))[: left.count(b"\n") - 1]
    assert run.truncated == (not left.endswith(b"\n"))
    assert run.complete == (left.count(b"\n") == 4)

    writer = RecordWriter(path)
    writer.write(header(2, resumed_epochs=len(run.epochs)))
    writer.close()
    resumed = read_run(path)
    assert (resumed.epochs, resumed.parts, resumed.truncated) == (run.epochs, 2, False)


def test_a_last_line_of_broken_bytes_is_dropped(tmp_path: Path) -> None:
    path = write(tmp_path, header(), epoch(1))
    with path.open("ab") as file:
        file.write(b'{"record": "epoch", \xff\xfe\x00')
    run = read_run(path)
    assert run.truncated
    assert run.epochs == (epoch(1),)


def test_after_a_resume_the_newest_record_of_each_epoch_counts(tmp_path: Path) -> None:
    old = (epoch(i, seconds=1.0) for i in (1, 2, 3, 4, 5))
    path = write(tmp_path, header(4), *old, header(2, resumed_epochs=2), epoch(3, seconds=2.0))
    run = read_run(path)
    assert [(e.epoch, e.seconds) for e in run.epochs] == [(1, 1.0), (2, 1.0), (3, 2.0)]
    assert run.header.workers == 2
    assert run.parts == 2
    assert not run.complete


def test_a_resumed_run_does_not_end_with_the_end_of_its_first_part(tmp_path: Path) -> None:
    path = write(tmp_path, header(), epoch(1), end(1, "interrupted"), header(resumed_epochs=1), epoch(2))
    assert read_run(path).end is None
    write(tmp_path, end(2))
    assert read_run(path).complete


def test_a_line_separator_in_a_text_does_not_split_the_line(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    values = {**fields_of(header()), "git_commit": "a\u2028b\x85c"}
    path.write_text(json.dumps(values, ensure_ascii=False) + "\n", encoding="utf-8")
    assert read_run(path).header.git_commit == "a\u2028b\x85c"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "does not begin with a header"),
        (b"\x89HDF\r\n\x1a\n", "cannot be read"),
        (b"Epoch 1 of 25\n", "line 1: not a JSON object"),
        (to_line(epoch(1)).encode() + b"\n", "does not begin with a header"),
        (to_line(header()).encode(), "does not begin with a header"),
        (to_line(header()).encode() + b"\n\n" + to_line(epoch(1)).encode() + b"\n", "line 2: not a JSON"),
    ],
)
def test_a_file_that_is_not_a_record_gives_an_error_with_its_path(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "run.jsonl"
    path.write_bytes(content)
    with pytest.raises(RecordError) as caught:
        read_run(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_a_folder_without_a_record_gives_an_error_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"run\.jsonl: cannot be read"):
        read_run(tmp_path)


def test_a_full_disk_leaves_no_part_of_a_line(tmp_path: Path) -> None:
    """The kernel refuses to make the file longer in the middle of the header. Then there is space again."""
    program = """
import resource, sys
from pathlib import Path
from scaling.records import RecordWriter
from tests.support.sample_runs import end, header

_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
writer = RecordWriter(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (100, most))
try:
    writer.write(header())
except OSError as error:
    print(error.strerror, Path(sys.argv[1]).stat().st_size)
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
writer.write(header())
writer.write(end(0, "failed"))
writer.close()
"""
    path = tmp_path / "run.jsonl"
    done = subprocess.run([sys.executable, "-c", program, str(path)], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("File too large 0\n", "")
    last = read_run(path).end
    assert last is not None
    assert last.status == "failed"
