"""A scaling study: the same training on different numbers of nodes, as jobs of their own or in one allocation in turn.

It can be given again at any time: points with a complete record, or with a job that waits or runs, are left alone. What
a study remembers is in `points`; what a job looks like in `script`; the numbers are computed by `python -m scaling`.
"""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from launcher.batch.outcome import INTERRUPTED, NODE_DIED
from launcher.batch.points import Point, Progress, Study, differences, load_study, points_of, progress, table
from launcher.batch.script import JobRequest, render
from launcher.batch.slurm import FINISHED, Slurm
from launcher.batch.submit import Training, make_folder, needs_slurm
from launcher.batch.timelimit import format_time
from launcher.errors import LaunchError
from scaling.records.wording import count

__all__ = ["Order", "continue_study", "make_report", "order", "run_points", "status", "wait"]

REPORT_SECONDS = 600
PATIENCE = 20
"""Questions in a row that Slurm may leave unanswered while a study waits."""

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What was asked for: a study and the jobs that would run it, checked against the machine's limits."""

    study: Study
    jobs: Sequence[tuple[JobRequest, tuple[str, ...]]]
    """Each job with the names of its points."""
    report: JobRequest
    notes: Sequence[str] = ()
    """What was left alone and why."""


def order(
    folder: Path,
    nodes: Sequence[int],
    repeats: int,
    usual: JobRequest,
    training: Training,
    single_job: bool,
    slurm: Slurm,
) -> Order:
    """Find out what is to be submitted; `usual` says all of a job but its size, name and folders.

    Raises LaunchError for a point beyond the machine's limits, for a folder that holds a study of another
    configuration, and for a training that would begin anew each time.
    """
    needs_slurm(usual.machine)
    if training.begins_anew:
        raise LaunchError("a study goes on where it was interrupted: leave --no-resume out, or use another folder")
    folder = folder.absolute()
    wanted = points_of(nodes, repeats)
    # In one job the limits are those of the largest point.
    requests = {} if single_job else {point.name: _request(folder, point, usual, training) for point in wanted}
    report = replace(
        usual, nodes=1, workers_per_node=1, seconds=REPORT_SECONDS, name=f"{usual.name}-report",
        partition=_report_partition(usual), stage_env=False, log_folder=str(folder), command=_report_line(folder),
    )  # fmt: skip
    together = replace(
        usual, nodes=max(nodes), name=f"{usual.name}-study", log_folder=str(folder), command="true"
    )  # fmt: skip
    configuration = {
        "machine": usual.machine.reference,
        "workers_per_node": usual.workers,
        "data": list(training.data),
        "arguments": list(training.arguments),
        "training": dict(training.values),
    }
    known = load_study(folder)
    if known and (unlike := _unlike(known.configuration, configuration)):
        listed = "\n".join(f"  {line}" for line in unlike)
        raise LaunchError(
            f"{folder} holds a study of another configuration, whose times do not compare:\n{listed}\n"
            "Give the same as before, or another folder with --out"
        )
    study = (known or Study(folder=folder, configuration=configuration)).with_points(wanted)
    found = {one.point.name: one for one in _progress(study, slurm)}
    skipped = [found[point.name] for point in wanted if found[point.name].settled]
    left = tuple(point.name for point in wanted if not found[point.name].settled)
    jobs: list[tuple[JobRequest, tuple[str, ...]]] = [
        (request, (name,)) for name, request in requests.items() if name in left
    ]
    if single_job and left:
        largest = max(study.points[name].nodes for name in left)
        jobs = [(replace(together, nodes=largest, command=_points_line(folder, left, usual)), left)]
    return Order(study=study, jobs=jobs, report=report, notes=[_why(one) for one in skipped])


def continue_study(asked: Order, slurm: Slurm, say: Say, *, report: bool) -> Study:
    """Submit the jobs of an order, and one after them that makes the report if `report` is set.

    The study is saved after every submission. Raises LaunchError where Slurm refuses; given again, the study goes on.
    """
    study = asked.study
    study.save()
    for note in asked.notes:
        say(note)
    for request, names in asked.jobs:
        make_folder(request.log_folder)
        job = slurm.submit(render(request))
        study = study.with_job(names, job)
        study.save()
        say(
            f"{', '.join(names)}: job {job}, {count(request.nodes, 'node')}, at most {format_time(request.seconds)}, "
            f"log {request.log_folder}/slurm-{job}.log"
        )
    waits = sorted({one.point.jobs[-1] for one in _progress(study, slurm) if one.active})
    if not report or not (asked.jobs or waits):
        return study
    if study.report_job and slurm.states([study.report_job])[study.report_job] not in FINISHED:
        if not asked.jobs:
            return study
        # It would not wait for the jobs that are new.
        slurm.cancel(study.report_job)
    after = [f"--dependency=afterany:{':'.join(map(str, waits))}"] if waits else []
    study = replace(study, report_job=slurm.submit(render(asked.report), *after))
    study.save()
    say(f"report: job {study.report_job} after them, in {study.folder / 'report'}")
    return study


def status(folder: Path, slurm: Slurm, say: Say) -> list[Progress]:
    """Say how far every point has come, from its record and, where Slurm answers, from Slurm."""
    study = _existing(folder)
    try:
        found = _progress(study, slurm)
    except LaunchError as error:
        say(f"Note: without Slurm's states: {error}")
        found = progress(study, {})
    say(table(found))
    return found


