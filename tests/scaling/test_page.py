"""The HTML page in a real browser: it loads from disk without a network, and shows the numbers of the CSV file.

The tests need Chromium with chromedriver, and selenium. Without them they are skipped, unless REQUIRE_BROWSER=1.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from scaling.records import StepTimes
from scaling.report import make_report, write_report
from scaling.study import StudyOptions
from tests.support.browser import check_loading, drawn_plots, is_wider_than_window, load
from tests.support.sample_runs import end, epoch, header, write

HOSTILE = r"</script><script>window.broken = true</script><img src=x onerror='window.broken = true'> $\x$"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Report of a study that fills every part of the page, with markup in names."""
    root = tmp_path_factory.mktemp("study")
    generator = np.random.default_rng(5)
    for precision, factor in (("fp32", 1.0), (r"bf16 <b>& $\x$ %{x}", 0.6)):
        for nodes in (1, 2, 4, 8):
            workers = 4 * nodes
            placement = [
                {
                    "rank": rank, "local_rank": rank % 4, "host": f"c{rank // 4}", "domains": [rank % 4 // 2],
                    "cpus": f"{12 * (rank % 4)}-{12 * (rank % 4) + 11}", "cores": 12, "node_cpus": "0-47",
                }
                for rank in range(workers)
            ]  # fmt: skip
            times = factor * (900 / workers + 2) * (1 + 0.01 * np.abs(generator.standard_normal(8)))
            records = [
                epoch(
                    number, float(seconds), input_seconds=0.01 * seconds, communication_seconds=0.1 * seconds,
                    step_seconds=StepTimes(median=0.5, p95=0.6, max=0.9), slowest_host=HOSTILE,
                    losses={"generator": 30.0 / number, HOSTILE: 1.0 + 1 / number, HOSTILE.upper(): 1 / number},
                    rank_step_seconds=tuple(0.5 + 0.01 * (rank % 4) for rank in range(workers)),
                    slow_ranks=({"rank": 3, "host": HOSTILE, "ratio": 1.3},),
                )
                for number, seconds in enumerate(times, start=1)
            ]  # fmt: skip
            settings = {"precision": precision, "model": HOSTILE}
            hosts = [f"{HOSTILE} {rank}" for rank in range(workers)]
            first = header(
                workers, settings, nodes=nodes, placement=placement, versions={"python": HOSTILE}, hosts=hosts
            )
            write(root / "runs" / precision[:4] / f"n{nodes}", first, *records, end(8))
    made = make_report(
        [root / "runs"], StudyOptions(series=("precision",)), forecast_nodes=(16, 32), model="amdahl", published=True
    )
    write_report(made, root / "report")
    return root / "report"


@pytest.fixture(scope="module")
def page(browser: Any, folder: Path) -> Any:
    return load(browser, folder / "scaling.html")


def test_the_page_loads_without_errors_and_without_a_network(page: Any, folder: Path) -> None:
    check_loading(page, folder / "scaling.html")
    assert page.execute_script("return window.broken === undefined")


def test_every_plot_is_drawn_inside_its_frame(page: Any, folder: Path) -> None:
    drawn = drawn_plots(page)
    stems = {path.stem for path in folder.glob("*.svg")} - {"scaling"}
    assert set(drawn) == stems
    assert {"placement", "steps", "ranks", "slowest", "breakdown", "breakdown-2"} <= stems
    assert len([stem for stem in stems if stem.startswith("loss-")]) == 3
    assert [name for name, inside in drawn.items() if not inside] == []
    assert not is_wider_than_window(page)


def test_the_table_shows_the_numbers_of_the_csv_file(page: Any, folder: Path) -> None:
    table = pd.read_csv(folder / "scaling.csv")
    rows = page.execute_script(
        "return [...document.querySelectorAll('#curve tbody tr')].map(row => "
        "[...row.querySelectorAll('td[data-column]')].map(cell => [cell.dataset.column, cell.dataset.value]))"
    )
    assert len(rows) == len(table) == 8
    for cells, (_, expected) in zip(rows, table.iterrows(), strict=True):
        assert {name: float(value) for name, value in cells} == {name: float(expected[name]) for name, _ in cells}
        assert {"workers", "seconds", "events_per_second", "speedup", "efficiency"} <= {name for name, _ in cells}


@pytest.mark.parametrize("name", ["seconds", "speedup", "efficiency"])
def test_the_plots_show_the_numbers_of_the_csv_file(page: Any, folder: Path, name: str) -> None:
    table = pd.read_csv(folder / "scaling.csv")
    traces = page.execute_script(
        "return document.getElementById(arguments[0]).data.map(t => "
        "({meta: t.meta, name: t.name, x: [...t.x], y: [...t.y], up: t.error_y && [...t.error_y.array || []]}))",
        f"plot-{name}",
    )
    measured = [trace for trace in traces if trace["meta"] == "measured"]
    assert len(measured) == 2
    for trace, (_, part) in zip(measured, table.groupby("series", sort=False), strict=True):
        assert trace["x"] == part["workers"].tolist()
        assert trace["y"] == part[name].tolist()
        highs = [None if up is None else y + up for y, up in zip(trace["y"], trace["up"], strict=True)]
        assert [h for h in highs if h is not None] == pytest.approx(part[f"{name}_high"].dropna().tolist())
    ideal = next(trace for trace in traces if trace["meta"] == "ideal")
    expected = {
        "seconds": lambda n: table["ideal_seconds"][0] * 4 / n,
        "speedup": lambda n: n / 4,
        "efficiency": lambda n: 1.0,
    }[name]
    assert ideal["y"] == pytest.approx([expected(n) for n in ideal["x"]], rel=1e-3)
    assert max(ideal["x"]) == 128
    assert sum(trace["meta"] == "forecast" for trace in traces) == 2
    published = [trace["name"] for trace in traces if trace["meta"] == "published"]
    assert len(published) == {"seconds": 1, "speedup": 0, "efficiency": 2}[name]


def test_the_parts_of_an_epoch_add_up_to_full_bars(page: Any) -> None:
    bars = page.execute_script("return document.getElementById('plot-breakdown').data.map(t => [...t.y])")
    assert np.sum(bars, axis=0) == pytest.approx(1.0)


def test_names_are_shown_unchanged(page: Any) -> None:
    assert "onerror" in page.find_element("tag name", "h1").text
    legend = page.execute_script("return document.querySelector('#plot-seconds .legend').textContent")
    assert r"precision bf16 <b>& $\\x$ %{x}" in legend
    axes = page.execute_script(
        "return [...document.querySelectorAll('[id^=plot-loss] .ytitle')].map(title => title.textContent)"
    )
    assert sorted(axes) == sorted(["generator", HOSTILE, HOSTILE.upper()])
