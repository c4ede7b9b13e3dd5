"""Two runs with one folder: the second run fails while the first one is alive, and can start after its death."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from flufl.lock import Lock

from gan.errors import InputError
from gan.run import lock as lock
from gan.run.checkpoint import Checkpoint
from gan.run.folder import RunFolder
from gan.run.holder import Holder
from gan.run.lock import FolderLock
from gan.training.journal import Journal
from tests.support.processes import wait_until

HOLD = """
import sys, time
from pathlib import Path
from gan.run import lock as lock
lock.RENEWAL = 0.5
with lock.FolderLock(Path(sys.argv[1]), lost=print):
    print("held", flush=True)
    time.sleep(120)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def never(reason: str) -> None:
    raise AssertionError(reason)


def test_a_living_run_keeps_others_out(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"in use by process {holder.pid} on "):
        FolderLock(tmp_path, lost=never).__enter__()


def test_a_killed_run_of_this_node_leaves_it_free_at_once(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with FolderLock(tmp_path, lost=never):
        assert (tmp_path / ".lock").exists()
    assert not list(tmp_path.iterdir())


def test_a_dead_run_of_another_node_leaves_it_free_when_its_time_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.getfqdn", lambda: "another-node")
    Lock(str(tmp_path / ".lock"), lifetime=timedelta(seconds=60)).lock()
    monkeypatch.undo()
    over = time.time() - 9  # flufl.lock allows clocks 10 s apart
    os.utime(tmp_path / ".lock", (over, over))
    with FolderLock(tmp_path, lost=never):
        assert "another-node" not in (tmp_path / ".lock").read_text()


def test_a_dead_run_of_a_node_with_a_fast_clock_leaves_it_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the time that the waiting run measures itself counts."""
    monkeypatch.setattr("socket.getfqdn", lambda: "another-node")
    Lock(str(tmp_path / ".lock"), lifetime=timedelta(days=30)).lock()
    monkeypatch.undo()
    monkeypatch.setattr(lock, "LIFETIME", 1)
    with FolderLock(tmp_path, lost=never):
        assert "another-node" not in (tmp_path / ".lock").read_text()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ahead", [120, 3600, -3600])
def test_a_clock_that_differs_does_not_take_the_lock_of_a_living_run(
    holder: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    monkeypatch.setattr(Lock, "_now", lambda self: datetime.now() + timedelta(seconds=ahead))
    with pytest.raises(InputError, match="in use by process"):
        FolderLock(tmp_path, lost=never).__enter__()
    assert holder.poll() is None


def test_who_lost_the_lock_writes_nothing_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first run was suspended and has not seen yet that a second run took the folder."""
    first = FolderLock(tmp_path, lost=lambda reason: None)
    with first:
        first.check()
        (tmp_path / ".lock").unlink()
        (tmp_path / ".lock").write_text("another run")
        folder = RunFolder(tmp_path, first.check)
        saved = Checkpoint(epochs=1, arrays={"generator/000": np.zeros(2)})
        with pytest.raises(InputError, match=r"another run took .* writes nothing more there"):
            folder.checkpoints.save(saved, best=True)
        journal = Journal(folder, 1)
        with pytest.raises(InputError, match="another run took"):
            journal.complete()
        assert not (tmp_path / "checkpoints").exists()
        assert not folder.record.read_text()
        journal.__exit__(None, None, None)
    assert (tmp_path / ".lock").read_text() == "another run"


def replace_folder(folder: Path) -> None:
    folder.rename(folder.with_name("moved"))
    folder.mkdir()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda folder: (folder / ".lock").unlink(),
            r"the lock .* is gone.* If no other run uses the folder, give the",
        ),
        (shutil.rmtree, r"is gone; .* Put the folder back and give the same command again"),
        (replace_folder, r"the lock .* is gone: .* another folder"),
    ],
)
def test_a_lock_that_is_gone_is_not_taken_for_another_run(
    tmp_path: Path, change: Callable[[Path], object], message: str
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with FolderLock(folder, lost=lambda reason: None) as held:
        change(folder)
        with pytest.raises(InputError, match=message):
            held.check()


def test_the_number_of_a_process_proves_nothing(
    holder: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Containers count their processes from 1, and hosts may all have the name localhost."""
    monkeypatch.setattr("flufl.lock._lockfile.pid_exists", lambda pid: False)
    with pytest.raises(InputError, match="in use by process"):
        FolderLock(tmp_path, lost=never).__enter__()


def test_a_dead_run_is_known_by_the_lock_of_the_kernel(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    """The file of a holder counts for its own lock only: another run may have taken the folder since."""
    claim = (tmp_path / ".lock").read_text()
    assert not Holder(tmp_path).remove_if_ended(tmp_path / ".lock", claim)  # it lives
    holder.kill()
    holder.wait()
    assert not Holder(tmp_path).remove_if_ended(tmp_path / ".lock", "another claim")
    (tmp_path / ".lock-holder").write_text((tmp_path / ".lock-holder").read_text().replace("kernel", "other"))
    assert not Holder(tmp_path).remove_if_ended(tmp_path / ".lock", claim)
    (tmp_path / ".lock-holder").write_text((tmp_path / ".lock-holder").read_text().replace("other", "kernel"))
    assert Holder(tmp_path).remove_if_ended(tmp_path / ".lock", claim)
    assert not (tmp_path / ".lock").exists()


def test_a_folder_that_became_read_only_does_not_hide_the_error_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(self: object, **options: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Lock, "unlock", refuse)  # root may remove files from any folder
    with pytest.raises(InputError, match="the reason"), FolderLock(tmp_path, lost=never):
        raise InputError("the reason")
    assert "cannot be removed ([Errno 1] Operation not permitted)" in caplog.text


def test_a_folder_that_cannot_be_locked_keeps_no_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Lock, **options: object) -> None:
        Path(self.claimfile).touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Lock, "lock", refuse)
    with FolderLock(tmp_path, lost=never):
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", ["", "no lock", "a|b|c|d"])
def test_a_lock_that_says_nothing_comes_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    """The clock of the node that wrote it may be wrong."""
    monkeypatch.setattr(lock, "LIFETIME", 1)
    (tmp_path / ".lock").write_text(content)
    os.utime(tmp_path / ".lock", (time.time() + 1e6, time.time() + 1e6))
    with FolderLock(tmp_path, lost=never):
        assert (tmp_path / ".lock").read_text() not in ("", content)


def test_the_folder_is_clean_afterwards(tmp_path: Path) -> None:
    with FolderLock(tmp_path, lost=never):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_run_whose_lock_was_taken_away_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "RENEWAL", 0.05)
    told: list[str] = []
    with FolderLock(tmp_path, lost=told.append):
        (tmp_path / ".lock").unlink()
        wait_until(lambda: told)
    assert told == [f"the lock {tmp_path / '.lock'} is gone: somebody removed it, or put another folder in this place"]


def test_a_folder_that_is_gone_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "RENEWAL", 0.05)
    told: list[str] = []
    (tmp_path / "run").mkdir()
    with FolderLock(tmp_path / "run", lost=told.append):
        shutil.rmtree(tmp_path / "run")
        wait_until(lambda: told)
    assert told == [f"{tmp_path / 'run'} is gone"]
