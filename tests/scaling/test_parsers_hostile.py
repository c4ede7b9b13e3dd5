"""Any file gives either runs or a RecordError, and the memory does not grow with the file."""

from __future__ import annotations

import math
import tempfile
import tracemalloc
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scaling.parsers import FORMATS, Hints, read_runs
from scaling.parsers.blocks import LONGEST_LINE, Blocks, lines_at, places, plain
from scaling.records import RecordError, to_line
from tests.benchmarks.parsing import FILES, generate
from tests.support.environment import DATA
from tests.support.sample_runs import end, epoch, header

LOGS = DATA / "logs"
CONTENTS = [path.read_bytes() for path in sorted(LOGS.iterdir()) if path.name != "README.md"]
CONTENTS.append("".join(f"{to_line(line)}\n" for line in (header(4), epoch(1), epoch(2), end(2))).encode())
FRAGMENTS = [
    *(
        b"Epoch ",
        b" of 25",
        b"The 0 epoch took ",
        b" seconds\n",
        b" took ",
        b"[1,3]<stdout>:",
        b"[0] ",
        b"\x1b[",
        b"\r",
    ),
    *(b"Time for Epoch: ", b"Total Training batches = ", b" with 180000 events", b"processed 1/43 batches in 2.95"),
    *(b"Global batch size is: 0 / batch size is: 0", b"On hostname c1 - After init using 1 memory", b"epoch,seconds\n"),
    *(b':::MLLOG {"key": "epoch_start", "time_ms": 1, "metadata": {"epoch_num": 1}}\n', b'"key": "epoch_stop"'),
    *(b'{"ph": "B", "name": "MPI_ALLREDUCE", "ts": 12, "pid": 1},', b'{"ph": "E", "ts": 15, "pid": 1},', b"[\n"),
    *(b"generator (train) | 1.5", b"workers,seconds\n", b",", b"\n", b'{"workers": ', b"[{", b"}]", b'"', b"1e308"),
    *(b"9" * 30, b"-1", b"0", b"nan", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b" " * 50),
]
HINTS = [
    Hints(workers=4),
    Hints(workers=4, batch_size=2**62),
    Hints(),
    Hints(columns={"seconds": "loss", "workers": "epoch"}),
]


def sound(path: Path, hints: Hints) -> bool:
    """Read a file, and return True if it gives runs. The only allowed error is a RecordError that names the path."""
    runs, error = [], None
    try:
        runs = read_runs([path], hints)
    except RecordError as refusal:
        error = str(refusal)
    if error is not None:
        assert str(path) in error
        return False
    assert runs
    for run in runs:
        assert run.workers >= 1
        assert run.format in {each.name for each in FORMATS}
        assert [each.epoch for each in run.epochs] == sorted({each.epoch for each in run.epochs})
        if run.format != "record":
            assert all(0 < each.seconds < math.inf for each in run.epochs)
    return True


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


few = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
names = st.sampled_from(["log", "run.jsonl"])


@few
@given(content=st.binary(max_size=300), name=names, hints=st.sampled_from(HINTS))
def test_random_bytes(folder: Path, content: bytes, name: str, hints: Hints) -> None:
    path = folder / name
    path.write_bytes(content)
    sound(path, hints)


@few
@given(parts=st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=5), max_size=25), hints=st.sampled_from(HINTS))
def test_fragments_of_all_formats(folder: Path, parts: list[bytes], hints: Hints) -> None:
    path = folder / "log"
    path.write_bytes(b"".join(parts))
    sound(path, hints)


@settings(few, max_examples=400)
@given(st.data())
def test_logs_with_bytes_replaced_inserted_or_removed(folder: Path, data: st.DataObject) -> None:
    content = data.draw(st.sampled_from(CONTENTS))
    for _ in range(data.draw(st.integers(1, 4))):
        begin = data.draw(st.integers(0, len(content)))
        length = data.draw(st.sampled_from([0, 0, 1, 3, 40]))
        inserted = data.draw(st.sampled_from(FRAGMENTS) | st.binary(max_size=3))
        content = content[:begin] + inserted + content[begin + length :]
    path = folder / "log"
    path.write_bytes(content)
    sound(path, data.draw(st.sampled_from(HINTS)))


