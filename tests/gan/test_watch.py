"""The watch of a rank: who holds the others up, when the run ends, and signals while the main thread computes."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from gan.training import watch
from gan.training.alert import Alert
from gan.training.interruption import Interruption
from gan.training.roll_call import Phase, Place, RollCall
from gan.training.watch import Watch
from tests.support.processes import wait_until

HOSTS = ("node1", "node2", "node3")


class Heard(Alert):
    """An alert that notes what it should do."""

    def __init__(self) -> None:
        self.remarks: list[str] = []
        self.ends: list[str] = []
        self.signals: list[tuple[str, Place]] = []

    def remark(self, text: str) -> None:
        self.remarks.append(text)

    def end(self, reason: str) -> None:
        self.ends.append(reason)

    def signal(self, name: str, place: Place) -> None:
        self.signals.append((name, place))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make seconds of the watch hundredths of a second."""
    for name in ("TICK", "NOTICE", "ANSWERS", "FIRST", "OTHERS", "AFTER_REQUEST"):
        monkeypatch.setattr(watch, name, getattr(watch, name) / 100)


def watched(folder: Path, rank: int, ranks: int = 2, limit: float = 60.0) -> tuple[Watch, Heard]:
    heard = Heard()
    return Watch(RollCall(folder, "this call", rank, HOSTS[:ranks]), limit, heard), heard


def steps(watch: Watch, count: int) -> None:
    """Note some steps without any time, so that the usual time of each phase is known."""
    for step in range(1, count + 1):
        watch.at(Phase.READING, 1, step)
        watch.at(Phase.COMPUTING, 1, step)


@pytest.mark.parametrize(("rank", "suspended"), [(0, "rank 1 on node2"), (1, "rank 0 on node1")])
def test_a_rank_without_a_sign_of_life_is_named_and_ends_the_run(
    quick: None, tmp_path: Path, rank: int, suspended: str
) -> None:
    """The watch of a suspended rank does not run. The other rank waits for it in step 3."""
    one, heard = watched(tmp_path / "waiting", rank, limit=1.0)
    with one:
        steps(one, 3)
        wait_until(lambda: heard.ends)
    assert f"{suspended} gives no sign of life" in heard.remarks[0]
    assert "--hang-timeout" in heard.ends[0]
    assert f"{suspended} gives no sign of life" in heard.ends[0]


def test_a_rank_that_is_behind_is_named_by_the_first_rank_only(quick: None, tmp_path: Path) -> None:
    """Rank 1 cannot read its events, and the others wait for it in the exchange of the same step."""
    ranks = [watched(tmp_path / "waiting", rank, 3, limit=100.0) for rank in range(3)]
    (zero, heard), (one, heard1), (two, heard2) = ranks
    with zero, one, two:
        for each in (zero, two):
            steps(each, 4)
        steps(one, 3)
        one.at(Phase.READING, 1, 4)
        wait_until(lambda: heard.remarks)
        assert "rank 1 on node2 still reads the events of epoch 1, step 4" in heard.remarks[0]
        for each in (zero, one, two):
            each.at(Phase.READING, 1, 5)
        wait_until(lambda: len(heard.remarks) == 2)
        assert "goes on: epoch 1, step 5" in heard.remarks[1]
        wait_until(lambda: not (tmp_path / "waiting").exists())
    assert not heard1.remarks
    assert not heard2.remarks
    assert not any(each.ends for _, each in ranks)


def test_progress_within_a_phase_keeps_the_run_alive(quick: None, tmp_path: Path) -> None:
    one, heard = watched(tmp_path / "waiting", 0, limit=0.2)
    with one:
        steps(one, 3)
        one.at(Phase.VALIDATION, 1, 3)
        one.alive()
        for _ in range(20):
            time.sleep(0.05)
            one.alive()
    assert not heard.ends


def test_the_first_step_may_take_long_because_it_includes_the_compilation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "FIRST", 1000.0)
    one, _ = watched(tmp_path, 0, limit=60.0)
    assert one._limits(Phase.COMPUTING) == (500.0, 1000.0)
    steps(one, 3)
    assert one._limits(Phase.COMPUTING) == (watch.NOTICE, 60.0)


def test_long_steps_get_long_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(watch.time, "monotonic", lambda: clock[0])
    one, _ = watched(tmp_path, 0, limit=60.0)
    for step in range(1, 4):
        one.at(Phase.COMPUTING, 1, step)
        clock[0] += 20.0
    one.at(Phase.READING, 1, 4)
    assert one._limits(Phase.COMPUTING) == (100.0, watch.MANY * 20.0)


def test_a_signal_is_heard_at_once_and_shortens_the_limit(quick: None, tmp_path: Path) -> None:
    """The same request may come again and again."""
    one, heard = watched(tmp_path / "waiting", 0, limit=1000.0)
    with Interruption().listening(), one:
        steps(one, 3)
        assert one._limits(Phase.COMPUTING)[1] == 1000.0
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(0.05)
        wait_until(lambda: heard.ends)
    assert heard.signals == [("SIGUSR1", Place(1, 3, Phase.COMPUTING))]


def test_without_a_limit_the_run_never_ends(quick: None, tmp_path: Path) -> None:
    one, heard = watched(tmp_path / "waiting", 0, limit=float("inf"))
    with one:
        steps(one, 3)
        wait_until(lambda: heard.remarks)
        time.sleep(0.5)
    assert not heard.ends
    assert "hang-timeout" not in heard.remarks[0]


def test_the_answer_of_an_earlier_run_says_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "waiting"
    RollCall(folder, "earlier", 0, HOSTS[:2]).answer(Place(1, 1, Phase.READING))
    (folder / "now-rank-0002").write_text("no JSON")
    roll = RollCall(folder, "now", 1, HOSTS)
    roll.answer(Place(2, 1, Phase.READING))
    assert roll.speaks()
    assert roll.late() == "rank 0 on node1 and rank 2 on node3 give no sign of life"


def test_all_ranks_in_one_place_are_not_accused(tmp_path: Path) -> None:
    rolls = [RollCall(tmp_path / "waiting", "now", rank, HOSTS) for rank in range(3)]
    for roll in rolls:
        roll.answer(Place(2, 7, Phase.COMPUTING))
    assert rolls[0].late().startswith("all 3 ranks are in epoch 2, step 7")
    assert [roll.speaks() for roll in rolls] == [True, False, False]


def test_the_watch_leaves_signals_as_they_were(tmp_path: Path) -> None:
    before = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(before)
    one, _ = watched(tmp_path / "waiting", 0)
    with one:
        pass
    assert signal.set_wakeup_fd(before) == before
    assert not any(thread.name == "watch" for thread in threading.enumerate())
