"""`python -m scaling report` and the other commands: tables, files, plots and errors, from records on disk."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.image import imread
from matplotlib.lines import Line2D

from scaling.cli import main
from scaling.metrics import curve, epochs_table, points
from scaling.parsers import Hints
from scaling.parsers.record import run_log
from scaling.plots import Line, Panel, draw, loss_panels, placement_plots, rank_panel, scaling_figure
from scaling.plots.describe import COLOURS, DASHES, MARKERS, Cells
from scaling.plots.panels import curve_panels
from scaling.published import read_published
from scaling.records import read_run
from scaling.report import Report, make_report, markdown, table_text, write_report
from scaling.runs import EpochTimes
from scaling.study import StudyOptions, fits_of, forecast_tables
from tests.support.sample_logs import log
from tests.support.sample_runs import end, epoch, header, run, write


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
        *("events/s", "speed-up", "efficiency", "95%", "interval", "node-h/epoch"),
    ]
    first = lines[1].split()
    assert first[:5] + first[8:] == ["1", "1", "1", "3", "20", "450", "1.00", "100.0%", "-", "0.005556"]
    assert float(first[5]) <= 19 < 21 <= float(first[7])
    assert lines[2].split()[:8] == ["2", "1", "1", "3", "12.5", "12.5", "..", "12.5"]
    assert lines[2].split()[8:11] == ["720", "1.60", "80.0%"]
    assert lines[3].split() == ["8", "2", "1", "1", "3.125", "-", "2,880", "6.40", "80.0%", "-", "0.001736"]
    assert "Note: n = 1 at 8 workers: too few epochs for an interval." in lines
    plots: tuple[str, ...] = ("scaling", "seconds", "speedup", "efficiency", "breakdown", "steps", "slowest")
    plots += ("loss-generator", "loss-discriminator")
    files = {f"scaling.{kind}" for kind in ("html", "csv", "json", "md")}
    assert {p.name for p in out.iterdir()} == files | {f"{name}.{kind}" for name in plots for kind in ("png", "svg")}
    assert f"Wrote {out / 'scaling.html'} and {len(os.listdir(out)) - 1} files beside it" in result.stdout

    table = pd.read_csv(out / "scaling.csv").set_index("workers")
    assert table["efficiency"].to_dict() == pytest.approx({1: 1.0, 2: 0.8, 8: 0.8})
    assert table["seconds"].to_dict() == {1: 20.0, 2: 12.5, 8: 3.125}
    assert imread(out / "scaling.png").shape[0] > 400
    assert ElementTree.parse(out / "scaling.svg").getroot().tag.endswith("svg")


def test_the_same_runs_give_the_same_bytes(tmp_path: Path) -> None:
    for workers in (1, 2):
        times = [9.0, *(3 / workers + 0.1 * k for k in range(3))]
        write(
            tmp_path / f"n{workers}", header(workers), *(epoch(i, t, losses={}) for i, t in enumerate(times, start=1))
        )
    made = make_report([tmp_path / "n1", tmp_path / "n2"])
    first, second = (write_report(made, tmp_path / name) for name in ("a", "b"))
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    assert write_report(made, tmp_path / "a") == first


def test_the_computing_time_of_every_rank_is_drawn_for_the_largest_run(tmp_path: Path) -> None:
    times: dict[int, list[tuple[float, ...]]] = {1: [(9.0,), (2.0,), (3.0,)], 2: [(9.0, 9.0), (2.0, 4.0), (3.0, 4.0)]}
    runs = []
    for workers, by_epoch in times.items():
        epochs = [epoch(i, rank_step_seconds=ranks) for i, ranks in enumerate(by_epoch, start=1)]
        write(tmp_path / str(workers), header(workers, hosts=["c1", "c2"][:workers]), *epochs)
        runs.append(run_log(read_run(tmp_path / str(workers))))
    panel = rank_panel(runs)
    assert panel is not None
    (line,) = panel.lines
    assert (line.label, line.x, line.y) == ("2 workers", [0, 1], [2.5, 4.0])
    assert (line.low, line.high, line.hover) == ([2.0, 4.0], [3.0, 4.0], ["c1", "c2"])
    assert rank_panel([run_log(run(2, [3.0, 3.0]))]) is None


def test_the_figure_shows_the_curve_and_the_ideal_lines() -> None:
    runs = [run_log(run(n, [9.0, s, s, s])) for n, s in ((2, 16.0), (4, 10.0), (8, 5.0))]
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
def test_labels_of_sizes_do_not_overlap(sizes: list[int]) -> None:
    figure = scaling_figure(curve(points(epochs_table([run_log(run(n, [9.0, 100 / n])) for n in sizes]))))
    FigureCanvasAgg(figure).draw()
    for axes in figure.axes:
        boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
        assert boxes
        assert all(left.x1 + 3 < right.x0 for left, right in itertools.pairwise(boxes))


def test_importing_does_not_change_matplotlib() -> None:
    # Compare plain dicts, because reading rcParams["backend"] chooses a backend and imports pyplot.
    code = (
        "import matplotlib, sys; before = matplotlib.rcParams.copy(); import scaling.report; "
        "assert dict.__eq__(matplotlib.rcParams, before); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_run_given_twice_counts_once(tmp_path: Path) -> None:
    [folder] = study(tmp_path, {2: [9.0, 5.0, 5.0]})
    made = make_report([folder, folder / "run.jsonl", folder / ".." / "np2"])
    assert made.curve[["runs", "n"]].to_numpy().tolist() == [[1, 2]]


def test_the_options_for_baseline_and_skipped_epochs(tmp_path: Path) -> None:
    folders = study(tmp_path, {1: [30.0, 20.0, 10.0], 2: [15.0, 12.5, 5.0]})
    result = report(*folders, "--out", tmp_path / "r", "--skip-epochs", 2, "--baseline", 2)
    assert "Baseline: 2 workers." in result.stdout
    table = pd.read_csv(tmp_path / "r" / "scaling.csv")
    assert table["seconds"].tolist() == [10.0, 5.0]
    assert table["speedup"].tolist() == [0.5, 1.0]


def test_runs_with_different_settings_are_refused_unless_allowed(tmp_path: Path) -> None:
    one = write(tmp_path / "one", header(1), epoch(1), epoch(2), end(2))
    two = write(tmp_path / "two", header(2, settings={"precision": "bf16"}), epoch(1), epoch(2), end(2))
    refused = report(one, two, "--out", tmp_path / "r")
    assert refused.exit_code == 2
    assert refused.stderr.startswith("Error: the runs differ in more than the number of workers")
    assert f"  precision: 'bf16' in {two}\n" in refused.stderr
    assert "--allow-different" in refused.stderr
    assert not (tmp_path / "r").exists()

    allowed = report(one, two, "--out", tmp_path / "r", "--allow-different")
    assert allowed.exit_code == 0, allowed.output
    assert f"  precision: 'bf16' in {two}\n" in allowed.stdout
    assert "precision" not in make_report([one, two], StudyOptions(allow_different=True)).title


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["np1", "--baseline", "7"], "the runs have 1 worker, but the baseline is 7 workers;"),
        (["missing"], "missing"),
        (["np1", "broken"], "line 1: not a JSON object"),
        (["started"], "no finished epoch with a time"),
        (["np1", "--out", "broken/run.jsonl/report"], "expected a folder that can be written. Change --out"),
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


def test_the_program_prints_a_plan_and_errors_without_a_traceback(tmp_path: Path) -> None:
    folders = study(tmp_path, {1: [9.0, 4.0], 2: [9.0, 2.5]})
    command = [sys.executable, "-m", "scaling", "plan", *map(str, folders), "--target-efficiency", "0.5"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "keep an efficiency of 50% or more" in done.stdout
    assert done.stderr == ""
    failed = subprocess.run([*command[:3], "report", str(tmp_path / "np1" / "nothing")], capture_output=True, text=True)
    assert failed.returncode == 2
    assert failed.stderr.startswith("Error: ")
    assert "Traceback" not in failed.stderr


def test_numbers_have_four_figures_and_no_exponent() -> None:
    made = curve(points(epochs_table([run_log(run(1, [9.0, 12345.678], events=10**9))])))
    lines = table_text(Report(curve=made, notes=[], title="")).splitlines()
    assert lines[1].split()[4] == "12,346"
    assert lines[1].split()[6] == "81,000"


def _columns(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("| ").split("|")]


def test_json_and_markdown_contain_the_numbers_of_the_csv_file(tmp_path: Path) -> None:
    folders = study(tmp_path, {1: [30.0, 20.0, 21.0, 19.0], 2: [15.0, 12.5, 12.5, 12.5], 8: [9.0, 3.125]})
    made = make_report(folders, StudyOptions(), forecast_workers=(64,), published=True)
    write_report(made, tmp_path / "r")
    table = pd.read_csv(tmp_path / "r" / "scaling.csv")
    content = json.loads((tmp_path / "r" / "scaling.json").read_text())
    for row, (_, expected) in zip(content["curve"], table.iterrows(), strict=True):
        for name in ("workers", "seconds", "seconds_low", "speedup", "efficiency", "efficiency_high", "node_hours"):
            assert (row[name] is None) == pd.isna(expected[name])
            assert row[name] is None or row[name] == pytest.approx(expected[name], rel=1e-12)
    [model] = content["models"].values()
    assert [row["workers"] for row in model["forecast"]] == [64]
    assert model["forecast"][0]["extrapolated"] is True
    assert [run["workers"] for run in content["runs"]] == [1, 2, 8]

    lines = (tmp_path / "r" / "scaling.md").read_text().splitlines()
    heads = next(i for i, line in enumerate(lines) if line.startswith("| workers"))
    assert _columns(lines[heads])[:4] == ["workers", "nodes", "runs", "n"]
    assert [_columns(line)[7] for line in lines[heads + 2 : heads + 5]] == ["1.00", "1.60", "6.40"]
    assert markdown(made).splitlines() == lines


def test_each_series_is_a_curve_with_its_own_style(tmp_path: Path) -> None:
    for precision, factor in (("fp32", 1.0), ("bf16", 0.5)):
        for workers in (2, 4):
            times = [factor * 40 / workers] * 4
            records = [epoch(i, t) for i, t in enumerate(times, start=1)]
            write(tmp_path / precision / f"n{workers}", header(workers, {"precision": precision}), *records, end(4))
    made = make_report([tmp_path], StudyOptions(series=("precision",)))
    assert made.curve.groupby("series")["seconds"].apply(list).to_dict() == {
        "precision 'bf16'": [10.0, 5.0],
        "precision 'fp32'": [20.0, 10.0],
    }
    seconds = made.plots()[0]
    assert isinstance(seconds, Panel)
    drawn = {line.label: line for line in seconds.lines if line.role == "measured"}
    assert list(drawn) == ["precision bf16", "precision fp32"]
    # Both curves have their own baseline, with different times, so there are two ideal lines.
    assert [list(line.y) for line in seconds.lines if line.role == "ideal"] == [[10.0, 5.0], [20.0, 10.0]]
    axes = draw(seconds).axes[0]
    styles = [(line.get_color(), line.get_marker(), line.get_linestyle()) for line in axes.get_lines()]
    fp32, bf16 = styles[[*_labels(axes)].index(0)], styles[[*_labels(axes)].index(1)]
    assert all(one != other for one, other in zip(fp32, bf16, strict=True))


def _labels(axes: Axes) -> list[int | None]:
    """Return the index of the style of each line, or None if it is not one of the first two."""
    known = {COLOURS[0]: 0, COLOURS[1]: 1}
    return [known.get(str(line.get_color())) if line.get_marker() not in ("None", "_", None) else None
            for line in axes.get_lines()]  # fmt: skip


def test_styles_differ_in_colour_and_marker_or_in_dashes() -> None:
    assert len(set(COLOURS)) == len(set(MARKERS)) == 7
    combined = {(i % len(COLOURS), i % len(MARKERS), i % len(DASHES)) for i in range(35)}
    assert len(combined) == 35


def test_published_points_equal_their_sources() -> None:
    v100 = next(one for one in read_published() if "V100" in one.name)
    found = {point.workers: f"{point.efficiency:.1%}" for point in v100.points}
    assert found == {2: "100.0%", 4: "99.1%", 8: "97.7%", 16: "97.1%", 32: "97.0%", 64: "94.0%", 128: "79.9%"}
    stampede = next(one for one in read_published() if "Stampede2" in one.name)
    assert [(p.nodes, p.efficiency) for p in stampede.points] == [(1, 1.0), (128, 0.94)]
    assert all(one.source for one in read_published())


def test_a_forecast_is_a_band_as_long_as_the_ideal_line(tmp_path: Path) -> None:
    times = {n: [99.0, *(100 / n + 0.5 + 0.01 * k for k in range(5))] for n in (1, 2, 4, 8)}
    made = make_report(study(tmp_path, times), StudyOptions(), forecast_workers=(16, 100))
    for plot in made.plots()[:3]:
        assert isinstance(plot, Panel)
        band = next(line for line in plot.lines if line.role == "forecast")
        ideal = next(line for line in plot.lines if line.role == "ideal")
        assert max(band.x) == max(ideal.x) == 100
        assert band.low is not None
        assert band.high is not None
        assert all(low <= y <= high for low, y, high in zip(band.low, band.y, band.high, strict=True))
        FigureCanvasAgg(draw(plot)).draw()


def test_the_placement_of_a_node_is_drawn_by_domain() -> None:
    node = [
        {"local_rank": 0, "host": "c1", "cpus": "0-1,8-9", "domains": [0], "node_cpus": "0-15"},
        {"local_rank": 1, "host": "c1", "cpus": "4-5,9", "domains": [1], "node_cpus": "0-15"},
    ]
    [cells] = placement_plots([*node, *({**worker, "host": "c2"} for worker in node)])
    assert cells.title == "Placement of 2 workers on c1 and 1 node like it"
    assert list(cells.labels) == ["NUMA 0", "NUMA 1", "idle"]
    assert [cell for cell in cells.rows[0] if cell] == [(0, (0,)), (1, (0,)), (8, (0,))]
    # CPU 9 belongs to both workers and is drawn in the domain of the last one.
    assert [cell for cell in cells.rows[1] if cell] == [(4, (1,)), (5, (1,)), (9, (0, 1))]
    assert [cell[0] for cell in cells.rows[2] if cell] == [2, 3, 6, 7, 10, 11, 12, 13, 14, 15]
    assert "1 CPU is shared" in cells.caption
    assert "10 CPUs of the job are idle" in cells.caption
    FigureCanvasAgg(draw(cells)).draw()


@pytest.mark.parametrize("cpus", ["x", "3-1", None, "0-99999999", [1], "0-1023," * 9])
def test_a_placement_without_readable_cpus_is_left_out(cpus: object) -> None:
    worker = {"local_rank": 0, "host": "c1", "domains": [0]}
    assert placement_plots([{**worker, "cpus": cpus}]) == placement_plots([worker]) == []


def test_a_node_with_many_cpus_takes_several_rows() -> None:
    worker = {"local_rank": 0, "host": "c1", "cpus": "0-67", "domains": [0], "node_cpus": "0-67"}
    [cells] = placement_plots([worker])
    assert isinstance(cells, Cells)
    assert [len([cell for cell in row if cell]) for row in cells.rows] == [24, 24, 20]
    assert list(cells.labels) == ["NUMA 0", "", ""]


def test_a_report_from_the_table_of_another_program(tmp_path: Path) -> None:
    log = tmp_path / "gpus.csv"
    rows = "2,1784.42\n8,456.62\n32,115.02\n64,59.35\n128,34.9\n"
    log.write_text(f"num_replicas_in_sync,average_train_time\n{rows}")
    columns = ["--column", "seconds=average_train_time", "--column", "workers=num_replicas_in_sync"]
    hints = Hints(columns={"seconds": "average_train_time", "workers": "num_replicas_in_sync"})
    made = make_report([log], StudyOptions(hints=hints), published=True)
    assert [plot.name for plot in made.plots()] == ["seconds", "speedup", "efficiency"]
    found = made.curve.set_index("workers")["efficiency"]
    shown = {workers: f"{value:.1%}" for workers, value in found.items()}
    assert shown == {2: "100.0%", 8: "97.7%", 32: "97.0%", 64: "94.0%", 128: "79.9%"}
    refused = CliRunner().invoke(main, ["forecast", str(log), *columns, "--nodes", "256"])
    assert refused.exit_code == 2
    assert "--at-workers" in refused.stderr


def test_a_baseline_from_other_runs(tmp_path: Path) -> None:
    [one] = study(tmp_path / "a", {1: [9.0, 8.0, 8.0, 8.0]})
    [two] = study(tmp_path / "b", {4: [9.0, 2.5, 2.5, 2.5]})
    result = report(two, "--baseline-from", one, "--out", tmp_path / "r")
    assert result.exit_code == 0, result.output
    table = pd.read_csv(tmp_path / "r" / "scaling.csv")
    assert table[["workers", "baseline", "speedup", "efficiency"]].to_numpy().tolist() == [[4, 1, 3.2, 0.8]]


def test_the_commands_forecast_plan_and_export(tmp_path: Path) -> None:
    times = {n: [99.0, *(1000 / n + 0.01 * k for k in range(5))] for n in (4, 8, 16)}
    folders = list(map(str, study(tmp_path, times)))
    forecast = CliRunner().invoke(main, ["forecast", *folders, "--nodes", "16, 8", "--target-efficiency", "0.9"])
    assert forecast.exit_code == 0, forecast.output
    rows = [line.split() for line in forecast.stdout.splitlines() if line.endswith("extrapolated")]
    assert [row[:2] for row in rows] == [["32", "8"], ["64", "16"]]
    assert float(rows[1][2]) == pytest.approx(1000 / 64, rel=0.05)
    assert "keep an efficiency of 90% or more" in forecast.stdout

    planned = CliRunner().invoke(main, ["plan", *folders, "--target-epoch", "130"])
    assert planned.exit_code == 0, planned.output
    assert planned.stdout.startswith("2 nodes reach an epoch of 130 s")

    exported = CliRunner().invoke(main, ["export", *folders, "--extra-p"])
    lines = [json.loads(line) for line in exported.stdout.splitlines()]
    assert len(lines) == 15
    assert lines[0] == {"params": {"p": 4}, "metric": "time", "value": 250.0}
    out = tmp_path / "lines.jsonl"
    assert CliRunner().invoke(main, ["export", *folders, "--out", str(out)]).exit_code == 0
    assert out.read_text() == exported.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["forecast", "np1"], "no size to forecast"),
        (["forecast", "np1", "--nodes", "0"], "not a list of numbers"),
        (["forecast", "np1", "--nodes", "8"], "two numbers of workers"),
        (["plan", "np1"], "a model needs runs on two numbers of workers or more"),
        (["plan", "np1", "np2"], "no target was given"),
        (["plan", "np1", "np2", "--target-epoch", "1", "--limit", "2000000"], "expected 1 to 524288"),
        (["plan", "np1", "np2", "--target-epoch", "1", "--baseline-from", "np1"], "No such option"),
        (["forecast", "np1", "np2", "--nodes", "8", "--baseline-from", "np1"], "No such option"),
        (["report", "np2", "--forecast", "8", "--baseline-from", "np1"], "give either --baseline-from or sizes"),
        (["forecast", "np1", "np2", "--at-workers", "123456789012"], "123456789012 is too large"),
        (["forecast", "np1", "np2", "--at-workers", "9" * 5000], "is too large"),
        (["forecast", "np1", "np2", "--nodes", "16777216"], "give numbers up to 16777216"),
        (["export", "np1", "--baseline", "1"], "No such option"),
        (["export", "np1", "--baseline-from", "np1"], "No such option"),
        (["report", "np1", "--series", "nothing"], "nothing"),
        (["report", "np1", "--column", "seconds"], "expected NAME=COLUMN"),
        (["report", "np1", "--name-pattern", "("], "not a regular expression"),
        (["report", "np1", "--baseline-from", "missing"], "missing"),
        (["export", "np1", "--out", "np1/run.jsonl/x"], "cannot be written"),
    ],
)
def test_wrong_input_is_an_error_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    study(tmp_path, {1: [9.0, 5.0, 5.0], 2: [9.0, 3.0, 3.0], 4: [9.0, 2.0, 2.0]})
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    assert "Error: " in result.stderr
    assert message in result.stderr


def test_the_command_line_loads_no_heavy_package() -> None:
    code = "import sys, scaling.cli; assert not {'pandas', 'numpy', 'matplotlib', 'plotly', 'rich'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("events", [4000, None])
def test_the_ideal_time_of_weak_scaling_is_constant_beyond_the_measured_sizes(events: int | None) -> None:
    logs = [
        log(n, [9.0, *(10 + 0.1 * n + 0.01 * k for k in range(4))], events=n * events if events else None,
            train_events=n * events if events else None)
        for n in (1, 2, 4)
    ]  # fmt: skip
    table = curve(points(epochs_table(logs)), mode="weak")
    forecasts = forecast_tables(table, fits_of(table), [64])
    seconds, speedup, efficiency = curve_panels(table, forecasts)
    ideals = [next(line for line in panel.lines if line.role == "ideal") for panel in (seconds, speedup, efficiency)]
    assert [list(line.x) for line in ideals] == [[1, 2, 4, 8, 16, 32, 64]] * 3
    assert ideals[0].y == pytest.approx([float(table["seconds"].iloc[0])] * 7)
    assert ideals[1].y == pytest.approx([1, 2, 4, 8, 16, 32, 64])
    band = next(line for line in seconds.lines if line.role == "forecast")
    assert band.x[-1] == 64
    assert band.y[-1] > ideals[0].y[-1]


def test_names_from_files_are_not_formulas_and_have_different_file_names(tmp_path: Path) -> None:
    hostile = r"$\x$"
    losses = {hostile: 1.0, "__x_": 2.0, "Gen": 3.0, "gen": 4.0, "gen-2": 5.0, "ж" * 80: 6.0}
    for precision in (hostile, "fp32"):
        for workers in (1, 2):
            first = header(workers, {"precision": precision, "model": hostile}, hosts=[hostile] * workers)
            records = [epoch(i, 4.0, losses=losses, rank_step_seconds=(1.0,) * workers) for i in (1, 2, 3)]
            write(tmp_path / "runs" / f"{precision}{workers}", first, *records, end(3))
    made = make_report([tmp_path / "runs"], StudyOptions(series=("precision",)), model="amdahl", forecast_workers=(4,))
    names = [panel.name for panel in loss_panels(made.runs)]
    assert names == [f"loss-{name}" for name in ("__x_", "__x_-2", "Gen", "gen-2", "gen-2-2", "_" * 60)]
    written = write_report(made, tmp_path / "r")
    assert len(written) == len(set(written)) == len(list((tmp_path / "r").iterdir()))
    figure = draw(made.plots()[0])
    FigureCanvasAgg(figure).draw()
    # Records write a backslash in a setting as two.
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert f"precision {hostile!r}".replace("'", "") in [text.get_text() for text in legend.get_texts()]


def test_short_computing_times_fill_their_plot_and_missing_ones_are_left_out() -> None:
    nan = float("nan")
    ranks = [(9.0, 9.0, 9.0), (0.1, nan, 0.2), (0.3, nan, nan)]
    epochs = [EpochTimes(epoch=i, seconds=1.0, rank_step_seconds=own) for i, own in enumerate(ranks, start=1)]
    panel = rank_panel([log(3, [], epochs=epochs), log(5, [], epochs=[epochs[1]])])
    assert panel is not None
    (line,) = panel.lines
    assert (line.x, line.y, line.low, line.high) == ([0, 2], [0.2, 0.2], [0.1, 0.2], [0.3, 0.2])
    bottom, top = draw(panel).axes[0].get_ylim()
    assert (bottom, top) == (0, pytest.approx(1.08 * 0.3))
    assert rank_panel([log(1, [], epochs=[EpochTimes(epoch=1, seconds=1.0, rank_step_seconds=(nan,))])]) is None
    percent = Panel(name="e", title="", x_label="", y_label="", percent=True, from_zero=True,
                    lines=[Line(label="", x=[1], y=[0.2])])  # fmt: skip
    assert draw(percent).axes[0].get_ylim() == (0, 1.1)


def test_the_caption_does_not_claim_what_the_logs_lack(tmp_path: Path) -> None:
    made = Report(curve=curve(points(epochs_table([log(1, [9.0, 4.0])]))), notes=[], title="")
    assert made.curve[["validation_seconds", "checkpoint_seconds"]].isna().all(axis=None)
    seconds = made.plots()[0]
    for text in (seconds.caption, table_text(made)):
        assert "validation and checkpoints are not included if the logs record them separately" in text
        assert "without validation" not in text
