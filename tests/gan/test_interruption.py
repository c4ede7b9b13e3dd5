"""A request to stop a training: its time, the files after the stop, and a continuation with the same result."""

from __future__ import annotations

import errno
import math
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gan.data.showers import open_showers
from gan.errors import InputError
from gan.parallel import Alone, Worker
from gan.run.checkpoint import Checkpoints, read_checkpoint
from gan.run.folder import RunFolder
from gan.settings import TrainingSettings
from gan.training.interruption import REPEATS_WITHIN, Interruption
from gan.training.loop import Training
from scaling.records import End, read_run

pytestmark = pytest.mark.slow

EPOCHS, STEPS = 2, 4  # 18 training events in batches of 4


class AfterSteps(Interruption):
    """Interruption at check number `count`: one check per step, one before the validation and one after it."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def reason(self, step_seconds: float = 0.0) -> str:
        self.count -= 1
        return "asked by the test" if self.count <= 0 else ""


class KilledAt(AfterSteps):
    """A kill at check number `count`: the training ends without a checkpoint."""

    def reason(self, step_seconds: float = 0.0) -> str:
        if super().reason(step_seconds):
            raise SystemExit("killed by the test")
        return ""


def train(
    files: Path, out: Path, interruption: Interruption | None = None, *, every: float = math.inf, **changes: Any
) -> End | None:
    settings = TrainingSettings(
        **{
            "filters": "original", "batch_size": 4, "validation_fraction": 0.25, "warmup_epochs": 1, "epochs": EPOCHS,
            "deterministic": True, **changes,
        }
    )  # fmt: skip
    folder = RunFolder(out)
    with open_showers([str(files / "*.h5")]) as showers:
        described = showers.described()
        folder.prepare(settings, described, resume=True)
        training = Training(
            settings, showers, folder, Worker(host="here"), Alone(), interruption=interruption, checkpoint_seconds=every
        )
        return training.run()


@pytest.fixture(scope="module")
def uninterrupted(shower_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("uninterrupted")
    train(shower_files, out)
    return out


@pytest.mark.parametrize(
    ("look", "epochs", "steps"),
    [(2, 0, 2), (STEPS + 1, 0, STEPS), (STEPS + 2, 1, 0)],
    ids=["within an epoch", "before its validation", "between epochs"],
)
def test_an_interrupted_training_ends_as_one_that_never_was(
    uninterrupted: Path, shower_files: Path, tmp_path: Path, look: int, epochs: int, steps: int
) -> None:
    end = train(shower_files, tmp_path, AfterSteps(look))
    assert end is not None
    assert (end.status, end.epochs, end.steps) == ("interrupted", epochs, steps)
    assert "asked by the test, rank 0 on here" in end.message
    before = read_run(tmp_path)
    assert before.end == end
    assert len(before.epochs) == epochs
    newest = Checkpoints(tmp_path / "checkpoints").latest()
    assert newest is not None
    assert newest.moment == (epochs, steps)

    assert train(shower_files, tmp_path) is not None
    whole, pieces = read_run(uninterrupted), read_run(tmp_path)
    assert pieces.complete
    assert (pieces.header.resumed_epochs, pieces.header.resumed_steps) == (epochs, steps)
    expected, found = (
        read_checkpoint(run / "checkpoints" / f"epoch-{EPOCHS:04d}.npz") for run in (uninterrupted, tmp_path)
    )
    for name, values in expected.arrays.items():
        np.testing.assert_array_equal(found.arrays[name], values, err_msg=name)
    assert found.distances == expected.distances
    for one, other in zip(whole.epochs, pieces.epochs, strict=True):
        assert other.losses == pytest.approx(one.losses, rel=1e-12)
        assert other.steps == STEPS
    continued = pieces.epochs[epochs]
    assert continued.resumed_steps == steps
    assert continued.events == (STEPS - steps) * 4


@pytest.mark.parametrize(("look", "epochs", "steps"), [(4, 0, 3), (STEPS + 4, 1, 1)])
def test_a_killed_training_continues_from_a_checkpoint_within_the_epoch(
    uninterrupted: Path, shower_files: Path, tmp_path: Path, look: int, epochs: int, steps: int
) -> None:
    with pytest.raises(SystemExit):
        train(shower_files, tmp_path, KilledAt(look), every=0.0)
    newest = Checkpoints(tmp_path / "checkpoints").latest()
    assert newest is not None
    assert newest.moment == (epochs, steps)
    train(shower_files, tmp_path, every=0.0)
    pieces = read_run(tmp_path)
    assert pieces.complete
    assert (pieces.header.resumed_epochs, pieces.header.resumed_steps) == (epochs, steps)
    expected, found = (
        read_checkpoint(run / "checkpoints" / f"epoch-{EPOCHS:04d}.npz") for run in (uninterrupted, tmp_path)
    )
    for name, values in expected.arrays.items():
        np.testing.assert_array_equal(found.arrays[name], values, err_msg=name)
    for one, other in zip(read_run(uninterrupted).epochs, pieces.epochs, strict=True):
        assert other.losses == pytest.approx(one.losses, rel=1e-12)


def test_a_checkpoint_that_a_thread_cannot_write_ends_the_training(
    shower_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, checkpoint: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("gan.run.checkpoint.write_checkpoint", full)
    with pytest.raises(InputError, match=r"cannot be written .*No space left"):
        train(shower_files, tmp_path, every=0.0)
    end = read_run(tmp_path).end
    assert end is not None
    assert end.status == "failed"


def test_an_interrupted_epoch_goes_on_with_another_batch_size(shower_files: Path, tmp_path: Path) -> None:
    """3 steps with 4 events equal 6 steps with 2 events."""
    train(shower_files, tmp_path, AfterSteps(3))
    train(shower_files, tmp_path, batch_size=2, epochs=1)
    record = read_run(tmp_path)
    assert record.complete
    assert record.header.resumed_steps == 6
    assert (record.epochs[0].steps, record.epochs[0].events) == (9, 6)


def test_signals_ask_and_the_first_reason_is_told() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    with Interruption().listening() as interruption:
        assert interruption.reason() == ""
        os.kill(os.getpid(), signal.SIGUSR1)
        interruption.ask("something else")
        assert interruption.reason() == "asked by SIGUSR1"
    assert signal.getsignal(signal.SIGUSR1) == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_may_come_twice_at_once_and_ends_the_process_later(number: signal.Signals) -> None:
    process = os.fork()
    if process == 0:
        signal.signal(number, signal.SIG_DFL)
        with Interruption().listening() as interruption:
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)
            if interruption.reason() == f"asked by {number.name}":
                interruption._received._times[number] -= REPEATS_WITHIN[number]
                os.kill(os.getpid(), number)
                time.sleep(5)
        os._exit(1)
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == -number


def test_ctrl_c_asks_and_a_later_one_interrupts() -> None:
    with Interruption().listening() as interruption:
        os.kill(os.getpid(), signal.SIGINT)
        assert interruption.reason() == "asked by SIGINT"
        interruption._received._times[signal.SIGINT] -= REPEATS_WITHIN[signal.SIGINT]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_that_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interruption().listening() as interruption:
            os.kill(os.getpid(), signal.SIGHUP)
            assert interruption.reason() == ""
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(("left", "step", "stops"), [(100, 0, False), (100, 30, True), (40, 0, True), (-5, 0, True)])
def test_the_end_of_the_job_leaves_a_margin_and_two_steps(left: float, step: float, stops: bool) -> None:
    interruption = Interruption(deadline=time.time() + left, margin=50)
    assert bool(interruption.reason(step)) is stops


def test_checkpoints_are_ordered_by_epoch_and_step(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for name in ("epoch-0003-step-000007", "epoch-0010", "epoch-0003", "epoch-0003-step-000020", "best", "epoch-1"):
        (tmp_path / f"{name}.npz").touch()
    assert [path.stem for path in checkpoints._paths()] == [
        "epoch-0003", "epoch-0003-step-000007", "epoch-0003-step-000020", "epoch-0010",
    ]  # fmt: skip
