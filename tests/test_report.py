"""`python -m scaling report`: the table, the files and the errors, from record files on disk."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.image import imread
from matplotlib.lines import Line2D

from scaling.cli import main
from scaling.metrics import curve, epochs_table, points
from scaling.plots import scaling_figure
from scaling.report import Report, make_report, table_text, write_report
from tests.sample_runs import end, epoch, header, run, write


def report(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["report", *map(str, arguments)])


def study(folder: Path, seconds: dict[int, list[float]]) -> list[Path]:
    return [
        write(
            folder / f"np{workers}",
            header(workers),
            *(epoch(i, s) for i, s in enumerate(times, start=1)),
            end(len(times)),
        ).parent
        for workers, times in seconds.items()
    ]


def _ydata(line: Line2D) -> list[float]:
    return np.asarray(line.get_ydata(), dtype=float).tolist()


def test_the_table_and_the_files(tmp_path: Path) -> None:
    folders = study(tmp_path, {1: [30.0, 20.0, 21.0, 19.0], 2: [15.0, 12.5, 12.5, 12.5], 8: [9.0, 3.125]})
    out = tmp_path / "deep" / "report"
    result = report(*folders, "--out", out)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split() == [
        *("workers", "nodes", "runs", "n", "s/epoch", "95%", "interval"),
        *("events/s", "speed-up", "efficiency", "95%", "interval"),
    ]
    assert lines[1].split() == ["1", "1", "1", "3", "20", "19", "..", "21", "450", "1.00", "100.0%", "-"]
    assert lines[2].split()[:8] == ["2", "1", "1", "3", "12.5", "12.5", "..", "12.5"]
    assert lines[2].split()[8:11] == ["720", "1.60", "80.0%"]
    assert lines[3].split() == ["8", "2", "1", "1", "3.125", "-", "2,880", "6.40", "80.0%", "-"]
    assert "Note: n = 1 at 8 workers: too few for an interval." in lines
    assert sorted(p.name for p in out.iterdir()) == ["scaling.csv", "scaling.png", "scaling.svg"]

    table = pd.read_csv(out / "scaling.csv").set_index("workers")
    assert table["efficiency"].to_dict() == pytest.approx({1: 1.0, 2: 0.8, 8: 0.8})
    assert table["seconds"].to_dict() == {1: 20.0, 2: 12.5, 8: 3.125}
    assert imread(out / "scaling.png").shape[0] > 400
    assert ElementTree.parse(out / "scaling.svg").getroot().tag.endswith("svg")


def test_the_same_runs_give_the_same_bytes(tmp_path: Path) -> None:
    made = make_report(study(tmp_path, {1: [3.0, 2.0, 2.1, 2.2], 2: [2.0, 1.0, 1.1, 1.2]}))
    first, second = (write_report(made, tmp_path / name) for name in ("a", "b"))
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    assert write_report(made, tmp_path / "a") == first


def test_the_figure_shows_the_curve_and_the_ideal() -> None:
    runs = [run(n, [9.0, s, s, s]) for n, s in ((2, 16.0), (4, 10.0), (8, 5.0))]
    made = curve(points(epochs_table(runs)), baseline=4)
    before = matplotlib.rcParams.copy()
    figure = scaling_figure(made, "a title")
    FigureCanvasAgg(figure).draw()
    assert dict.__eq__(matplotlib.rcParams, before)
    ideal = [_ydata(axes.get_lines()[0]) for axes in figure.axes]
    assert ideal == [pytest.approx([20, 10, 5]), pytest.approx([0.5, 1, 2]), [1, 1, 1]]
    measured = [_ydata(axes.get_lines()[1]) for axes in figure.axes]
    assert measured == [pytest.approx([16, 10, 5]), pytest.approx([0.625, 1, 2]), pytest.approx([1.25, 1, 1])]
    assert [axes.get_ylabel() for axes in figure.axes][1] == "Speed-up over 4 workers"


@pytest.mark.parametrize("sizes", [[1], [3], [1, 2], [2**k for k in range(10)], list(range(1, 130)), [1, 100000]])
def test_any_set_of_sizes_is_drawn_with_labels_apart(sizes: list[int]) -> None:
    figure = scaling_figure(curve(points(epochs_table([run(n, [9.0, 100 / n]) for n in sizes]))))
    FigureCanvasAgg(figure).draw()
    for axes in figure.axes:
        boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
        assert boxes
        assert all(left.x1 + 3 < right.x0 for left, right in itertools.pairwise(boxes))


def test_importing_leaves_matplotlib_alone() -> None:
    # Compared as plain dicts: reading rcParams["backend"] chooses one and imports pyplot.
    code = (
        "import matplotlib, sys; before = matplotlib.rcParams.copy(); import scaling.report; "
        "assert dict.__eq__(matplotlib.rcParams, before); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_run_named_twice_counts_once(tmp_path: Path) -> None:
    [folder] = study(tmp_path, {2: [9.0, 5.0, 5.0]})
    made = make_report([folder, folder / "run.jsonl", folder / ".." / "np2"])
    assert made.curve[["runs", "n"]].to_numpy().tolist() == [[1, 2]]


def test_baseline_and_skipped_epochs_are_options(tmp_path: Path) -> None:
    folders = study(tmp_path, {1: [30.0, 20.0, 10.0], 2: [15.0, 12.5, 5.0]})
    result = report(*folders, "--out", tmp_path / "r", "--skip-epochs", 2, "--baseline", 2)
    assert "Baseline: 2 workers." in result.stdout
    table = pd.read_csv(tmp_path / "r" / "scaling.csv")
    assert table["seconds"].tolist() == [10.0, 5.0]
    assert table["speedup"].tolist() == [0.5, 1.0]


def test_runs_that_differ_are_refused_unless_allowed(tmp_path: Path) -> None:
    one = write(tmp_path / "one", header(1), epoch(1), epoch(2), end(2))
    two = write(tmp_path / "two", header(2, settings={"precision": "bf16"}), epoch(1), epoch(2), end(2))
    refused = report(one, two, "--out", tmp_path / "r")
    assert refused.exit_code == 2
    assert refused.stderr.startswith("Error: the runs differ in more than size")
    assert f"  precision: 'bf16' in {two}\n" in refused.stderr
    assert "--allow-different" in refused.stderr
    assert not (tmp_path / "r").exists()

    allowed = report(one, two, "--out", tmp_path / "r", "--allow-different")
    assert allowed.exit_code == 0, allowed.output
    assert f"  precision: 'bf16' in {two}\n" in allowed.stdout
    assert "precision" not in make_report([one, two], allow_different=True).title


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["np1", "--baseline", "7"], "baseline of 7 workers is in none of the runs, which have 1;"),
        (["missing"], "cannot be read"),
        (["np1", "broken"], "line 1: not a JSON object"),
        (["started"], "none holds a finished epoch"),
        (["np1", "--out", "broken/run.jsonl/report"], "choose a folder with --out"),
    ],
)
def test_errors_are_one_message_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    study(tmp_path, {1: [9.0, 5.0]})
    write(tmp_path / "started", header())
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.jsonl").write_text("The 0 epoch took 121.7 seconds\n")
    monkeypatch.chdir(tmp_path)
    result = report(*arguments)
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit)
    assert result.stderr.startswith("Error: ")
    assert message in result.stderr
    assert not (tmp_path / "scaling-report").exists()


def test_as_a_program(tmp_path: Path) -> None:
    folders = study(tmp_path, {1: [9.0, 4.0], 2: [9.0, 2.5]})
    command = [sys.executable, "-m", "scaling", "report", *map(str, folders), "--out", str(tmp_path / "r")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "80.0%" in done.stdout
    assert done.stderr == ""
    failed = subprocess.run([*command[:4], str(tmp_path)], capture_output=True, text=True)
    assert failed.returncode == 2
    assert failed.stderr.startswith("Error: ")
    assert "Traceback" not in failed.stderr


def test_text_shows_four_figures_and_no_exponent() -> None:
    made = curve(points(epochs_table([run(1, [9.0, 12345.678], events=10**9)])))
    lines = table_text(Report(curve=made, notes=[], title="")).splitlines()
    assert lines[1].split()[4] == "12,346"
    assert lines[1].split()[6] == "81,000"
