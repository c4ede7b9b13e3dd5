"""Plots of the validation in a report: against epoch and time, with the warnings of the training as notes."""

from __future__ import annotations

from pathlib import Path

import pytest

from scaling.parsers.record import run_log
from scaling.plots import quality_panels
from scaling.records import read_run
from scaling.report import make_report, table_text, write_report
from tests.support.sample_runs import end, epoch, header, write

WARNING = "dead generator since epoch 2, step 7: little output; try another --seed"


def validation(number: int, **figures: float) -> dict[str, float]:
    return {
        "shower_distance": 1 / number,
        "sampling_fraction_error": 0.5 / number,
        "profile_l1_x": 0.4 / number,
        "profile_l1_y": 0.2 / number,
        "active_cells": 0.01 * number,
        "active_cells_real": 0.1,
        "moment_error": 3.0 / number,
        **figures,
    }


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Runs on 1 and 2 workers: 10 and 5 seconds an epoch, and 200 seconds for validation and checkpoint."""
    for workers in (1, 2):
        epochs = [
            epoch(number, 10.0 / workers, validation=validation(number), warnings=[WARNING] if number == 2 else [])
            for number in (1, 2, 3)
        ]
        write(tmp_path / str(workers), header(workers), *epochs, end(3))
    return tmp_path


def test_each_quantity_is_drawn_against_the_epoch_and_against_the_time(study: Path) -> None:
    runs = [run_log(read_run(study / workers)) for workers in ("1", "2")]
    panels = {panel.name: panel for panel in quality_panels(runs)}
    # The records have no hits: there is no such plot.
    quantities = ("shower-distance", "visible-energy", "profiles", "active-cells", "moments")
    assert list(panels) == [f"quality-{name}{suffix}" for name in quantities for suffix in ("", "-time", "-workers")]
    ideal, one, two = panels["quality-profiles"].lines
    assert ideal.role == "ideal"
    assert (one.label, two.label) == ("1 worker", "2 workers")
    assert one.x == [1, 2, 3]
    assert one.y == pytest.approx([0.3, 0.15, 0.1])
    _, one, two = panels["quality-active-cells-time"].lines
    assert one.x == pytest.approx([210 / 3600, 420 / 3600, 630 / 3600])
    assert two.x == pytest.approx([205 / 3600, 410 / 3600, 615 / 3600])
    assert two.y == pytest.approx([0.1, 0.2, 0.3])
    assert panels["quality-active-cells"].y_scale == "log"


def test_last_epochs_are_drawn_against_all_workers_with_the_range_over_repeats(tmp_path: Path) -> None:
    runs = []
    for name, workers, virtual, distances in (
        ("a", 1, 1, (0.5, 0.2)),
        ("b", 1, 1, (0.5, 0.4)),
        ("c", 2, 8, (0.6, 0.1)),
    ):
        epochs = [epoch(n, validation={"shower_distance": each}) for n, each in enumerate(distances, start=1)]
        write(tmp_path / name, header(workers, settings={"virtual_workers": virtual}), *epochs, end(2))
        runs.append(run_log(read_run(tmp_path / name)))
    panels = {panel.name: panel for panel in quality_panels(runs)}
    panel = panels["quality-shower-distance-workers"]
    _, line = panel.lines
    assert panel.x_ticks == line.x == [1, 16]
    assert line.y == pytest.approx([0.3, 0.1])
    assert (line.low, line.high) == ([0.2, 0.1], [0.4, 0.1])
    assert [each.label for each in panels["quality-shower-distance"].lines[1:]] == ["1 worker", "16 workers"]


def test_one_size_has_no_plot_against_workers(tmp_path: Path) -> None:
    write(tmp_path, header(), epoch(1, validation=validation(1)), end(1))
    panels = quality_panels([run_log(read_run(tmp_path))])
    assert not [panel.name for panel in panels if panel.name.endswith("-workers")]


def test_a_generator_without_output_has_a_linear_axis(tmp_path: Path) -> None:
    epochs = [epoch(number, validation=validation(number, active_cells=0.0)) for number in (1, 2)]
    write(tmp_path, header(), *epochs, end(2))
    panels = {panel.name: panel for panel in quality_panels([run_log(read_run(tmp_path))])}
    assert panels["quality-active-cells"].y_scale == "linear"


def test_runs_without_validation_have_no_such_plots(tmp_path: Path) -> None:
    write(tmp_path, header(), epoch(1), end(1))
    assert quality_panels([run_log(read_run(tmp_path))]) == []


def test_the_report_draws_them_and_repeats_the_warnings(study: Path, tmp_path: Path) -> None:
    made = make_report([study / "1", study / "2"])
    names = {path.name for path in write_report(made, tmp_path / "report")}
    assert {"quality-shower-distance.png", "quality-shower-distance-time.svg"} <= names
    assert f"Warning of the training: {WARNING}." in table_text(made)
