"""The HTML page in a real browser: it loads from disk without a network, and shows the numbers of the CSV file.

The tests need Chromium with chromedriver, and selenium. Without them they are skipped, unless REQUIRE_BROWSER=1.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from scaling.records import StepTimes
from scaling.report import make_report, write_report
from scaling.study import StudyOptions
from tests.support.packages import install_hint, skip_or_fail
from tests.support.sample_runs import end, epoch, header, write

HOSTILE = r"</script><script>window.broken = true</script><img src=x onerror='window.broken = true'> $\x$"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Headless Chromium that logs its console and every request."""
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next((found for name in names if (found := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        skip_or_fail("browser", f"no Chromium with chromedriver on PATH; {install_hint('browser')}")
    try:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service
    except ImportError:
        skip_or_fail("browser", "selenium is not installed; bring the environment up to date with 'make env'")
    options = webdriver.ChromeOptions()
    options.binary_location = program or ""
    profile = tmp_path_factory.mktemp("profile")
    for argument in (
        *("headless=new", "no-sandbox", "disable-gpu", "no-first-run", "disable-background-networking"),
        *("disable-component-update", "disable-sync", "disable-quic", "disable-dev-shm-usage", "disable-extensions"),
        *(f"user-data-dir={profile}", "window-size=1360,2400"),
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = webdriver.Chrome(options=options, service=Service(driver))
    yield opened
    opened.quit()


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
    browser.get((folder / "scaling.html").as_uri())
    browser.execute_async_script("requestAnimationFrame(() => setTimeout(arguments[0], 300))")
    return browser


def test_the_page_loads_without_errors_and_without_a_network(page: Any, folder: Path) -> None:
    assert [entry["message"] for entry in page.get_log("browser")] == []
    events = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    address = (folder / "scaling.html").as_uri()
    requests = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    # Other requests are from the first page of the browser.
    urls = [request["request"]["url"] for request in requests if request["documentURL"] == address]
    assert [url for url in urls if not url.startswith(("data:", "blob:"))] == [address]
    assert page.execute_script("return window.broken === undefined")
    buttons = page.execute_script(
        "return [...document.querySelectorAll('.modebar-btn')].map(b => b.dataset.title || '')"
    )
    assert buttons
    assert not [title for title in buttons if "share" in title.lower() or "cloud" in title.lower()]


def test_every_plot_is_drawn_inside_its_frame(page: Any, folder: Path) -> None:
    drawn = page.execute_script(
        "return [...document.querySelectorAll('.js-plotly-plot')].map(plot => {"
        "  const inner = plot.querySelector('.main-svg').getBoundingClientRect();"
        "  const outer = plot.closest('figure').getBoundingClientRect();"
        "  return [plot.id, inner.width > 200 && inner.height > 80 && inner.right <= outer.right + 1];"
        "})"
    )
    stems = {path.stem for path in folder.glob("*.svg")} - {"scaling"}
    assert {name.removeprefix("plot-") for name, _ in drawn} == stems
    assert {"placement", "steps", "ranks", "slowest", "breakdown", "breakdown-2"} <= stems
    assert len([stem for stem in stems if stem.startswith("loss-")]) == 3
    assert [name for name, inside in drawn if not inside] == []
    assert page.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")


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
