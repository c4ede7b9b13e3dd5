"""The file `study.json` of a scaling study: its points, their Slurm jobs, and the settings that all points share.

`python -m launcher study` writes the file. `python -m scaling watch` reads it to show points that have not started yet.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

from scaling.records.documents import read_json
from scaling.records.errors import RecordError
from scaling.records.saving import save_text

__all__ = ["STUDY_FILE", "StudyFile", "StudyPoint", "read_study_file"]

STUDY_FILE = "study.json"

_SCHEMA = 1
"""Version of the format. Increase it when a key changes its meaning."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyPoint:
    """One run of a study."""

    nodes: int
    """Number of nodes."""
    repeat: int
    """Number of the run among all runs with this number of nodes, from 1."""
    jobs: tuple[int, ...] = ()
    """Slurm jobs that were submitted for the run, newest last."""

    @property
    def name(self) -> str:
        """Name of the run folder inside the folder of the study, such as `n0004-r2`."""
        return f"n{self.nodes:04d}-r{self.repeat}"


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyFile:
    """Content of a study's file."""

    folder: Path
    """Folder that holds the file, the run folders and the report."""
    configuration: Mapping[str, Any]
    """Settings that all points share: `machine`, `workers_per_node`, `data`, `arguments` and `training`."""
    points: Mapping[str, StudyPoint] = field(default_factory=dict)
    """Points by name."""
    report_job: int | None = None
    """Slurm job that makes the report; None before it is submitted."""

    @property
    def sorted_points(self) -> list[StudyPoint]:
        """Points sorted by number of nodes, then by repeat."""
        return sorted(self.points.values(), key=lambda point: (point.nodes, point.repeat))

    def with_points(self, points: Iterable[StudyPoint]) -> StudyFile:
        """Return the study with these points added. A point that is already in the study keeps its jobs."""
        return replace(self, points={**{point.name: point for point in points}, **self.points})

    def with_job(self, names: Iterable[str], job: int) -> StudyFile:
        """Return the study after `job` was submitted for the points with these names."""
        changed = {name: replace(self.points[name], jobs=(*self.points[name].jobs, job)) for name in names}
        return replace(self, points={**self.points, **changed})

    def save(self) -> None:
        """Write the file, and make its folder if necessary. Readers see either the old or the new file.

        Raises:
            RecordError: the folder cannot be written.
        """
        content = {
            "schema": _SCHEMA,
            "configuration": self.configuration,
            "points": [
                {"nodes": point.nodes, "repeat": point.repeat, "jobs": list(point.jobs)} for point in self.sorted_points
            ],
            "report_job": self.report_job,
        }
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_text(self.folder / STUDY_FILE, json.dumps(content, indent=1))
        except OSError as error:
            raise RecordError(
                f"{self.folder} cannot be written ({error.strerror}); expected a folder for a study: choose another one"
            ) from error


def read_study_file(folder: Path) -> StudyFile | None:
    """Read the file of the study in `folder`. Return None if the folder holds no such file.

    Raises:
        RecordError: the file cannot be read, has another schema, or is not the file of a study.
    """
    path = folder / STUDY_FILE
    try:
        content = read_json(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise RecordError(f"{path} cannot be read ({error}); {_EXPECTED}") from error
    if isinstance(content, dict) and content.get("schema") not in (None, _SCHEMA):
        raise RecordError(
            f"{path} has schema {content['schema']!r}; this version reads schema {_SCHEMA}: "
            "use the version that wrote the file, or choose another folder"
        )
    try:
        return _parsed(folder, content)
    except KeyError as error:
        raise RecordError(f"{path} is not the file of a study ({error} is missing); {_EXPECTED}") from error
    except ValueError as error:
        raise RecordError(f"{path} is not the file of a study ({error}); {_EXPECTED}") from error


_EXPECTED = "expected the file that 'launcher study' writes: move it away or choose another folder"


def _parsed(folder: Path, content: Any) -> StudyFile:
    """Build a study from the JSON value of its file. Raise KeyError or ValueError for any other value."""
    values = _mapping("the content", content)
    points = [
        StudyPoint(
            nodes=_count("nodes", point["nodes"]),
            repeat=_count("repeat", point["repeat"]),
            jobs=tuple(_count("a job", job) for job in _list("jobs", point["jobs"])),
        )
        for point in (_mapping("a point", entry) for entry in _list("points", values["points"]))
    ]
    configuration = _mapping("configuration", values["configuration"])
    # Check these values, because the launcher builds command lines from them.
    _text("machine", configuration["machine"])
    _count("workers_per_node", configuration["workers_per_node"])
    for name in ("data", "arguments"):
        for word in _list(name, configuration[name]):
            _text(f"a value of {name}", word)
    job = values["report_job"]
    return StudyFile(
        folder=folder,
        configuration=configuration,
        points={point.name: point for point in points},
        report_job=None if job is None else _count("report_job", job),
    )


def _mapping(name: str, value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else _refuse(name, value, "an object")


def _list(name: str, value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else _refuse(name, value, "a list")


def _text(name: str, value: Any) -> str:
    return value if isinstance(value, str) else _refuse(name, value, "a text")


def _count(name: str, value: Any) -> int:
    return value if type(value) is int and value >= 1 else _refuse(name, value, "a whole number of at least 1")


def _refuse(name: str, value: Any, expected: str) -> NoReturn:
    raise ValueError(f"{name} is {repr(value)[:80]}; expected {expected}")
