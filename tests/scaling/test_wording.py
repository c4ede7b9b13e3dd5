"""Names and notes of any content in the Markdown of a report."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from scaling.records.wording import markdown_text
from scaling.report import make_report, markdown
from scaling.study import StudyOptions
from tests.support.sample_runs import end, epoch, header, write


@given(st.text())
def test_any_text_is_one_line_without_markup(text: str) -> None:
    shown = markdown_text(text)
    assert len(shown.splitlines()) <= 1
    assert not re.search(r"[<>\[\]`*|&\\]", re.sub(r"\\.", "", shown))
    assert re.sub(r"\\(.)", r"\1", shown) == " ".join(text.split())


def test_a_name_with_a_bar_stays_one_cell_in_markdown(tmp_path: Path) -> None:
    one = write(tmp_path / "a", header(1, {"model": "a|b"}), epoch(1), epoch(2), end(2))
    two = write(tmp_path / "b", header(1, {"model": "c"}), epoch(1), epoch(2), end(2))
    lines = markdown(make_report([one, two], StudyOptions(series=("model",)))).splitlines()
    assert sum(line.startswith("| model a\\|b |") for line in lines) == 1


def test_names_and_notes_are_only_text_in_markdown(tmp_path: Path) -> None:
    bad = "<img src=x onerror=alert(1)> [link](http://x) `code` *bold* | line"
    one = write(tmp_path / "a", header(1, {"model": bad}), epoch(1), epoch(2), end(2))
    two = write(tmp_path / "b", header(1, {"model": "c"}), epoch(1), epoch(2), end(2))
    made = make_report([one, two], StudyOptions(series=("model",)))
    text = markdown(replace(made, title=bad, notes=[bad.replace(" line", "\nline")]))
    for line in text.splitlines():
        assert not re.search(r"(?<!\\)[<>\[\]`*]", line), line
    safe = "\\<img src=x onerror=alert(1)\\> \\[link\\](http://x) \\`code\\` \\*bold\\* \\| line"
    assert f"# Scaling: {safe}\n" in text
    assert f"- {safe}\n" in text
    assert sum(line.startswith(f"| model {safe} |") for line in text.splitlines()) == 1
