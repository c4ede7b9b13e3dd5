"""A scaling study is submitted, continued and reported. The cluster tests use a real Slurm."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from launcher.batch.slurm import Slurm
from launcher.batch.study_jobs import differences, parse_nodes, points_of
from launcher.batch.study_progress import progress_table, read_progress, wait_for_jobs
from launcher.batch.study_runs import make_report, run_points
from launcher.cli import cli
from launcher.errors import LaunchError
from scaling.records import End, RecordWriter
from scaling.records.studies import StudyFile, StudyPoint, read_study_file
from tests.support.environment import ROOT
from tests.support.sample_runs import epoch, header
from tests.support.slurm_site import Site

Run = Callable[..., Result]
COUNTS = st.integers(1, 999)


@pytest.fixture
def run_study(site: Site) -> Run:
    def call(*arguments: str, nodes: str = "1,2", machine: str = "generic") -> Result:
        usual = ["--machine", machine, "--nodes", nodes, "--data", "d/*.h5", "--out", "study", "--epochs", "3"]
        return CliRunner().invoke(cli, ["study", *usual, *arguments])

    return call


def record(folder: Path, status: str | None, epochs: int = 3, workers: int = 4, nodes: int = 1) -> None:
    """Write the record of a run that ended with this status; None for a run that has not ended."""
    writer = RecordWriter(folder / "run.jsonl")
    writer.write(header(workers, settings={"epochs": 3}, nodes=nodes))
    for number in range(1, epochs + 1):
        writer.write(epoch(number, seconds=40.0 / workers + 100 * (number == 1)))
    if status:
        writer.write(End(status=status, ended="2026-11-21T09:00:00+00:00", seconds=1.0, epochs=epochs))
    writer.close()


def names(site: Site) -> dict[int, str]:
    """Return the names of the submitted jobs, by job number."""
    return {job: text.split("--job-name=")[1].split("\n")[0] for job, text in site.scripts().items()}


@given(st.lists(COUNTS, min_size=1, max_size=8), st.sampled_from([",", ", "]))
def test_numbers_of_nodes_are_sorted(numbers: list[int], comma: str) -> None:
    assert parse_nodes(comma.join(map(str, numbers))) == tuple(sorted(set(numbers)))


@pytest.mark.parametrize("text", ["", "1,,2", "0", "-1", "1-4", "two", "1;2"])
def test_other_numbers_of_nodes_are_refused(text: str) -> None:
    with pytest.raises(LaunchError, match="expected numbers such as 1,2,4,8"):
        parse_nodes(text)


def test_every_size_comes_once_before_the_first_repeat() -> None:
    assert [point.name for point in points_of((1, 16), 2)] == ["n0001-r1", "n0016-r1", "n0001-r2", "n0016-r2"]


def test_differences_name_the_setting_and_both_values() -> None:
    old = {"data": ["a"], "arguments": [], "training": {"epochs": 3, "seed": 1}}
    new = {"data": ["a"], "arguments": ["--epochs", "5"], "training": {"epochs": 5, "new": None}}
    assert differences(old, old) == []
    assert differences(old, new) == [
        "training.epochs: 3 there, 5 now",
        "training.new: not given there, null now",
        "training.seed: 1 there, not given now",
    ]


def test_one_job_for_each_point_and_one_for_the_report(run_study: Run, site: Site) -> None:
    done = run_study("--repeats", "2", "--time", "0:30:00")
    assert done.exit_code == 0, done.output
    assert names(site) == {
        41: "3dgan-n0001-r1", 42: "3dgan-n0002-r1", 43: "3dgan-n0001-r2", 44: "3dgan-n0002-r2", 45: "3dgan-report",
    }  # fmt: skip
    assert site.calls("sbatch")[-1] == "--parsable --dependency=afterany:41:42:43:44"
    folder = Path.cwd() / "study"
    texts = site.scripts()
    assert texts[45].endswith(f"exec python -m scaling report {folder}/n*/run.jsonl --out {folder}/report\n")
    assert f"OUT={folder}/n0002-r2\n" in texts[44]
    # The scripts differ only in the number of nodes and in the name of the point.
    assert texts[41].replace("n0001", "n0002").replace("--nodes=1", "--nodes=2") == texts[42]
    kept = json.loads((folder / "study.json").read_text())
    assert [point["jobs"] for point in kept["points"]] == [[41], [43], [42], [44]]
    assert kept["report_job"] == 45
    assert "n0001-r1: job 41, 1 node, at most 00:30:00" in done.output


def test_points_with_a_record_or_a_job_are_left_alone(run_study: Run, site: Site) -> None:
    run_study("--repeats", "2")
    record(Path("study/n0001-r1"), "complete")
    record(Path("study/n0002-r1"), "failed", epochs=1)
    site.set_states("COMPLETED", [41])
    site.set_states("TIMEOUT", [42])
    site.set_states("RUNNING", [43])
    site.set_states("", [44])
    done = run_study("--repeats", "2")
    assert done.exit_code == 0, done.output
    assert "n0001-r1: complete already" in done.output
    assert "n0001-r2: job 43 is running" in done.output
    assert list(names(site).items())[5:] == [(46, "3dgan-n0002-r1"), (47, "3dgan-n0002-r2"), (48, "3dgan-report")]
    # The first report job does not wait for the new jobs.
    assert site.calls("scancel") == ["45"]
    assert site.calls("sbatch")[-1] == "--parsable --dependency=afterany:43:46:47"
    known = read_study_file(Path("study"))
    assert known is not None
    assert known.points["n0002-r1"].jobs == (42, 46)


def test_queued_jobs_are_not_submitted_again(run_study: Run, site: Site) -> None:
    run_study()
    again = run_study()
    assert again.exit_code == 0, again.output
    assert len(site.scripts()) == 3
    assert site.calls("scancel") == []


def test_a_cancelled_report_job_is_submitted_again(run_study: Run, site: Site) -> None:
    run_study()
    site.set_states("CANCELLED", [43])
    assert run_study().exit_code == 0
    assert site.calls("sbatch")[-1] == "--parsable --dependency=afterany:41:42"
    assert list(names(site).values())[3:] == ["3dgan-report"]


def test_a_study_accepts_new_sizes_and_repeats_but_no_other_configuration(run_study: Run, site: Site) -> None:
    run_study(nodes="1")
    assert run_study("--repeats", "2", "--time", "5", nodes="1,4").exit_code == 0
    known = read_study_file(Path("study"))
    assert known is not None
    assert sorted(known.points) == ["n0001-r1", "n0001-r2", "n0004-r1", "n0004-r2"]
    assert run_study("--batch-size", "8").exit_code == 0
    submitted = len(site.scripts())
    for change, message in (
        (("--epochs", "5"), "training.epochs: 3 there, 5 now"),
        (("--workers-per-node", "2"), "workers_per_node: 4 there, 2 now"),
        (("--data", "e"), "data: "),
    ):
        done = run_study(*change)
        assert done.exit_code == 2
        assert "holds a study of another configuration" in done.output
        assert message in done.output
    assert len(site.scripts()) == submitted


def test_the_same_command_continues_after_a_refusal(run_study: Run, site: Site) -> None:
    site.answer("refuse-after", "1")
    done = run_study()
    assert "Invalid account" in done.output
    (site.folder / "refuse-after").unlink()
    assert run_study().exit_code == 0
    assert list(names(site).values()) == ["3dgan-n0001-r1", "3dgan-n0002-r1", "3dgan-report"]


def test_limits_of_all_points_are_checked_first(run_study: Run, site: Site) -> None:
    for arguments, nodes, message in (
        ((), "1,869", "at most 868 nodes a job"),
        (("--time", "50"), "1", "for 50 hours"),
        (("--workers-per-node", "49"), "1", "expected 1 to 48"),
        (("--single-job",), "1,869", "at most 868 nodes a job"),
        (("--no-resume",), "1", "leave --no-resume out"),
    ):
        done = run_study(*arguments, nodes=nodes, machine="stampede2-skx")
        assert message in done.output
    assert "no batch system" in run_study(machine="single-node", nodes="1").output
    assert site.calls("sbatch") == []
    assert not Path("study").exists()


def test_nothing_is_submitted_without_the_controller(run_study: Run, site: Site) -> None:
    run_study(nodes="1")
    site.answer("down", "")
    assert "Unable to contact" in run_study().output
    assert len(site.scripts()) == 2


def test_a_dry_run_changes_nothing(run_study: Run, site: Site) -> None:
    done = run_study("--dry-run", nodes="2,4")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("#!/usr/bin/env bash\n")
    assert "n0004-r1: 4 nodes" in done.stderr
    assert (site.scripts(), Path("study").exists()) == ({}, False)


def test_a_single_job_runs_the_incomplete_points(run_study: Run, site: Site) -> None:
    record(Path("study/n0004-r1"), "complete")
    done = run_study("--single-job", "--stage-env", "--time", "4", nodes="1,2,4")
    assert done.exit_code == 0, done.output
    text = site.scripts()[41]
    assert "#SBATCH --nodes=2\n" in text
    assert "#SBATCH --signal=B:USR1@180\n" in text
    folder = Path.cwd() / "study"
    assert f"#SBATCH --output={folder}/slurm-%j.log\n" in text
    assert text.endswith(f"exec python -m launcher study --run-points {folder} --stage-env n0001-r1 n0002-r1\n")
    assert site.calls("sbatch")[-1] == "--parsable --dependency=afterany:41"
    again = run_study("--single-job", nodes="1,2,4")
    assert "n0002-r1: job 41 is pending" in again.output
    assert len(site.scripts()) == 2


@pytest.fixture
def inside(run_study: Run, site: Site, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Study of three points. Its `launcher run` adds its arguments to the file `runs`, then runs the file `end`."""
    assert run_study("--single-job", nodes="1,2,4").exit_code == 0
    python = site.bin / "python"
    python.write_text('#!/bin/sh\necho "$@" >> "$SITE/runs"\n[ ! -e "$SITE/end" ] || . "$SITE/end"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    return Path("study").absolute()


def test_points_run_in_turn_and_complete_ones_are_skipped(inside: Path, site: Site) -> None:
    record(inside / "n0002-r1", "complete")
    printed: list[str] = []
    assert run_points(inside, ["n0001-r1", "n0002-r1", "n0004-r1"], False, printed.append) == 0
    data = f"--data {Path.cwd()}/d/*.h5"
    assert (site.folder / "runs").read_text().splitlines() == [
        f"-m launcher run --machine generic --nodes {nodes} --workers-per-node 4 train {data} "
        f"--out {inside}/n000{nodes}-r1 --epochs 3"
        for nodes in (1, 4)
    ]
    assert "n0002-r1: complete already" in printed


def test_a_point_that_fails_does_not_stop_the_next(inside: Path, site: Site) -> None:
    site.answer("end", 'case "$*" in *n0001-r1*) exit 3 ;; *) exit 0 ;; esac')
    printed: list[str] = []
    assert run_points(inside, ["n0001-r1", "n0002-r1"], True, printed.append) == 1
    assert printed[-1] == "1 of 2 points failed: n0001-r1"
    assert [" --stage-env train " in line for line in (site.folder / "runs").read_text().splitlines()] == [True, True]


def test_no_point_starts_after_an_interruption(inside: Path, site: Site) -> None:
    site.answer("end", "exit 75")
    assert run_points(inside, ["n0001-r1", "n0002-r1"], False, print) == 75
    assert len((site.folder / "runs").read_text().splitlines()) == 1
    with pytest.raises(LaunchError, match="has no point n0003-r1; expected one of n0001-r1"):
        run_points(inside, ["n0003-r1"], False, print)


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_signals_reach_the_running_point(inside: Path, site: Site, number: signal.Signals) -> None:
    site.answer("end", f'trap "exit 75" {number.name[3:]}; echo ready > "$SITE/ready"; while :; do sleep 0.05; done')
    code = (
        "import sys, pathlib; from launcher.batch.study_runs import run_points; "
        f"sys.executable = {sys.executable!r}; "
        f"sys.exit(run_points(pathlib.Path({str(inside)!r}), ['n0001-r1', 'n0002-r1'], False, print))"
    )
    python = getattr(sys, "_base_executable", None) or "python3"
    process = subprocess.Popen([python, "-c", code], cwd=ROOT, env={**site.environ, "PYTHONPATH": ":".join(sys.path)})
    while not (site.folder / "ready").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(30) == 75
    assert len((site.folder / "runs").read_text().splitlines()) == 1


def test_progress_comes_from_slurm_and_from_the_record(run_study: Run, site: Site) -> None:
    run_study(nodes="1,2,3,4,5,6")
    record(Path("study/n0001-r1"), "complete")
    record(Path("study/n0002-r1"), None, epochs=2)
    record(Path("study/n0003-r1"), "interrupted", epochs=1)
    Path("study/n0004-r1/run.jsonl").write_text("{}\n")
    record(Path("study/n0006-r1"), "failed", epochs=0)
    site.answer("queue", "42 RUNNING\n43 TIMEOUT\n44 PENDING\n45 PENDING\n")
    site.answer("accounts", "41 COMPLETED\n")
    done = CliRunner().invoke(cli, ["study", "--status", "study"])
    assert done.exit_code == 0, done.output
    rows = [line.split("  ") for line in done.output.splitlines()]
    cells = [[cell.strip() for cell in row if cell] for row in rows]
    assert cells == [
        ["point", "nodes", "repeat", "job", "Slurm", "record", "s/epoch"],
        ["n0001-r1", "1", "1", "41", "COMPLETED", "complete", "10"],
        ["n0002-r1", "2", "1", "42", "RUNNING", "epoch 2 of 3", "-"],
        ["n0003-r1", "3", "1", "43", "TIMEOUT", "interrupted", "-"],
        ["n0004-r1", "4", "1", "44", "PENDING", "unreadable", "-"],
        ["n0005-r1", "5", "1", "45", "PENDING", "none", "-"],
        ["n0006-r1", "6", "1", "46", "UNKNOWN", "failed", "-"],
    ]


def test_progress_without_slurm(run_study: Run, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    run_study(nodes="1")
    monkeypatch.setenv("PATH", str(Path.cwd()))
    done = CliRunner().invoke(cli, ["study", "--status", "study"])
    assert done.output.startswith("Note: Slurm's states are missing: there is no squeue on PATH")
    assert done.output.splitlines()[-1].split() == ["n0001-r1", "1", "1", "41", "-", "none", "-"]
    assert "holds no study" in CliRunner().invoke(cli, ["study", "--status", "."]).output


def test_waiting_prints_changes_and_ends_with_the_jobs(run_study: Run, site: Site) -> None:
    run_study()
    printed: list[str] = []

    def one_completes() -> None:
        record(Path("study/n0001-r1"), "complete")
        site.set_states("COMPLETED", [41, 42])

    steps: list[Callable[[], None]] = [
        lambda: site.set_states("RUNNING", [41]),
        lambda: None,
        lambda: site.answer("down", ""),
        lambda: (site.folder / "down").unlink(),
        one_completes,
    ]
    points = wait_for_jobs(Path("study"), Slurm(), printed.append, 0.0, sleep=lambda _: steps.pop(0)())
    assert [line.split(" ", 1)[1] for line in printed] == [
        "0 of 2 points complete, 2 pending",
        "0 of 2 points complete, 1 pending, 1 running",
        "squeue refused: slurm_load_jobs error: Unable to contact slurm controller",
        "1 of 2 points complete",
    ]
    assert [one.complete for one in points] == [True, False]
    site.answer("down", "")
    with pytest.raises(LaunchError, match="Unable to contact"):
        wait_for_jobs(Path("study"), Slurm(), printed.append, 0.0, sleep=lambda _: None)


def test_the_report_is_made_when_all_points_are_complete(run_study: Run, site: Site) -> None:
    record(Path("study/n0001-r1"), "complete", workers=4, nodes=1)
    record(Path("study/n0002-r1"), "complete", workers=8, nodes=2)
    done = run_study("--wait")
    assert done.exit_code == 0, done.output
    assert site.scripts() == {}
    lines = Path("study/report/scaling.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == ["4", "8"]


def test_with_failed_points_the_report_covers_the_others_and_the_status_is_an_error(
    run_study: Run, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(LaunchError, match="no point in study has a record"):
        make_report(Path("study"))
    record(Path("study/n0001-r1"), "complete")
    (site.bin / "sbatch").write_text('#!/bin/sh\necho "41 FAILED" > "$SITE/queue"\necho 41\n')
    (site.bin / "python").write_text('#!/bin/sh\necho "$@" > "$SITE/report"\nexit $(cat "$SITE/status")\n')
    (site.bin / "python").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(site.bin / "python"))
    site.answer("status", "0")
    done = run_study("--wait", "--poll", "0.1")
    assert done.exit_code == 2
    assert "not complete: n0002-r1; see their logs" in done.output
    folder = Path.cwd() / "study"
    arguments = (site.folder / "report").read_text().strip()
    assert arguments == f"-m scaling report {folder}/n0001-r1/run.jsonl --out {folder}/report"
    site.answer("status", "2")
    with pytest.raises(LaunchError, match=r"no report: .* ended with status 2"):
        make_report(Path("study"))


def test_columns_of_the_table_are_aligned() -> None:
    points = {"a": StudyPoint(nodes=1, repeat=1), "b": StudyPoint(nodes=1000, repeat=10, jobs=(123456,))}
    study = StudyFile(folder=Path("/nowhere"), configuration={}, points=points)
    lines = progress_table(read_progress(study, None)).splitlines()
    assert len({line.index(cell) for line, cell in zip(lines, ("record", "none", "none"), strict=True)}) == 1
