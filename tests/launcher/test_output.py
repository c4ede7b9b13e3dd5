"""The log of a rank receives all output of the rank and its libraries, and errors can still go to the console."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.environment import ROOT

WRITES = """
import os, sys
from pathlib import Path
from launcher.output import console, write_to
write_to(Path(sys.argv[1]))
if sys.argv[2] == "much":
    print("from Python"); print("an error", file=sys.stderr); os.system("echo from a library")
print("for everybody", file=console())
"""


def run(path: Path, what: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WRITES, str(path), what]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)


def test_output_goes_to_the_file_and_errors_to_the_console(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "c401-002-rank-0007.log"
    done = run(path, "much")
    assert done.stdout == ""
    assert done.stderr == "for everybody\n"
    assert sorted(path.read_text().splitlines()) == ["an error", "from Python", "from a library"]


def test_a_rank_that_wrote_nothing_leaves_no_file(tmp_path: Path) -> None:
    run(tmp_path / "rank.log", "nothing")
    assert list(tmp_path.iterdir()) == []
