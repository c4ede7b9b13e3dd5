"""The file `study.json`: a saved study is read back, and any other file gives one clear error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.records import RecordError
from scaling.records.studies import StudyFile, StudyPoint, read_study_file

COUNTS = st.integers(1, 999)
POINTS = st.builds(StudyPoint, nodes=COUNTS, repeat=COUNTS, jobs=st.lists(COUNTS, max_size=3).map(tuple))
CONFIGURATION = {"machine": "generic", "workers_per_node": 4, "data": ["d"], "arguments": ["--epochs", "3"]}
POINT = {"nodes": 1, "repeat": 2, "jobs": [41]}
WHOLE = {"schema": 1, "configuration": CONFIGURATION, "points": [POINT], "report_job": None}


@settings(max_examples=25, deadline=None)
@given(
    st.lists(POINTS, max_size=5),
    st.none() | COUNTS,
    st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.text()),
)
def test_a_saved_study_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, points: list[StudyPoint], job: int | None, values: Any
) -> None:
    folder = tmp_path_factory.mktemp("study") / "new"
    configuration = {**CONFIGURATION, "training": values}
    saved = StudyFile(
        folder=folder, configuration=configuration, points={p.name: p for p in points}, report_job=job
    )  # fmt: skip
    saved.save()
    assert read_study_file(folder) == saved
    assert [path.name for path in folder.iterdir()] == ["study.json"]


def test_the_format_stays_readable(tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text(json.dumps(WHOLE))
    point = StudyPoint(nodes=1, repeat=2, jobs=(41,))
    expected = StudyFile(folder=tmp_path, configuration=CONFIGURATION, points={"n0001-r2": point})
    assert read_study_file(tmp_path) == expected


def test_a_folder_without_a_study(tmp_path: Path) -> None:
    assert read_study_file(tmp_path) is None
    assert read_study_file(tmp_path / "missing") is None


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in WHOLE.items() if key != name}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "cannot be read"),
        ("[]", r"is not the file of a study \(the content is \[\]; expected an object\)"),
        ("{}", "is not the file of a study"),
        (json.dumps({"schema": 2}), "has schema 2; this version reads schema 1"),
        (json.dumps(without("points")), r"\('points' is missing\)"),
        (json.dumps(without("report_job")), r"\('report_job' is missing\)"),
        (json.dumps({**WHOLE, "configuration": {}}), r"\('machine' is missing\)"),
        (json.dumps({**WHOLE, "points": [{"nodes": "1"}]}), "nodes is '1'; expected a whole number of at least 1"),
        (json.dumps({**WHOLE, "points": [{**POINT, "repeat": 0}]}), "repeat is 0; expected"),
        (json.dumps({**WHOLE, "points": [{**POINT, "jobs": [True]}]}), "a job is True; expected"),
        (json.dumps({**WHOLE, "points": [7]}), "a point is 7; expected an object"),
        (json.dumps({**WHOLE, "configuration": {**CONFIGURATION, "data": "d"}}), "data is 'd'; expected a list"),
        (
            json.dumps({**WHOLE, "configuration": {**CONFIGURATION, "machine": None}}),
            "machine is None; expected a text",
        ),
    ],
)
def test_a_damaged_file_is_one_clear_error(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "study.json").write_text(content)
    with pytest.raises(RecordError, match=message) as caught:
        read_study_file(tmp_path)
    assert str(tmp_path / "study.json") in str(caught.value)


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RecordError, match=r"file/study cannot be written \(Not a directory\)"):
        StudyFile(folder=tmp_path / "file" / "study", configuration={}).save()


def test_known_points_keep_their_jobs() -> None:
    study = StudyFile(folder=Path("s"), configuration={}).with_points([StudyPoint(nodes=2, repeat=1)])
    study = study.with_job(["n0002-r1"], 41).with_points(StudyPoint(nodes=n, repeat=1) for n in (2, 1))
    assert study.sorted_points == [StudyPoint(nodes=1, repeat=1), StudyPoint(nodes=2, repeat=1, jobs=(41,))]
