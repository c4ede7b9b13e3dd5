"""Files and folders where other users may have been before."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from scaling.records.shared_places import append_only, make_private


def test_a_private_folder_is_made_once_and_accepted_again(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    for _ in range(2):
        make_private(folder)
        assert stat.S_IMODE(folder.lstat().st_mode) == 0o700


def test_umask_opens_nothing(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        make_private(tmp_path / "mine")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "mine").lstat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o701, 0o710, 0o720, 0o770, 0o777])
def test_a_folder_that_others_can_enter_is_refused(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(OSError, match=f"has the permissions {mode:o}; expected"):
        make_private(folder)


def test_links_and_files_are_refused(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.mkdir(mode=0o700)
    link.symlink_to(target)
    with pytest.raises(OSError, match="link is a symbolic link; expected"):
        make_private(link)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file is a file; expected"):
        make_private(tmp_path / "file")
    link.unlink()
    link.symlink_to(tmp_path / "nothing")
    with pytest.raises(OSError, match="link is a symbolic link; expected"):
        make_private(link)
    assert not (tmp_path / "nothing").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o700)
    os.chown(folder, 65534, 65534)
    with pytest.raises(OSError, match="belongs to the user with the number 65534; expected"):
        make_private(folder)


def test_appending_does_not_follow_a_link(tmp_path: Path) -> None:
    precious, link = tmp_path / "precious", tmp_path / "run.jsonl"
    precious.write_text("mine")
    link.symlink_to(precious)
    with pytest.raises(OSError, match="it is a symbolic link; expected a file"):
        os.close(append_only(link))
    link.unlink()
    for text in ("one", "two"):
        with open(link, "a", opener=append_only) as file:
            file.write(text)
    assert link.read_text() == "onetwo"
    assert precious.read_text() == "mine"
