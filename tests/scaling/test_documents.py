"""Files of users are read up to a limit, and every file that is no document is one error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import LaunchError
from launcher.machines import load_machine
from launcher.topology import load_topology
from scaling.records import RecordError
from scaling.records.documents import read_json, read_toml
from scaling.records.studies import STUDY_FILE, read_study_file

DEEP = 100_000


def test_documents_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("epochs = 3\n")
    assert read_toml(path) == {"epochs": 3}
    path.write_text("[1, null]")
    assert read_json(path) == [1, None]


@pytest.mark.parametrize(("read", "brackets"), [(read_toml, "a = " + "[" * DEEP), (read_json, "[" * DEEP)])
def test_other_files_are_a_value_error(read: Callable[[Path], Any], brackets: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"more than [0-9,]+ bytes"):
        read(Path("/dev/zero"))
    path = tmp_path / "a"
    path.write_text(brackets)
    with pytest.raises(ValueError, match="nested too deeply"):
        read(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="not text in UTF-8"):
        read(path)


def test_readers_name_the_file(tmp_path: Path) -> None:
    machine, snapshot, study = tmp_path / "a.toml", tmp_path / "a.json", tmp_path / STUDY_FILE
    machine.write_text("a = " + "[" * DEEP)
    with pytest.raises(LaunchError, match=r"machine .*a\.toml: not a TOML file: its values are nested too deeply"):
        load_machine(machine)
    snapshot.write_text("[" * DEEP)
    with pytest.raises(LaunchError, match=r"cannot read the topology .*a\.json: its values are nested too deeply"):
        load_topology(snapshot)
    study.write_text("[" * DEEP)
    with pytest.raises(RecordError, match="cannot be read \\(its values are nested too deeply"):
        read_study_file(tmp_path)