@pytest.mark.parametrize("content", CONTENTS)
def test_a_log_cut_off_anywhere(folder: Path, content: bytes) -> None:
    path = folder / "log"
    read = []
    for cut in range(1, len(content), max(1, len(content) // 100)):
        path.write_bytes(content[:cut])
        read.append(sound(path, Hints(workers=4, columns={})))
    assert not read[0]


@given(st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\r", b"\r\n", b"x" * 100]), max_size=30), st.integers(1, 50))
def test_blocks_contain_every_line_once(parts: list[bytes], size: int) -> None:
    content = b"".join(parts)
    with pytest.MonkeyPatch.context() as patch, tempfile.NamedTemporaryFile() as file:
        path = Path(file.name)
        path.write_bytes(content)
        patch.setattr("scaling.parsers.blocks.BLOCK", size * 32)
        blocks = list(Blocks(path))
    assert b"".join(blocks) == content.replace(b"\r", b"\n")
    assert all(block.endswith(b"\n") for block in blocks[:-1])


@given(st.lists(st.sampled_from([b"one", b"two", b" ", b"\n", b"tw", b"o"]), max_size=30).map(b"".join))
def test_lines_with_a_mark_are_found_in_order(block: bytes) -> None:
    expected = [line for line in block.split(b"\n") if b"one" in line or b"two" in line]
    assert list(lines_at(places((b"two", b"one"), block), block)) == expected


def test_terminal_codes_are_removed() -> None:
    assert plain(b"\x1b[1;31mThe\x1b[0m 0\x08 \x1b]0;title\x07epoch\x1b[2K\x00") == b"The 0 epoch"


def endless_line(start: bytes, size: int) -> Iterator[bytes]:
    yield start
    yield from (b"x" * 1_000_000 for _ in range(size // 1_000_000))


@pytest.mark.parametrize(
    "start",
    [b"", b"The 0 epoch took 12 seconds\n", b":::MLLOG {", b'[\n{"ph":', b"epoch,seconds\n0,", b"[{", b'{"a":"'],
)
def test_a_line_without_end_does_not_fill_the_memory(folder: Path, start: bytes) -> None:
    path = folder / "log"
    with path.open("wb") as file:
        file.writelines(endless_line(start, 60_000_000))
    assert peak_memory(path) < 16 * LONGEST_LINE


@pytest.mark.parametrize("kind", sorted(FILES))
def test_memory_does_not_grow_with_the_log(folder: Path, kind: str) -> None:
    peaks = []
    for size in (6_000_000, 14_000_000):
        path = folder / "log"
        with path.open("wb") as file:
            file.writelines(generate(islice(FILES[kind](), 10_000_000), size))
        peaks.append(peak_memory(path))
    # Rows of a table are epochs, which stay in memory.
    assert peaks[1] < peaks[0] + (8_000_000 if kind == "table" else 1_000_000)


def peak_memory(path: Path) -> int:
    """Return the peak of Python's memory in bytes while a file is read or refused."""
    tracemalloc.start()
    try:
        sound(path, Hints(workers=4))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


ROWS = "workers,seconds\n" + "4,1.5\n" * 1001
EPOCHS = "".join(f"Epoch {number} took 1 sec\n" for number in range(1, 1002))


@pytest.mark.parametrize("content", [ROWS, EPOCHS])
def test_a_file_with_too_many_epochs_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    monkeypatch.setattr("scaling.parsers.formats.MOST_EPOCHS", 1000)
    path = folder / "log"
    path.write_text(content)
    with pytest.raises(RecordError, match="more than 1,000 epochs or rows"):
        read_runs([path], Hints(workers=4))
