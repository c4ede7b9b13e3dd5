"""A folder gives its runs and nothing else. A record of this project gives all facts for the comparison of runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from scaling.cli import main
from scaling.metrics import differences, series_labels
from scaling.parsers import read_runs
from scaling.parsers.record import run_log
from scaling.records import RecordError, read_run
from scaling.runs import RunLog
from tests.scaling.test_parsers import LOGS, read, written
from tests.support.sample_runs import end, epoch, header, write


def test_a_record_of_this_project(tmp_path: Path) -> None:
    rows = [{"host": "c1", "cores": 12, "cpus": f"{12 * i}-{12 * i + 11}"} for i in range(4)]
    path = write(tmp_path, header(4, placement=rows), epoch(1), epoch(2, resumed_steps=3, slowest_ratio=1.5), end(2))
    run = read(tmp_path)
    # As texts, because a time that is not a number differs from itself.
    assert repr(run) == repr(run_log(read_run(path)))
    assert (run.format, run.workers, run.nodes, run.cores_per_node, run.status) == ("record", 4, 1, 48, "complete")
    assert [each.whole for each in run.epochs] == [True, False]
    assert run.epochs[1].slowest_ratio == 1.5
    assert run.settings["filters"] == "'16'"
    assert run.settings["data files"] == "'showers_0.h5' (10000 events)"
    assert "learning_rate" not in run.settings
    assert run.record is not None
    assert run.record.header.placement == tuple(rows)


def test_a_folder_gives_its_record_or_all_logs_below_it(tmp_path: Path) -> None:
    write(tmp_path / "b" / "8nodes", header(32), epoch(1))
    shutil.copy(LOGS / "3dgan-horovod.log", tmp_path / "b" / "8nodes" / "train.log")
    shutil.copy(LOGS / "3dgan-horovod.log", tmp_path / "a.log")
    written(tmp_path, "nothing to see", "notes.txt")
    written(tmp_path, "", "empty")
    written(tmp_path, '{"machine": "c1"}', "settings.json")
    runs = read_runs([tmp_path, tmp_path / "a.log"])
    assert [(run.format, run.source) for run in runs] == [
        ("3dgan", str(tmp_path / "a.log")),
        ("record", str(tmp_path / "b" / "8nodes" / "run.jsonl")),
    ]


def test_a_report_in_the_folder_of_a_study_is_not_read(tmp_path: Path) -> None:
    folders = []
    for workers in (1, 2, 4):
        folder = tmp_path / f"n{workers}-r1"
        write(folder, header(workers), *(epoch(i, 12.0 / workers) for i in range(1, 6)), end(5))
        folders.append(folder)
    written(tmp_path, '{"points": {"n1-r1": {"nodes": 1, "workers": 1}}}', "study.json")
    written(tmp_path, "job 41 began\n", "slurm-41.log")
    for _ in range(2):
        done = CliRunner().invoke(main, ["report", str(tmp_path), "--out", str(tmp_path / "report")])
        assert done.exit_code == 0, done.output
    assert (tmp_path / "report" / "scaling.json").exists()
    assert [run.source for run in read_runs([tmp_path])] == [str(folder / "run.jsonl") for folder in folders]


def test_a_report_may_be_in_the_folder_of_the_logs(tmp_path: Path) -> None:
    shutil.copy(LOGS / "v100.csv", tmp_path)
    expected = read_runs([tmp_path])
    for name in ("scaling.csv", "scaling.json"):
        written(tmp_path, '{"workers": [4, 8], "seconds": [2.5, 1.5]}', name)
    assert len(read_runs([tmp_path])) == len(expected) + 4, "without a report they are ordinary tables"
    written(tmp_path, "<html>", "scaling.html")
    assert repr(read_runs([tmp_path])) == repr(expected)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("stray.json", '{"workers": 4}'),
        ("stray.json", '[{"seconds": 4.5}]'),
        ("stray.json", '{"workers": 4, "seconds": '),
        ("stray.csv", "workers,colour\n4,red\n"),
        ("stray.csv", "seconds,colour\n4,red\n"),
        ("losses.csv", "epoch,loss\n0,4.5\n"),
    ],
)
def test_a_table_without_times_or_workers_is_skipped_in_a_folder(tmp_path: Path, name: str, text: str) -> None:
    stray = written(tmp_path, text, name)
    with pytest.raises(RecordError, match=rf"no file that can be read; .*Skipped: .*{name}"):
        read_runs([tmp_path])
    shutil.copy(LOGS / "3dgan-horovod.log", tmp_path / "a.log")
    assert [run.source for run in read_runs([tmp_path])] == [str(tmp_path / "a.log")]
    with pytest.raises(RecordError, match=name):
        read_runs([stray])


def test_workers_of_a_table_in_a_folder_may_come_from_hints_or_its_name(tmp_path: Path) -> None:
    text = '[{"epoch": 1, "seconds": 3.5}, {"epoch": 2, "seconds": 2.5}]'
    written(tmp_path, text, "64ranks.json")
    assert read(tmp_path).workers == 64
    written(tmp_path / "other", text, "epochs.json")
    assert read(tmp_path / "other", workers=8).workers == 8


def test_a_record_takes_settings_from_the_user_but_keeps_its_counts(tmp_path: Path) -> None:
    rows = [{"host": "c1", "cores": 12, "cpus": f"{12 * i}-{12 * i + 11}"} for i in range(2)]
    write(tmp_path / "frontera-n4", header(4, placement=rows), epoch(1), end(1))
    plain = read(tmp_path)
    pattern = r"(?P<machine>[a-z]+)-n(?P<nodes>\d+)"
    run = read(tmp_path, name_pattern=pattern, cores_per_node=56, workers=4, batch_size=64)
    assert run.settings == {**plain.settings, "machine": "frontera"}
    assert (plain.cores_per_node, run.cores_per_node) == (24, 56)
    assert (run.workers, run.nodes, run.batch_size) == (4, 1, 8)
    assert set(run.notes) == {
        "batch size: 8 in the record is used, not 64 in the options.",
        "nodes: 1 in the record is used, not 4 in the match of --name-pattern.",
    }
    assert series_labels([run], ["machine"]) == ["machine frontera"]


def test_runs_with_different_software_are_not_comparable(tmp_path: Path) -> None:
    def on(number: int, communicator: str, **versions: str) -> RunLog:
        write(tmp_path / str(number), header(2, communicator=communicator, versions=versions), epoch(1), end(1))
        return read(tmp_path / str(number))

    first = on(1, "horovod", **{"tensorflow-cpu": "2.21.0", "numpy": "2.1"})
    assert differences([first, on(2, "horovod", tensorflow="2.21.0", numpy="2.2")]) == {}
    assert list(differences([first, on(3, "mpi", tensorflow="2.21.0")])) == ["communicator"]
    assert list(differences([first, on(4, "horovod", tensorflow="2.20.0")])) == ["tensorflow"]
