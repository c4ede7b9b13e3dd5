"""The launcher under a real MPI: the same training on 1 and 2 ranks, ranks that die, resuming, clear errors."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from scaling.records import Run, read_run
from tests.support.environment import ROOT, mpi_environment
from tests.support.launching import Launch
from tests.support.processes import assert_gone
from tests.support.rounding import LOSS_TOLERANCE, SMALL_RATE
from tests.support.runs import arguments, assert_equal_weights, gradients, rank_pids, start, wait_for, weights


def test_two_ranks_train_and_prove_where_they_ran(two_ranks: tuple[Path, str]) -> None:
    out, printed = two_ranks
    run = read_run(out)
    assert run.complete
    assert run.header.workers == 2
    assert run.header.communicator in ("horovod", "mpi")
    assert [row["rank"] for row in run.header.placement] == [0, 1]
    for row in run.header.placement:
        assert row["threads"] > 1
        assert row["threads_outside"] == 0
    cpus = [row["cpus"] for row in run.header.placement]
    if len(os.sched_getaffinity(0)) > 1:
        assert cpus[0] != cpus[1]
        assert not run.header.placement_warnings
    assert "Placement: 2 workers on 1 node" in printed
    assert all(cpu in printed for cpu in cpus)
    # There are 18 training events: 4 global batches of 4. So an epoch uses all events but 2.
    assert [epoch.events for epoch in run.epochs] == [16, 16]
    assert all(epoch.communication_seconds > 0 for epoch in run.epochs)


def losses_of(run: Run) -> np.ndarray:
    return np.array([list(epoch.losses.values()) for epoch in run.epochs])


def test_one_rank_and_two_train_alike_on_the_same_global_batch(
    launch: Launch, shower_files: Path, tmp_path: Path
) -> None:
    """With one step per epoch, the record has the losses of every step. BatchNorm uses the global batch.

    The shape term compares pairs of showers of one worker, so it depends on the number of workers.
    """
    for ranks, batch in ((1, 4), (2, 2)):
        done = launch(
            ranks,
            *arguments(shower_files, tmp_path / str(ranks), "--epochs", 2, "--batch-size", batch, "--sync-batchnorm"),
            *("--events", 6, "--lr-scaling", "none", "--learning-rate", SMALL_RATE, "--optimizer", "rmsprop"),
            *("--shape-weight", 0),
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    one, two = (read_run(tmp_path / ranks) for ranks in ("1", "2"))
    assert [epoch.steps for epoch in (*one.epochs, *two.epochs)] == [1] * 4
    np.testing.assert_allclose(losses_of(one), losses_of(two), rtol=LOSS_TOLERANCE)
    held_out = [[epoch.validation["discriminator_real"] for epoch in run.epochs] for run in (one, two)]
    np.testing.assert_allclose(held_out[0], held_out[1], rtol=LOSS_TOLERANCE)
    distances = [[epoch.validation["shower_distance"] for epoch in run.epochs] for run in (one, two)]
    np.testing.assert_allclose(distances[0], distances[1], rtol=LOSS_TOLERANCE)
    # Rounding may change the sign at single LeakyReLUs, so only the norm of a gradient has a small error. A sum over
    # the ranks instead of the mean, or the part of one rank only, would be wrong by a factor.
    alone, together = (gradients(tmp_path / ranks, 1) for ranks in ("1", "2"))
    for network, sizes in alone.items():
        assert np.linalg.norm(together[network] - sizes) < 0.01 * np.linalg.norm(sizes)


def test_virtual_workers_train_as_so_many_ranks(launch: Launch, shower_files: Path, tmp_path: Path) -> None:
    """Each worker has its own noise, masks and moving statistics, which `inference` uses in every step."""
    for ranks, virtual in ((4, 1), (2, 2), (1, 4)):
        done = launch(
            ranks,
            *arguments(shower_files, tmp_path / str(ranks), "--epochs", 2, "--batch-size", 2),
            *("--virtual-workers", virtual, "--fakes", "inference", "--shape-weight", 1, "--average", 0.9),
            *("--learning-rate", SMALL_RATE, "--optimizer", "rmsprop"),
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    runs = {ranks: read_run(tmp_path / str(ranks)) for ranks in (4, 2, 1)}
    assert {run.header.global_batch_size for run in runs.values()} == {8}
    assert [epoch.steps for run in runs.values() for epoch in run.epochs] == [2] * 6
    for ranks in (2, 1):
        np.testing.assert_allclose(losses_of(runs[ranks]), losses_of(runs[4]), rtol=LOSS_TOLERANCE)
        assert [epoch.learning_rate for epoch in runs[ranks].epochs] == [
            epoch.learning_rate for epoch in runs[4].epochs
        ]
        for one, four in zip(runs[ranks].epochs, runs[4].epochs, strict=True):
            for figure in ("discriminator_real", "generator", "shower_distance"):
                assert one.validation[figure] == pytest.approx(four.validation[figure], rel=LOSS_TOLERANCE)


def test_mpi4py_exchanges_gradients_as_horovod_does(
    launch: Launch, shower_files: Path, two_ranks: tuple[Path, str], tmp_path: Path
) -> None:
    # As many epochs as the fixture has: the cosine schedule depends on them.
    options = arguments(shower_files, tmp_path, "--epochs", 2, "--batch-size", 2, "--deterministic")
    done = launch(2, *options, "--communicator", "mpi")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Gradients: mpi;" in done.stdout
    # A sum of two numbers has only one order.
    np.testing.assert_array_equal(losses_of(read_run(tmp_path)), losses_of(read_run(two_ranks[0])))


def test_killed_run_resumes_to_the_same_weights(
    mpirun: str, launch: Launch, shower_files: Path, two_ranks: tuple[Path, str], tmp_path: Path
) -> None:
    same = arguments(shower_files, tmp_path, "--epochs", 2, "--batch-size", 2, "--deterministic")
    process = start(mpirun, 2, *same)
    wait_for((tmp_path / "checkpoints" / "epoch-0001.npz").exists, process)
    for pid in rank_pids(process):
        os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert not (tmp_path / "checkpoints" / "epoch-0002.npz").exists()
    assert read_run(tmp_path).end is None
    done = launch(2, *same)
    assert done.returncode == 0, done.stdout + done.stderr
    assert read_run(tmp_path).header.resumed_epochs == 1
    assert_equal_weights(weights(tmp_path, 2), weights(two_ranks[0], 2))


def test_run_of_two_ranks_goes_on_with_one(
    launch: Launch, shower_files: Path, two_ranks: tuple[Path, str], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    subprocess.run(["cp", "-r", *map(str, two_ranks[0].iterdir()), str(folder)], check=True)
    done = launch(0, *arguments(shower_files, folder, "--epochs", 3, "--batch-size", 4, "--deterministic"))
    assert done.returncode == 0, done.stdout + done.stderr
    run = read_run(folder)
    assert (run.header.workers, run.header.resumed_epochs, len(run.epochs)) == (1, 2, 3)


def test_killing_one_rank_ends_the_job_and_names_it(mpirun: str, shower_files: Path, tmp_path: Path) -> None:
    process = start(mpirun, 2, *arguments(shower_files, tmp_path, "--epochs", 500, "--batch-size", 2))
    wait_for((tmp_path / "run.jsonl").exists, process)
    pids = rank_pids(process)
    assert len(pids) == 2
    os.kill(pids[1], signal.SIGKILL)
    _, errors = process.communicate(timeout=30)
    assert process.returncode != 0
    assert re.search(r"rank 1 .*signal 9", errors.replace("\n", " "), re.IGNORECASE), errors
    # mpirun sends SIGTERM, after which a training writes a checkpoint, and SIGKILL a few seconds later.
    assert_gone(pids)


def test_damage_found_by_one_rank_ends_all_and_is_said_once(launch: Launch, shower_files: Path, tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    for path in shower_files.glob("*.h5"):
        (files / path.name).write_bytes(path.read_bytes())
    damaged = files / "EleEscan_1_1.h5"
    with h5py.File(damaged, "r") as file:
        place = file["ECAL"].id.get_chunk_info(7).byte_offset
    content = bytearray(damaged.read_bytes())
    content[place : place + 64] = b"\xff" * 64
    damaged.write_bytes(content)
    done = launch(2, *arguments(files, tmp_path / "run", "--epochs", 1, "--batch-size", 2))
    assert done.returncode != 0
    assert done.stderr.count("Error:") == 1, done.stderr
    assert "EleEscan_1_1.h5" in done.stderr
    assert re.search(r"Rank \d of 2 on \S+ failed", done.stderr)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--data", "/nowhere/*.h5"), "/nowhere/"),
        (("--batch-size", 100), "fewer than one global batch of 200"),
        (("--epochs", 0), "--epochs is 0; expected at least 1"),
        (("--workers-per-node", 1), "--workers-per-node is 1"),
    ],
)
def test_users_mistakes_are_one_error_on_two_ranks(
    launch: Launch, shower_files: Path, tmp_path: Path, more: tuple[object, ...], message: str
) -> None:
    done = launch(2, *arguments(shower_files, tmp_path / "run", *more))
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("Error:") == 1, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "run.jsonl").exists()


def test_dry_run_reports_and_writes_nothing(launch: Launch, shower_files: Path, tmp_path: Path) -> None:
    done = launch(3, "--data", shower_files / "*.h5", "--out", tmp_path / "run", "--batch-size", 2, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "Placement: 3 workers on 1 node" in done.stdout
    assert not (tmp_path / "run").exists()


def test_rank_that_is_alone_against_the_promise_says_so(launch: Launch) -> None:
    promised = {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "4"}
    done = launch(0, "--dry-run", **promised)
    assert done.returncode == 2
    assert "finds itself alone, but Open MPI promises rank 0 of 4" in done.stderr


def test_files_of_others_train(launch: Launch, shower_files: Path, tmp_path: Path) -> None:
    """The files are from other programs: float64, more data sets, no chunks, different sizes."""
    files = tmp_path / "theirs"
    files.mkdir()
    with h5py.File(shower_files / "EleEscan_1_1.h5") as ours:
        cells, target = ours["ECAL"][:], ours["target"][:]
    for number, rows in enumerate((slice(0, 4), slice(4, 15))):
        with h5py.File(files / f"scan{number}.h5", "w") as file:
            file["ECAL"] = cells[rows].astype("float64")
            file["HCAL"] = np.zeros((3, 5, 5, 60))
            file["target"] = np.column_stack([target[rows], np.zeros((rows.stop - rows.start, 3))])
    done = launch(
        2,
        "--data",
        files / "*.h5",
        "--out",
        tmp_path / "run",
        "--epochs",
        1,
        "--batch-size",
        2,
        "--filters",
        "original",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert read_run(tmp_path / "run").epochs[0].events == 12


@pytest.mark.parametrize(
    ("mine", "theirs", "message"),
    [
        (("--seed", 1), ("--seed", 2), r"--seed is 2 on rank 1 \(\S+\) and 1 on rank 0"),
        (
            ("--data", "{files}/*.h5"),
            ("--data", "{files}/EleEscan_1_0.h5"),
            r"data file EleEscan_1_1.h5 is absent on rank 1 \(\S+\) and 15 events in \d+ bytes on rank 0",
        ),
    ],
)
def test_ranks_that_differ_stop_at_the_start_with_both_values(
    mpirun: str, shower_files: Path, tmp_path: Path, mine: tuple[str, ...], theirs: tuple[str, ...], message: str
) -> None:
    def rank(own: tuple[object, ...]) -> list[str]:
        words = [str(word).format(files=shower_files) for word in own]
        data = [] if "--data" in words else ["--data", f"{shower_files}/*.h5"]
        rest = map(str, (*data, "--out", tmp_path / "run", *words, "--batch-size", 2))
        return ["-np", "1", sys.executable, "-m", "launcher", *rest]

    done = subprocess.run(
        [mpirun, "--oversubscribe", *rank(mine), ":", *rank(theirs)],
        cwd=ROOT, env=mpi_environment(), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("Error:") == 1, done.stderr
    assert re.search(message, done.stderr), done.stderr
    assert not (tmp_path / "run").exists()


def test_a_rank_with_another_version_stops_the_run(mpirun: str, shower_files: Path, tmp_path: Path) -> None:
    other = tmp_path / "h5py-0.0.1.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: h5py\nVersion: 0.0.1\n")
    rank = [sys.executable, "-m", "launcher", "--data", f"{shower_files}/*.h5", "--dry-run", "--batch-size", "2"]
    done = subprocess.run(
        [mpirun, "--oversubscribe", "-np", "1", *rank, ":", "-np", "1", "env", f"PYTHONPATH={tmp_path}", *rank],
        cwd=ROOT, env=mpi_environment(), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert re.search(r"version of h5py is 0\.0\.1 on rank 1 \(\S+\) and \d+\.\S+ on rank 0", done.stderr), done.stderr
