"""What a scaling study is made of: its points, the file that remembers them, and how far each has come.

A study is a folder: `study.json`, a run folder for each point such as `n0004-r2`, and the report. This module reads and
writes the file and the records; it submits and starts nothing.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from launcher.batch.slurm import FINISHED
from launcher.errors import LaunchError
from scaling.records import RecordError, read_run
from scaling.records.saving import save_text

__all__ = ["Point", "Progress", "Study", "differences", "load_study", "parse_nodes", "points_of", "progress", "table"]

SCHEMA = 1
FILE = "study.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One run of a study."""

    nodes: int
    repeat: int
    """Counted from 1."""
    jobs: tuple[int, ...] = ()
    """Slurm jobs that were to run it, the newest last."""

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"n{self.nodes:04d}-r{self.repeat}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """A study as its file remembers it."""

    folder: Path
    configuration: Mapping[str, Any]
    """What all points have in common: machine, workers on a node, data, options of the training."""
    points: Mapping[str, Point] = field(default_factory=dict)
    """By name."""
    report_job: int | None = None
    """The Slurm job that makes the report."""

    def with_points(self, points: Iterable[Point]) -> Study:
        """The study with these points, for those it knows under their names as it knows them."""
        return replace(self, points={**{point.name: point for point in points}, **self.points})

    def with_job(self, names: Iterable[str], job: int) -> Study:
        """The study after `job` was submitted for these points."""
        changed = {name: replace(self.points[name], jobs=(*self.points[name].jobs, job)) for name in names}
        return replace(self, points={**self.points, **changed})

    def save(self) -> None:
        """Write the file whole, so that a study that is killed knows what it has submitted."""
        content = {
            "schema": SCHEMA,
            "configuration": self.configuration,
            "points": [
                {"nodes": point.nodes, "repeat": point.repeat, "jobs": list(point.jobs)}
                for point in sorted(self.points.values(), key=lambda point: (point.nodes, point.repeat))
            ],
            "report_job": self.report_job,
        }
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_text(self.folder / FILE, json.dumps(content, indent=1))
        except OSError as error:
            raise LaunchError(f"{self.folder} cannot be written ({error.strerror}); give a folder that can") from None


def load_study(folder: Path) -> Study | None:
    """The study in a folder; None where there is none. Raises LaunchError for a file that is no study's."""
    path = folder / FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise LaunchError(f"{path} cannot be read ({error}); use another folder") from None
    if isinstance(content, dict) and content.get("schema") not in (None, SCHEMA):
        raise LaunchError(f"{path} has schema {content['schema']!r}, not the {SCHEMA} that this version reads")
    try:
        points = [
            Point(nodes=_count(point["nodes"]), repeat=_count(point["repeat"]), jobs=tuple(map(_count, point["jobs"])))
            for point in content["points"]
        ]
        job = content["report_job"]
        study = Study(
            folder=folder,
            configuration=dict(content["configuration"]),
            points={point.name: point for point in points},
            report_job=None if job is None else _count(job),
        )
        # What a command line will be made of.
        _ = study.configuration["machine"] + "", *study.configuration["data"], *study.configuration["arguments"]
        _count(study.configuration["workers_per_node"])
    except (KeyError, TypeError, ValueError) as error:
        raise LaunchError(f"{path} is not the file of a study ({error!r}); use another folder") from None
    return study


def _count(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(f"{value!r} where a number of at least 1 belongs")
    return value


def parse_nodes(text: str) -> tuple[int, ...]:
    """Numbers of nodes such as 1,2,4,8, in rising order and each once. Raises LaunchError for anything else."""
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"[1-9][0-9]{0,5}", part) for part in parts):
        raise LaunchError(f"nodes {text!r}; expected numbers such as 1,2,4,8")
    return tuple(sorted({int(part) for part in parts}))


def points_of(nodes: Sequence[int], repeats: int) -> list[Point]:
    """The points of a study, every size once before any is repeated: an early end leaves a whole curve."""
    return [Point(nodes=number, repeat=repeat) for repeat in range(1, repeats + 1) for number in nodes]


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs between two configurations, as `training.epochs: 5 there, 10 now`."""
    before, after = _flat(old), _flat(new)
    missing = "not given"
    return [
        f"{name}: {before.get(name, missing)} there, {after.get(name, missing)} now"
        for name in sorted(before.keys() | after.keys())
        if before.get(name, missing) != after.get(name, missing)
    ]


def _flat(values: Mapping[str, Any], lead: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{lead}{name}."))
        else:
            flat[lead + name] = json.dumps(value)
    return flat


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a point has come, as its record and Slurm tell it."""

    point: Point
    record: str
    """complete, interrupted, failed, `epoch 3 of 25`, none or unreadable."""
    state: str
    """Slurm's word for its newest job; `-` where there is none."""
    seconds: float | None = None
    """Median of an epoch's training time without the first epoch; None until the run is complete."""

    @property
    def complete(self) -> bool:
        return self.record == "complete"

    @property
    def active(self) -> bool:
        """Whether Slurm has a job for it that waits or runs."""
        return self.state != "-" and self.state not in FINISHED

    @property
    def settled(self) -> bool:
        """Whether there is nothing to submit for it."""
        return self.complete or self.active


def progress(study: Study, states: Mapping[int, str]) -> list[Progress]:
    """The progress of all points, by nodes and repeat; `states` are those of their newest jobs."""
    found = []
    for point in sorted(study.points.values(), key=lambda point: (point.nodes, point.repeat)):
        record, seconds = _record(study.folder / point.name)
        state = states.get(point.jobs[-1], "-") if point.jobs else "-"
        found.append(Progress(point=point, record=record, state=state, seconds=seconds))
    return found


def _record(folder: Path) -> tuple[str, float | None]:
    if not (folder / "run.jsonl").exists():
        return "none", None
    try:
        run = read_run(folder)
    except RecordError:
        return "unreadable", None
    if run.complete:
        # The first epoch holds start-up work; the report leaves it out as well.
        epochs = [epoch.seconds for epoch in run.epochs]
        return "complete", statistics.median(epochs[1:] or epochs) if epochs else None
    if run.end is not None:
        return run.end.status, None
    done = run.epochs[-1].epoch if run.epochs else run.header.resumed_epochs
    return f"epoch {done} of {run.header.settings.get('epochs', '?')}", None


def table(found: Sequence[Progress]) -> str:
    """A line for each point."""
    rows = [("point", "nodes", "repeat", "job", "Slurm", "record", "s/epoch")]
    for one in found:
        job = str(one.point.jobs[-1]) if one.point.jobs else "-"
        seconds = "-" if one.seconds is None else f"{one.seconds:.4g}"
        rows.append((one.point.name, str(one.point.nodes), str(one.point.repeat), job, one.state, one.record, seconds))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
