"""The time limit for the start of a rank."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support.environment import ROOT

PROGRAM = """
import sys, time
from launcher import start_limit
start_limit.SHORTEST = start_limit.WAITING = 0.5
began = time.monotonic()
with start_limit.StartLimit(float(sys.argv[1]), lambda text: print(text, flush=True)) as start:
    start.at("loading TensorFlow", waits=sys.argv[2] == "waits")
    time.sleep(float(sys.argv[3]))
print("started")
time.sleep(1.5)
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", PROGRAM, *arguments], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("waits", ["works", "waits"])
def test_a_start_without_end_says_what_it_does_and_ends(waits: str) -> None:
    done = run("0.1", waits, "60")
    assert done.returncode == os.EX_TEMPFAIL
    assert "this rank is still loading TensorFlow" in done.stdout
    assert "started" not in done.stdout


@pytest.mark.parametrize("seconds", ["0.1", "0"])
def test_a_start_in_time_and_a_start_without_limit_go_on(seconds: str) -> None:
    done = run(seconds, "works", "0" if float(seconds) else "1.5")
    assert (done.returncode, done.stdout) == (0, "started\n"), done.stderr
