"""Find the progress of each point of a scaling study, from the record of its run and from Slurm."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.batch.slurm import FINISHED, Slurm
from launcher.errors import LaunchError
from scaling.records import RecordError, read_run
from scaling.records.studies import StudyFile, StudyPoint, read_study_file

__all__ = ["PointProgress", "existing_study", "progress_table", "read_progress", "show_progress", "wait_for_jobs"]

PATIENCE = 20
"""Number of consecutive queries without an answer from Slurm after which `wait_for_jobs` fails."""

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class PointProgress:
    """Progress of one point."""

    point: StudyPoint
    """The point."""
    record: str
    """State in its record: complete, interrupted, failed, `epoch 3 of 25`, none or unreadable."""
    state: str
    """State of its newest job in Slurm's words; `-` without a job."""
    seconds: float | None = None
    """Median training time of an epoch in seconds, without the first epoch; None until the run is complete."""

    @property
    def complete(self) -> bool:
        """True if the training is complete."""
        return self.record == "complete"

    @property
    def active(self) -> bool:
        """True if a job of the point is pending or running."""
        return self.state != "-" and self.state not in FINISHED

    @property
    def settled(self) -> bool:
        """True if the point needs no further job."""
        return self.complete or self.active


def existing_study(folder: Path) -> StudyFile:
    """Read the study in a folder.

    Raises:
        LaunchError: the folder holds no study.
        RecordError: the file of the study cannot be read.
    """
    study = read_study_file(folder.absolute())
    if study is None:
        raise LaunchError(
            f"{folder} holds no study; expected the --out folder of a 'launcher study' command: give that folder"
        )
    return study


def read_progress(study: StudyFile, slurm: Slurm | None) -> list[PointProgress]:
    """Return the progress of all points, sorted by number of nodes, then by repeat.

    Args:
        study: the study.
        slurm: Slurm; None to read the records only.

    Raises:
        LaunchError: Slurm does not answer.
    """
    newest_jobs = [point.jobs[-1] for point in study.points.values() if point.jobs]
    states = slurm.states(newest_jobs) if slurm else {}
    return [_point_progress(study.folder, point, states) for point in study.sorted_points]


def _point_progress(folder: Path, point: StudyPoint, states: Mapping[int, str]) -> PointProgress:
    record, seconds = _record_state(folder / point.name)
    state = states.get(point.jobs[-1], "-") if point.jobs else "-"
    return PointProgress(point=point, record=record, state=state, seconds=seconds)


def _record_state(folder: Path) -> tuple[str, float | None]:
    """Return the state of a run from its record, and the median seconds of an epoch if the run is complete."""
    if not (folder / "run.jsonl").exists():
        return "none", None
    try:
        run = read_run(folder)
    except RecordError:
        return "unreadable", None
    if run.complete:
        # The first epoch includes start-up work. The scaling report leaves it out as well.
        epochs = [epoch.seconds for epoch in run.epochs]
        return "complete", statistics.median(epochs[1:] or epochs) if epochs else None
    if run.end is not None:
        return run.end.status, None
    done = run.epochs[-1].epoch if run.epochs else run.header.resumed_epochs
    return f"epoch {done} of {run.header.settings.get('epochs', '?')}", None


def progress_table(points: Sequence[PointProgress]) -> str:
    """Return a table with one line per point."""
    rows = [("point", "nodes", "repeat", "job", "Slurm", "record", "s/epoch")]
    for one in points:
        job = str(one.point.jobs[-1]) if one.point.jobs else "-"
        seconds = "-" if one.seconds is None else f"{one.seconds:.4g}"
        rows.append((one.point.name, str(one.point.nodes), str(one.point.repeat), job, one.state, one.record, seconds))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def show_progress(folder: Path, slurm: Slurm, say: Say) -> list[PointProgress]:
    """Print and return the progress of a study. If Slurm does not answer, use the records only."""
    study = existing_study(folder)
    try:
        points = read_progress(study, slurm)
    except LaunchError as error:
        say(f"Note: Slurm's states are missing: {error}")
        points = read_progress(study, None)
    say(progress_table(points))
    return points


def wait_for_jobs(
    folder: Path, slurm: Slurm, say: Say, seconds: float, sleep: Callable[[float], None] = time.sleep
) -> list[PointProgress]:
    """Wait until no job of the study is pending or running. Print every change, and return the progress at the end.

    Args:
        folder: folder of the study.
        slurm: Slurm.
        say: function that prints a line.
        seconds: time between two queries.
        sleep: function that waits.

    Raises:
        LaunchError: Slurm does not answer 20 consecutive queries.
    """
    study, printed, failures = existing_study(folder), "", 0
    while True:
        try:
            points = read_progress(study, slurm)
        except LaunchError as error:
            failures += 1
            if failures >= PATIENCE:
                raise
            say(f"Note: {error}")
            sleep(seconds)
            continue
        failures = 0
        line = _summary(points)
        if line != printed:
            say(f"{time.strftime('%H:%M:%S')} {line}")
            printed = line
        if not any(one.active for one in points):
            return points
        sleep(seconds)


def _summary(points: Sequence[PointProgress]) -> str:
    active = Counter(one.state.lower() for one in points if one.active and not one.complete)
    complete = sum(one.complete for one in points)
    states = (f"{number} {state}" for state, number in sorted(active.items()))
    return ", ".join([f"{complete} of {len(points)} points complete", *states])
