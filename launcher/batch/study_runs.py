"""Run the points of a scaling study one after another inside one job, and make the report of a study."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gan.training.interruption import handled
from launcher.batch.outcome import INTERRUPTED, NODE_DIED
from launcher.batch.study_progress import existing_study, read_progress
from launcher.errors import LaunchError
from scaling.records.studies import StudyFile, StudyPoint

__all__ = ["make_report", "run_points"]

Say = Callable[[str], None]


def run_points(folder: Path, names: Sequence[str], stage_env: bool, say: Say) -> int:
    """Run points of a study one after another. Skip complete points, and continue after a point that fails.

    Args:
        folder: folder of the study.
        names: names of the points.
        stage_env: True to copy the Python environment to the nodes for every point.
        say: function that prints a line.

    Returns:
        The exit status: 0 if all points are complete, 75 if the job received a request to stop, 76 if a node died, 1 if
        a point failed.

    Raises:
        LaunchError: the folder holds no study, or the study has no such point.
    """
    study, failed = existing_study(folder), []
    if unknown := [name for name in names if name not in study.points]:
        raise LaunchError(f"{folder} has no point {unknown[0]}; expected one of {', '.join(study.points)}")
    for name in names:
        if read_progress(replace(study, points={name: study.points[name]}), None)[0].complete:
            say(f"{name}: complete already")
            continue
        command = _run_command(study, study.points[name], stage_env)
        say(f"{name}: {shlex.join(command)}")
        status, interrupted = _run_forwarding_signals(command)
        say(f"{name}: ended with status {status}")
        if status == INTERRUPTED or (interrupted and name != names[-1]):
            return INTERRUPTED
        if status == NODE_DIED:
            # With one node less, the times of further points could not be compared.
            return NODE_DIED
        failed += [name] if status else []
    if failed:
        say(f"{len(failed)} of {len(names)} points failed: {', '.join(failed)}")
    return 1 if failed else 0


def _run_command(study: StudyFile, point: StudyPoint, stage_env: bool) -> list[str]:
    shared = study.configuration
    command = [sys.executable, "-m", "launcher", "run", "--machine", shared["machine"], "--nodes", str(point.nodes)]
    command += ["--workers-per-node", str(shared["workers_per_node"]), *(["--stage-env"] if stage_env else []), "train"]
    command += [word for pattern in shared["data"] for word in ("--data", pattern)]
    return [*command, "--out", str(study.folder / point.name), *shared["arguments"]]


def _run_forwarding_signals(command: Sequence[str]) -> tuple[int, bool]:
    """Run a command and forward signals to it. Return its exit status and whether a signal arrived."""
    received: list[int] = []
    child: list[subprocess.Popen[bytes]] = []

    def forward(number: int, _: Any) -> None:
        received.append(number)
        for process in child:
            process.send_signal(number)

    with handled((signal.SIGUSR1, signal.SIGTERM, signal.SIGHUP), forward):
        child.append(subprocess.Popen(command))
        # A signal that arrived before the process existed was not forwarded.
        if received:
            child[0].send_signal(received[0])
        return child[0].wait(), bool(received)


def make_report(folder: Path) -> None:
    """Make the scaling report of all points that have a record.

    Raises:
        LaunchError: no point has a record, or `python -m scaling report` fails.
    """
    records = sorted(folder.absolute().glob("n*/run.jsonl"))
    if not records:
        raise LaunchError(
            f"no point in {folder} has a record; expected at least one run that has started: "
            f"'launcher study --status {folder}' shows the state of every point"
        )
    out = folder.absolute() / "report"
    command = [sys.executable, "-m", "scaling", "report", *map(str, records), "--out", str(out)]
    done = subprocess.run(command, cwd=Path(__file__).resolve().parents[2])
    if done.returncode:
        raise LaunchError(
            f"no report: '{shlex.join(command)}' ended with status {done.returncode}; see its message above"
        )