def wait(
    folder: Path, slurm: Slurm, say: Say, seconds: float, sleep: Callable[[float], None] = time.sleep
) -> list[Progress]:
    """Wait until no point has a job that waits or runs, asking every `seconds`; says what changes.

    Raises LaunchError when Slurm has not answered for many questions in a row.
    """
    study, said, failures = _existing(folder), "", 0
    while True:
        try:
            found = _progress(study, slurm)
        except LaunchError as error:
            failures += 1
            if failures >= PATIENCE:
                raise
            say(f"Note: {error}")
            sleep(seconds)
            continue
        failures = 0
        active = Counter(one.state.lower() for one in found if one.active and not one.complete)
        complete = sum(one.complete for one in found)
        line = ", ".join(
            [f"{complete} of {len(found)} points complete", *(f"{n} {state}" for state, n in sorted(active.items()))]
        )
        if line != said:
            say(f"{time.strftime('%H:%M:%S')} {line}")
            said = line
        if not any(one.active for one in found):
            return found
        sleep(seconds)


def make_report(folder: Path) -> None:
    """Make the scaling report of all points that have a record. Raises LaunchError where that fails."""
    records = sorted(folder.absolute().glob("n*/run.jsonl"))
    if not records:
        raise LaunchError(f"no point in {folder} has a record yet; 'launcher study --status {folder}' says why")
    command = [
        sys.executable,
        "-m",
        "scaling",
        "report",
        *map(str, records),
        "--out",
        str(folder.absolute() / "report"),
    ]
    done = subprocess.run(command, cwd=Path(__file__).resolve().parents[2])
    if done.returncode:
        raise LaunchError(f"no report: '{shlex.join(command)}' ended with status {done.returncode}")


def run_points(folder: Path, names: Sequence[str], stage_env: bool, say: Say) -> int:
    """Inside an allocation: run these points in turn, leaving complete ones out. The status to end with.

    That is 0 when all are complete, 75 when the job was asked to end, and 1 when a point failed: the next is run all
    the same.
    """
    study, failed = _existing(folder), []
    if unknown := [name for name in names if name not in study.points]:
        raise LaunchError(f"{folder} has no point {unknown[0]}; it has {', '.join(study.points)}")
    for name in names:
        if progress(replace(study, points={name: study.points[name]}), {})[0].complete:
            say(f"{name}: complete already")
            continue
        command = _run_command(study, study.points[name], stage_env)
        say(f"{name}: {shlex.join(command)}")
        result, asked = _passing_signals_on(command)
        say(f"{name}: ended with status {result}")
        if result == INTERRUPTED or (asked and name != names[-1]):
            return INTERRUPTED
        if result == NODE_DIED:
            # The allocation is no longer whole: what would run on it now could not be compared.
            return NODE_DIED
        failed += [name] if result else []
    if failed:
        say(f"{len(failed)} of {len(names)} points failed: {', '.join(failed)}")
    return 1 if failed else 0


def _passing_signals_on(command: Sequence[str]) -> tuple[int, bool]:
    """Run a command; its status, and whether Slurm asked to end meanwhile, which the command is told."""
    asked: list[int] = []
    child: list[subprocess.Popen[bytes]] = []

    def tell(number: int, _: Any) -> None:
        asked.append(number)
        for process in child:
            process.send_signal(number)

    numbers = (signal.SIGUSR1, signal.SIGTERM)
    before = {number: signal.signal(number, tell) for number in numbers}
    try:
        child.append(subprocess.Popen(command))
        if asked:
            child[0].send_signal(asked[0])
        return child[0].wait(), bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run_command(study: Study, point: Point, stage_env: bool) -> list[str]:
    asked = study.configuration
    command = [sys.executable, "-m", "launcher", "run", "--machine", asked["machine"], "--nodes", str(point.nodes)]
    command += ["--workers-per-node", str(asked["workers_per_node"]), *(["--stage-env"] if stage_env else []), "train"]
    command += [word for pattern in asked["data"] for word in ("--data", pattern)]
    return [*command, "--out", str(study.folder / point.name), *asked["arguments"]]


def _request(folder: Path, point: Point, usual: JobRequest, training: Training) -> JobRequest:
    out = str(folder / point.name)
    return replace(
        usual, nodes=point.nodes, name=f"{usual.name}-{point.name}", data=training.data, out=out, log_folder=out,
        arguments=training.arguments,
    )  # fmt: skip


def _report_partition(usual: JobRequest) -> str:
    """The user's, unless it is for larger jobs."""
    known = next((one for one in usual.machine.partitions if one.name == usual.partition), None)
    return "" if known is not None and known.refusal(1) else usual.partition


def _report_line(folder: Path) -> str:
    place = shlex.quote(str(folder))
    return f"python -m scaling report {place}/n*/run.jsonl --out {place}/report"


def _points_line(folder: Path, names: Sequence[str], usual: JobRequest) -> str:
    stage = " --stage-env" if usual.stage_env else ""
    return f"python -m launcher study --run-points {shlex.quote(str(folder))}{stage} {' '.join(names)}"


def _progress(study: Study, slurm: Slurm) -> list[Progress]:
    return progress(study, slurm.states(point.jobs[-1] for point in study.points.values() if point.jobs))


def _existing(folder: Path) -> Study:
    study = load_study(folder.absolute())
    if study is None:
        raise LaunchError(f"{folder} holds no study; expected the folder that was given to 'launcher study --out'")
    return study


def _unlike(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs. Arguments are left out: values that a user gave and values by default are equal if they are."""
    before, after = ({name: value for name, value in values.items() if name != "arguments"} for values in (old, new))
    return differences(before, after)


def _why(one: Progress) -> str:
    reason = "complete already" if one.complete else f"job {one.point.jobs[-1]} is {one.state.lower()}"
    return f"{one.point.name}: {reason}"
