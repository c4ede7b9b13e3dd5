"""`launcher run`: the choice of the starter, the exit status, and a run that is interrupted and continued."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.batch.library import family_of, mpi_family
from launcher.batch.outcome import COMPLETE, FAILED, INTERRUPTED, TargetRun, exit_status
from launcher.batch.run import find_job, pick_starter
from launcher.batch.run_cli import target_of
from launcher.batch.staging import plan_staging, staged_environment, write_archive
from launcher.cli import cli
from launcher.errors import LaunchError
from launcher.machines import load_machine
from scaling.records import RecordWriter, read_run
from tests.support.environment import ROOT, mpi_environment
from tests.support.processes import alive, assert_gone
from tests.support.runs import arguments, assert_equal_weights, wait_for, weights
from tests.support.sample_runs import end, epoch, header


def start_run(*words: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "launcher", "run", "--starter", "mpirun", *map(str, words)],
        cwd=ROOT, env=mpi_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def has_header(record: Path) -> bool:
    """Return True if the first line of a record is written, which means that the training has begun."""
    return record.exists() and b"\n" in record.read_bytes()


@pytest.mark.mpi
def test_an_interrupted_run_continues_to_the_same_weights(
    mpirun: str,
    shower_files: Path,
    two_ranks: tuple[Path, str],
    tmp_path: Path,
) -> None:
    same = ("--workers-per-node", 2, "train", *arguments(shower_files, tmp_path, "--epochs", 2, "--batch-size", 2))
    process = start_run(*same, "--deterministic")
    wait_for(lambda: has_header(tmp_path / "run.jsonl"), process)
    process.send_signal(signal.SIGUSR1)
    printed, errors = process.communicate(timeout=600)
    assert process.returncode == INTERRUPTED, printed + errors
    assert "SIGUSR1: asking ranks on 1 node to checkpoint and end" in printed
    before = read_run(tmp_path)
    assert before.end is not None
    assert before.end.status == "interrupted"
    assert "asked by SIGUSR1, rank 0" in before.end.message
    assert not (tmp_path / ".lock").exists()

    process = start_run(*same, "--deterministic")
    printed, errors = process.communicate(timeout=600)
    assert process.returncode == COMPLETE, printed + errors
    record = read_run(tmp_path)
    assert record.complete
    assert record.parts == 2
    assert (record.header.resumed_epochs, record.header.resumed_steps) == (before.end.epochs, before.end.steps)
    assert_equal_weights(weights(tmp_path, 2), weights(two_ranks[0], 2))

    process = start_run(*same, "--deterministic")
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == COMPLETE
    assert "is complete already: nothing to start" in printed


@pytest.mark.mpi
def test_no_rank_outlives_a_killed_launcher(mpirun: str, shower_files: Path, tmp_path: Path) -> None:
    process = start_run("--workers-per-node", 2, "train", *arguments(shower_files, tmp_path, "--epochs", 500))
    wait_for(lambda: has_header(tmp_path / "run.jsonl"), process)
    ranks = [int(row["pid"]) for row in read_run(tmp_path).header.placement]
    assert all(map(alive, ranks))
    process.kill()
    process.communicate()
    assert_gone(ranks)


@pytest.mark.mpi
def test_a_hangup_asks_for_a_checkpoint(mpirun: str, shower_files: Path, tmp_path: Path) -> None:
    process = start_run("--workers-per-node", 2, "train", *arguments(shower_files, tmp_path, "--epochs", 500))
    wait_for(lambda: has_header(tmp_path / "run.jsonl"), process)
    process.send_signal(signal.SIGHUP)
    printed, errors = process.communicate(timeout=600)
    assert process.returncode == INTERRUPTED, printed + errors
    assert "SIGHUP: asking ranks on 1 node to checkpoint and end" in printed
    end = read_run(tmp_path).end
    assert end is not None
    assert end.status == "interrupted"


@pytest.mark.mpi
def test_run_also_starts_other_commands(mpirun: str) -> None:
    process = start_run("--workers-per-node", 2, "exec", "--", "sh", "-c", "echo I am $OMPI_COMM_WORLD_RANK")
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "I am 0" in printed
    assert "I am 1" in printed


def test_more_nodes_than_the_job_has_are_refused() -> None:
    process = start_run("--nodes", 3, "--dry-run")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "--nodes is 3, but this machine, outside a Slurm job, has 1 node" in errors


def test_options_that_the_ranks_refuse_are_refused_before_the_start() -> None:
    process = start_run("train", "--no-such-option")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "No such option '--no-such-option'" in errors


def test_the_job_is_read_from_slurm_s_variables() -> None:
    job = find_job({"SLURM_JOB_ID": "42", "SLURM_JOB_NODELIST": "c[1-3]", "SLURM_RESTART_COUNT": "2"})
    assert (job.id, list(job.hosts), job.restarted) == (42, ["c1", "c2", "c3"], 2)
    assert find_job({}).hosts == (os.uname().nodename,)


def test_the_starter_of_the_machine_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("srun", "ibrun", "mpirun"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert pick_starter("auto", load_machine("stampede2-skx"), in_job=True) == "ibrun"
    assert pick_starter("auto", load_machine("generic"), in_job=True) == "srun"
    assert pick_starter("auto", load_machine("generic"), in_job=False) == "mpirun"
    assert pick_starter("mpirun", load_machine("generic"), in_job=True) == "mpirun"
    (tmp_path / "ibrun").unlink()
    assert pick_starter("auto", load_machine("stampede2-skx"), in_job=True) == "srun"
    with pytest.raises(LaunchError, match="no starter on PATH; expected ibrun"):
        pick_starter("ibrun", None, in_job=True)


@pytest.mark.parametrize(
    ("library", "family"),
    [
        ("Open MPI v5.0.11, package: Open MPI ...", "open_mpi"),
        ("Intel(R) MPI Library 2021.15 for Linux* OS", "intel_mpi"),
        ("MPICH Version:      4.3.2", "mpich"),
        ("Another MPI", None),
    ],
)
def test_the_mpi_family_is_recognized(library: str, family: str | None) -> None:
    assert family_of(library) == family


def test_the_mpi_of_this_environment_is_recognized(mpirun: str) -> None:
    assert mpi_family() in ("open_mpi", "intel_mpi", "mpich")


@pytest.mark.parametrize(
    ("status", "ended", "expected"),
    [
        (0, "complete", COMPLETE),
        (0, "interrupted", INTERRUPTED),
        (0, "failed", FAILED),
        (0, None, FAILED),  # srun after a node died
        (3, "complete", COMPLETE),  # an MPI that crashes after the end
        (143, "interrupted", INTERRUPTED),
        (3, None, 3),
        (-9, None, FAILED),
    ],
)
def test_the_record_decides_the_exit_status(tmp_path: Path, status: int, ended: str | None, expected: int) -> None:
    writer = RecordWriter(tmp_path / "run.jsonl")
    writer.write(header())
    writer.write(epoch(1))
    if ended:
        writer.write(end(1, ended))
    writer.close()
    assert exit_status(status, TargetRun(out=tmp_path, epochs=1)) == expected


def test_the_end_of_an_earlier_part_is_ignored(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path / "run.jsonl")
    for record in (header(), epoch(1), end(1, "interrupted")):
        writer.write(record)
    target = TargetRun(out=tmp_path, epochs=2)
    before = target.record_size()
    assert not target.wrote_end(before)
    assert exit_status(0, target, before) == FAILED
    writer.write(header(resumed_epochs=1))
    writer.write(end(1, "interrupted"))
    writer.close()
    assert target.wrote_end(before)
    assert exit_status(0, target, before) == INTERRUPTED


def test_a_command_without_a_record_keeps_its_status() -> None:
    assert exit_status(0, TargetRun()) == 0
    assert exit_status(7, TargetRun()) == 7


def test_the_target_is_read_from_the_ranks_arguments() -> None:
    options = ["--data", "x", "--out", "there", "--epochs", "3"]
    assert target_of(options, cli.commands) == TargetRun(out=Path("there"), epochs=3)
    assert target_of(["train", "--data", "x", "--no-resume"], cli.commands).resume is False
    assert target_of(["train", "--dry-run"], cli.commands) == TargetRun()
    assert target_of(["exec", "--", "true"], cli.commands) == TargetRun()


@pytest.mark.slow
def test_a_staged_environment_runs_without_the_shared_one(tmp_path: Path) -> None:
    """The Python in the unpacked archive imports all packages from it. It opens no file of the original environment."""
    if sys.prefix == sys.base_prefix:
        pytest.skip("this Python is in no virtual environment")
    archive = tmp_path / "env.tar"
    staging = plan_staging(archive, 2, tmp_path / "nodes")
    write_archive(archive, staging.folder, ROOT)
    staging.folder.mkdir()
    subprocess.run(["tar", "-xf", archive, "-C", staging.folder], check=True)
    look = (
        "import sys; sys.addaudithook(lambda e, a: e == 'open' and isinstance(a[0], str) and opened.append(a[0]));"
        "opened = []; import launcher.cli, numpy, h5py, mpi4py.MPI;"
        "print(sys.prefix, launcher.cli.__file__); print(sum(f.startswith(sys.argv[1]) for f in opened))"
    )
    done = subprocess.run(
        [str(staging.python), "-I", "-c", look, sys.prefix],
        cwd=ROOT, env=mpi_environment(), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, opened = done.stdout.splitlines()
    assert all(word.startswith(str(staging.folder)) for word in first.split())
    assert int(opened) == 0


def test_staging_sends_the_archive_to_all_nodes(tmp_path: Path) -> None:
    staging = plan_staging(tmp_path / "env.tar", 128, tmp_path / "nodes")
    make, send, unpack = staging.commands
    assert send == ("sbcast", str(tmp_path / "env.tar"), str(staging.folder / "env.tar"))
    for command in (make, unpack, staging.cleaning):
        assert "--nodes=128" in command
    assert staging.python.is_relative_to(staging.folder)


@pytest.mark.parametrize("there", ["folder", "link", "file"])
def test_staging_uses_nothing_that_is_there_before(tmp_path: Path, there: str) -> None:
    """Another user of the node could replace the Python of ranks that start from his folder."""
    folder, theirs = tmp_path / "nodes", tmp_path / "theirs"
    theirs.mkdir()
    {"folder": folder.mkdir, "link": lambda: folder.symlink_to(theirs), "file": folder.touch}[there]()
    make = plan_staging(tmp_path / "env.tar", 1, folder).commands[0]
    on_this_node = make[make.index("mkdir") :]
    assert subprocess.run(on_this_node, capture_output=True, text=True).returncode != 0
    folder.rmdir() if there == "folder" else folder.unlink()
    subprocess.run(on_this_node, check=True)
    assert stat.S_IMODE(folder.lstat().st_mode) == 0o700


def test_an_archive_is_never_written_through_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The names below the folder for temporary files have a random part."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    names: list[str] = []

    def note(archive: Path, *_: object) -> None:
        assert archive.parent.parent == tmp_path
        assert stat.S_IMODE(archive.parent.stat().st_mode) == 0o700
        names.append(archive.parent.name)
        raise LaunchError("stop here")

    monkeypatch.setattr("launcher.batch.staging.write_archive", note)
    for _ in range(2):
        with pytest.raises(LaunchError, match="stop here"), staged_environment(7, 1):
            pass
    assert len(set(names)) == 2
    assert not list(tmp_path.iterdir())
