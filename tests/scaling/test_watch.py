"""`python -m scaling watch DIR` with runs that begin, continue, stop and end."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from scaling.cli import main
from scaling.records import End, Epoch, Header, RecordError, RecordWriter
from scaling.records.studies import StudyFile, StudyPoint
from scaling.watch import look, watch
from tests.support.sample_runs import end, epoch, header, write


def console(terminal: bool = False) -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, force_terminal=terminal, width=140, color_system=None), text


def test_the_states_of_runs_and_of_points_that_have_not_begun(tmp_path: Path) -> None:
    write(tmp_path / "n0001-r1", header(4), epoch(1, 99.0), epoch(2, 20.0), epoch(3, 30.0), epoch(4, 10.0), end(4))
    write(tmp_path / "n0002-r1", header(8, nodes=2), epoch(1, 50.0), epoch(2, 12.5, slowest_rank=7))
    configuration = {"machine": "generic", "workers_per_node": 4, "data": ["d"], "arguments": []}
    points = [StudyPoint(nodes=nodes, repeat=1) for nodes in (1, 2, 4)]
    StudyFile(folder=tmp_path, configuration=configuration).with_points(points).save()
    one, two, three = look(tmp_path)
    assert (one.name, one.workers, one.status, one.epochs, one.total_epochs) == ("n0001-r1", 4, "complete", 4, 25)
    assert one.events_per_second == 9000 / 20
    assert one.settled
    assert (two.status, two.epochs, two.seconds) == ("running", 2, 12.5)
    assert two.efficiency == pytest.approx((9000 / 12.5 / 8) / (9000 / 20 / 4))
    assert two.slowest == "1.10 rank 7 on c001"
    assert two.left == 23 * 12.5
    assert (three.name, three.status, three.workers) == ("n0004-r1", "waiting", None)


def test_a_study_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "n0001-r1", header(4), epoch(1))
    (tmp_path / "study.json").write_text('{"points": [{"nodes": 1}]}')
    with pytest.raises(RecordError, match=r"study\.json is not the file of a study"):
        look(tmp_path)


def test_lines_follow_a_study_until_all_runs_have_ended(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path / "n1" / "run.jsonl")
    writer.write(header(4, {"epochs": 2}))
    to_come: list[Epoch | End] = [epoch(1, 30.0), epoch(2, 20.0), end(2)]
    looks = 0

    def sleep(seconds: float) -> None:
        nonlocal looks
        looks += 1
        assert seconds == 0.5
        # Every second read finds nothing new, and must print nothing.
        if looks % 2 == 0:
            writer.write(to_come.pop(0))
        if looks == 3:
            write(tmp_path / "n2", header(8, {"epochs": 1}), epoch(1, 15.0), end(1))

    shown, text = console()
    assert watch(tmp_path, shown, every=0.5, sleep=sleep)
    writer.close()
    said = [line.split(" ", 1)[1] for line in text.getvalue().splitlines()]
    assert said == [
        "n1: running, epoch 0 of 2",
        "n1: running, epoch 1 of 2, 30 s, 300 events/s, efficiency 100.0%",
        "n2: complete, epoch 1 of 1, 15 s, 600 events/s, efficiency 100.0%",
        "n1: running, epoch 2 of 2, 20 s, 450 events/s, efficiency 100.0%",
        "n1: complete, epoch 2 of 2, 20 s, 450 events/s, efficiency 100.0%",
    ]


def test_watch_waits_for_an_interrupted_run_but_not_for_a_failed_one(tmp_path: Path) -> None:
    path = write(tmp_path / "n1", header(4), epoch(1), end(1, "interrupted"))

    def resume(_: float) -> None:
        writer = RecordWriter(path)
        writer.write(header(4, resumed_epochs=1))
        writer.write(end(1, "failed"))
        writer.close()

    shown, text = console()
    assert not watch(tmp_path, shown, sleep=resume)
    assert [line.split()[2] for line in text.getvalue().splitlines()] == ["interrupted,", "failed,"]


def test_the_table_fits_on_the_terminal(tmp_path: Path) -> None:
    write(tmp_path / "[red]n1", header(4), epoch(1, 30.0), epoch(2, 20.0), end(2))
    shown, text = console(terminal=True)
    assert watch(tmp_path, shown)
    assert "[red]n1" in text.getvalue()
    assert "100.0%" in text.getvalue()
    narrow = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    watch(tmp_path, narrow, once=True)
    lines = narrow.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(lines)


def test_a_record_that_cannot_be_read_is_reported(tmp_path: Path) -> None:
    (tmp_path / "n1").mkdir()
    (tmp_path / "n1" / "run.jsonl").write_text("nonsense\n")
    (tmp_path / "n2").mkdir()
    (tmp_path / "n2" / "run.jsonl").touch()
    unreadable, begun = look(tmp_path)
    assert unreadable.status == "unreadable"
    assert "line 1" in unreadable.message
    assert begun.status == "waiting"


def test_earlier_attempts_inside_a_run_folder_are_not_shown(tmp_path: Path) -> None:
    write(tmp_path / "n1", header(4), epoch(1), end(1))
    write(tmp_path / "n1" / "earlier", header(4), epoch(1), end(1))
    assert [state.name for state in look(tmp_path)] == ["n1"]
    [alone] = look(tmp_path / "n1")
    assert alone.name == "."


def test_the_command_and_its_exit_status(tmp_path: Path) -> None:
    empty = CliRunner().invoke(main, ["watch", str(tmp_path), "--once"])
    assert empty.exit_code == 2
    assert "no run.jsonl yet" in empty.stderr
    assert CliRunner().invoke(main, ["watch", str(tmp_path / "missing")]).exit_code == 2
    write(tmp_path / "n1", header(4), epoch(1), epoch(2), end(2, "failed"))
    once = CliRunner().invoke(main, ["watch", str(tmp_path), "--once"])
    assert once.exit_code == 1
    assert "failed" in once.stdout
    followed = CliRunner().invoke(main, ["watch", str(tmp_path)])
    assert followed.exit_code == 1
    write(tmp_path / "n2", header(4), epoch(1), epoch(2), end(2))
    assert CliRunner().invoke(main, ["watch", str(tmp_path / "n2"), "--once"]).exit_code == 0
    write(tmp_path / "n3" / "running", header(4), epoch(1), epoch(2))
    assert CliRunner().invoke(main, ["watch", str(tmp_path / "n3"), "--once"]).exit_code == 1
    with pytest.raises(RecordError, match="not a folder"):
        watch(tmp_path / "n1" / "run.jsonl", Console(file=io.StringIO()))


def test_only_epochs_after_a_resume_give_the_rate(tmp_path: Path) -> None:
    before: list[Header | Epoch | End] = [header(4), *(epoch(i, 100.0) for i in range(1, 5)), end(4, "interrupted")]
    resumed = header(16, nodes=4, resumed_epochs=4)
    path = write(tmp_path / "n1", *before, resumed)
    [state] = look(tmp_path)
    assert (state.workers, state.epochs, state.history) == (16, 4, ())
    assert math.isnan(state.events_per_second)
    assert math.isnan(state.left)
    writer = RecordWriter(path)
    # The rest of an interrupted epoch gives no rate, and the first whole epoch includes start-up work.
    for record in (epoch(5, 3.0, resumed_steps=7), epoch(6, 90.0), epoch(7, 20.0), epoch(8, 30.0)):
        writer.write(record)
    writer.close()
    [state] = look(tmp_path)
    assert (state.epochs, state.seconds, state.history) == (8, 30.0, (90.0, 20.0, 30.0))
    assert state.events_per_second == (9000 / 20 + 9000 / 30) / 2
    assert state.left == 17 * 25.0


def test_the_baseline_is_the_median_of_the_smallest_runs(tmp_path: Path) -> None:
    for name, seconds in (("a", 20.0), ("b", 25.0), ("c", 10.0)):
        write(tmp_path / name, header(4), epoch(1, 99.0), epoch(2, seconds), end(2))
    assert [round(state.efficiency, 6) for state in look(tmp_path)] == [1.0, 0.8, 2.0]
