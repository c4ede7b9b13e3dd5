"""Faults of ranks, disks and signals on two real ranks: what the user sees, and what is lost.

`tests.support.injection` makes the faults. The arithmetic is a stand-in, so a training takes a second after its start.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gan.training.alert import HUNG
from gan.training.interruption import REPEATS_WITHIN
from scaling.records import read_run
from tests.support.injection import faulty
from tests.support.launching import Launch
from tests.support.processes import assert_gone, stopped
from tests.support.runs import arguments, assert_equal_weights, start, wait_for, weights

EPOCHS, STEPS = 3, 4  # 18 training events on 2 ranks with a batch of 2

PLAIN = ("--epochs", EPOCHS, "--batch-size", 2, "--deterministic", "--shape-weight", 0)

Train = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def train(launch: Launch, shower_files: Path, tmp_path: Path) -> Train:
    """Train in `tmp_path / "run"` on two ranks with some faults, and wait for the end."""

    def run(
        *faults: str, out: Path = tmp_path / "run", options: tuple[object, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        return launch(2, "train", *arguments(shower_files, out, *PLAIN, *options), **faulty(*faults))

    return run


def ranks_of(out: Path) -> list[int]:
    """Return the process ids of the ranks; none before the header is written."""
    record = out / "run.jsonl"
    if not record.exists() or b"\n" not in record.read_bytes():
        return []
    return [int(row["pid"]) for row in read_run(out).header.placement]


def test_a_run_that_is_killed_everywhere_ends_with_the_weights_of_a_quiet_one(train: Train, tmp_path: Path) -> None:
    """Each start goes on from what the one before has left, and is killed at another point."""
    out = tmp_path / "run"
    for fault, complete in (
        ("0:joined:kill", 0),
        ("1:step 2:kill", 0),
        ("0:checkpoint written:kill", 0),
        ("0:checkpoint renamed:kill", 1),
        ("0:epoch half written:kill", 1),  # the record of epoch 1, from its checkpoint
        ("0:header half written:kill", 1),
        ("0:epoch half written:kill", 2),
        ("1:validation:kill", 2),
        ("0:end half written:kill", 3),
    ):
        done = train(fault)
        assert done.returncode != 0, fault
        assert len(list((out / "checkpoints").glob("epoch-000?.npz"))) == complete, fault
    done = train()
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"is complete: {EPOCHS} epochs" in done.stdout
    run = read_run(out)
    assert run.complete
    assert [epoch.epoch for epoch in run.epochs] == [1, 2, 3]
    assert all(epoch.steps == STEPS for epoch in run.epochs)
    quiet = tmp_path / "quiet"
    assert train(out=quiet).returncode == 0
    assert_equal_weights(weights(out, EPOCHS), weights(quiet, EPOCHS))


@pytest.mark.parametrize("rank", [0, 1])
def test_a_suspended_rank_is_named_and_ends_the_run(train: Train, tmp_path: Path, rank: int) -> None:
    """In the third step of epoch 2, the usual time of a step is known."""
    out = tmp_path / "run"
    done = train(f"{rank}:step {STEPS + 3}:stop", options=("--hang-timeout", 0.05))
    host = os.uname().nodename
    assert done.returncode == HUNG, done.stdout + done.stderr
    assert f"rank {rank} on {host} gives no sign of life" in done.stdout + done.stderr
    assert_gone(ranks_of(out))
    end = read_run(out).end
    assert end is not None
    assert (end.status, end.epochs, end.reached) == ("interrupted", 1, 2)
    # A suspended rank 0 writes nothing, before the MPI wakes and ends it.
    assert (f"rank 1 on {host}" if rank else "SIGTERM in epoch 2, step 3") in end.message
    done = train()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Continuing after 1 complete epoch. The run ended (" in done.stdout
    assert "with 2 steps after its checkpoint" in done.stdout
    assert read_run(out).complete


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_after_a_signal_to_mpirun_the_record_says_what_happened(
    mpirun: str, shower_files: Path, tmp_path: Path, train: Train, name: str
) -> None:
    """mpirun kills its ranks in less than a step of 5 s. Nothing but the watch can write then."""
    out = tmp_path / "run"
    process = start(mpirun, 2, "train", *arguments(shower_files, out, *PLAIN), **faulty(step=5.0))
    wait_for(lambda: ranks_of(out), process)
    ranks = ranks_of(out)
    time.sleep(2.0)
    process.send_signal(getattr(signal, name))
    printed = "".join(process.communicate(timeout=60))
    assert process.returncode != 0, printed
    assert_gone(ranks)
    end = read_run(out).end
    assert end is not None
    assert end.status == "interrupted"
    assert end.message.startswith("SIG")
    assert "in epoch 1, step" in end.message
    assert not (out / "checkpoints").exists()


@pytest.mark.parametrize(
    ("fault", "what", "complete"),
    [
        ("0:header:full=0", "record", 0),
        ("0:step 1:full=0", "checkpoint", 0),
        (f"0:stepped {STEPS + 1}:full=20000", "checkpoint", 1),
    ],
)
def test_a_full_disk_is_one_error_and_loses_only_the_epoch(
    train: Train, tmp_path: Path, fault: str, what: str, complete: int
) -> None:
    out = tmp_path / "run"
    done = train(fault)
    assert done.returncode == 2, done.stdout + done.stderr
    assert (done.stdout + done.stderr).count(f"Error: the {what} ") == 1
    assert "Free some space" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert len(list((out / "checkpoints").glob("epoch-*.npz"))) == complete
    assert train().returncode == 0
    assert read_run(out).complete


@pytest.mark.parametrize("signals", [1, 2])
def test_launcher_run_ends_when_a_rank_does_not_answer(
    mpirun: str, shower_files: Path, tmp_path: Path, signals: int
) -> None:
    """After one SIGTERM the watch of rank 0 ends the run, because its steps are short. The second ends it at once."""
    out = tmp_path / "run"
    process = start(
        mpirun, 0, "run", "--starter", "mpirun", "--workers-per-node", 2,
        "train", *arguments(shower_files, out, *PLAIN), **faulty(f"{2 - signals}:step 4:stop"),
    )  # fmt: skip
    wait_for(lambda: any(map(stopped, ranks_of(out))), process)
    ranks = ranks_of(out)
    process.send_signal(signal.SIGTERM)
    if signals == 2:
        time.sleep(REPEATS_WITHIN[signal.SIGTERM] + 1.0)
        process.send_signal(signal.SIGTERM)
    printed = "".join(process.communicate(timeout=120))
    assert process.returncode == HUNG, printed
    assert "SIGTERM: asking ranks on 1 node" in printed
    assert_gone(ranks)
