"""The page of an evaluation in a real browser: it loads from disk without a network, and a phone can show it."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from gan.cli import main
from gan.data.writing import write_showers
from gan.simulation.gflash import simulate
from tests.support.browser import check_loading, drawn_plots, is_wider_than_window, load

pytestmark = pytest.mark.slow

HOSTILE = "</script><script>window.broken = true</script> $x$ <b>"
PHONE = 390
"""Width of a phone in pixels."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Evaluation of two samples, of which one has a name with markup and one has events without energy."""
    files = tmp_path_factory.mktemp("evaluation")
    energies = np.linspace(20.0, 480.0, 160, dtype=np.float32)
    write_showers(files / "reference.h5", simulate(energies, seed=1), energies, {})
    cells = simulate(energies, seed=2)
    write_showers(files / "same.h5", cells, energies, {})
    write_showers(files / "empty.h5", 0 * cells, energies, {})
    arguments = [
        "evaluate",
        "--from",
        files / "same.h5",
        "--from",
        files / "empty.h5",
        "--name",
        HOSTILE,
        "--name",
        "b",
    ]
    arguments += ["--reference", files / "reference.h5", "--no-classifier", "--out", files / "out"]
    done = CliRunner().invoke(main, list(map(str, arguments)))
    assert done.exit_code == 0, done.output
    return files / "out"


@pytest.fixture(scope="module")
def page(browser: Any, folder: Path) -> Any:
    return load(browser, folder / "evaluation.html")


def test_the_page_loads_without_errors_and_without_a_network(page: Any, folder: Path) -> None:
    check_loading(page, folder / "evaluation.html")
    assert page.execute_script("return window.broken === undefined")
    assert HOSTILE in page.find_element("tag name", "h1").text


def test_every_plot_is_drawn_inside_its_frame(page: Any, folder: Path) -> None:
    drawn = drawn_plots(page)
    assert set(drawn) == {path.stem for path in folder.glob("*.svg")}
    assert [name for name, inside in drawn.items() if not inside] == []
    assert not is_wider_than_window(page)


def test_the_table_shows_the_figures_of_the_csv_file(page: Any, folder: Path) -> None:
    rows = page.execute_script(
        "return [...document.querySelector('table').querySelectorAll('tbody tr')].map(row => "
        "[...row.querySelectorAll('td')].map(cell => cell.textContent))"
    )
    shown = {(row[0], row[1]): row[2] for row in rows}
    with (folder / "evaluation.csv").open() as file:
        values = {(row["figure"], row["sample"]): row["value"] for row in csv.DictReader(file) if row["bin"] == "all"}
    assert ("visible energy", HOSTILE) in shown
    for key, text in shown.items():
        if text != "-":
            assert float(text) == pytest.approx(float(values[key]), rel=1e-3), key


@pytest.fixture
def phone(browser: Any, folder: Path) -> Iterator[Any]:
    size = browser.get_window_size()
    metrics = {"width": PHONE, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    yield load(browser, folder / "evaluation.html")
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.set_window_size(size["width"], size["height"])


def test_a_phone_shows_the_page_without_scrolling_sideways(phone: Any) -> None:
    assert phone.execute_script("return window.innerWidth") <= PHONE
    assert not is_wider_than_window(phone)
    assert all(drawn_plots(phone).values())
