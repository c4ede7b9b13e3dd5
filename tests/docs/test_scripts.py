"""Shell scripts of this repository and those that the launcher writes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.environment import ROOT

SCRIPTS = [ROOT / ".ci" / "run", ROOT / "Makefile", *sorted((ROOT / "jobs").glob("*.sh"))]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_no_pipe_ends_in_a_program_that_stops_reading(script: Path) -> None:
    """With pipefail, the program before it may die of SIGPIPE and end the script, but only sometimes."""
    text = script.read_text(encoding="utf-8")
    assert "pipefail" in text
    assert not re.findall(r".*\| *(?:head|grep +-\w*q).*", text)
