"""Ranks of one node exchange values through files, before MPI starts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from launcher import rendezvous
from launcher.allocation import Allocation
from launcher.errors import LaunchError
from launcher.rendezvous import Rendezvous


def test_ranks_meet_in_rounds_and_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "SHARED_MEMORY", tmp_path)
    ranks = [
        Rendezvous(Allocation(local_rank=rank, local_size=2, size=2, rank=rank), {"PMIX_NAMESPACE": "a/b@1"})
        for rank in range(2)
    ]
    for rank in ranks:
        rank.tell(f"first of {rank.local_rank}")
    ranks[0]._round -= 1
    assert ranks[0].exchange("first of 0") == ["first of 0", "first of 1"]
    for rank in ranks:
        rank.tell({"second": rank.local_rank})
    assert ranks[1].hear() is None
    assert ranks[0].hear() == [{"second": 0}, {"second": 1}]
    assert list(tmp_path.iterdir()) == []


def test_a_rank_alone_meets_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two programs that one shell starts at the same time have the same parent."""
    monkeypatch.setattr(rendezvous, "SHARED_MEMORY", tmp_path)
    one, other = (Rendezvous(Allocation(local_rank=0, local_size=1, size=1, rank=0), {}) for _ in range(2))
    assert one.exchange("one") == ["one"]
    assert other.exchange("other") == ["other"]
    one.tell("end of one")
    other.tell("end of other")
    assert (one.hear(), other.hear()) == (["end of one"], ["end of other"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["link", "open to others"])
def test_a_place_that_others_can_write_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.setattr(rendezvous, "SHARED_MEMORY", tmp_path)
    rank = Rendezvous(Allocation(local_rank=0, local_size=2, size=2, rank=0), {"PMIX_NAMESPACE": "n"})
    precious = tmp_path / "precious"
    precious.mkdir(mode=0o700)
    if place == "link":
        rank._folder.symlink_to(precious)
    else:
        rank._folder.mkdir()
        rank._folder.chmod(0o770)
    with pytest.raises(LaunchError, match=r"the ranks of this node cannot meet: .*expected a folder of this user"):
        rank.tell("secret")
    assert not list(precious.iterdir())


def test_ranks_with_different_temporary_folders_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = []
    for rank in range(2):
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / str(rank)))
        place = Allocation(local_rank=rank, local_size=2, size=2, rank=rank)
        ranks.append(Rendezvous(place, {"PMIX_NAMESPACE": f"test-{os.getpid()}"}))
    for each in ranks:
        each.tell(each.local_rank)
    assert ranks[0].hear() == [0, 1]


def test_a_long_wait_says_for_whom_and_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rendezvous, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(rendezvous, "SILENCE", 0.05)
    for local_rank, missing in ((0, 1), (1, 0)):
        alone = Rendezvous(Allocation(local_rank=local_rank, local_size=2, size=2), {"PMIX_NAMESPACE": "n"}, 0.2)
        with pytest.raises(LaunchError, match=rf"sent nothing to {tmp_path}/launcher-.*give the containers a common"):
            alone.exchange(1)
        assert f"local rank {local_rank} waits for local rank {missing} of 2 in {tmp_path}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_rank_that_does_not_come_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "SHARED_MEMORY", tmp_path)
    alone = Rendezvous(Allocation(local_rank=0, local_size=2, size=2), {"PMIX_NAMESPACE": "n"}, patience=0.1)
    with pytest.raises(LaunchError, match="local rank 1 of 2"):
        alone.exchange(1)
