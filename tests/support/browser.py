"""A headless browser for tests of HTML pages, and what every page of this project must fulfil in it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.packages import install_hint, skip_or_fail

__all__ = ["check_loading", "drawn_plots", "is_wider_than_window", "load", "open_browser"]


@contextmanager
def open_browser(profile: Path) -> Iterator[Any]:
    """Open a headless Chromium that logs its console and every request. Skip the test if it is not installed.

    Args:
        profile: empty folder for the data of the browser.
    """
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next((path for name in names if (path := shutil.which(name))), None)
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
    for argument in (
        *("headless=new", "no-sandbox", "disable-gpu", "no-first-run", "disable-background-networking"),
        *("disable-component-update", "disable-sync", "disable-quic", "disable-dev-shm-usage", "disable-extensions"),
        *(f"user-data-dir={profile}", "window-size=1360,2400"),
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield browser
    finally:
        browser.quit()


def load(browser: Any, path: Path) -> Any:
    """Load a page from disk, wait until it is drawn, and return the browser."""
    browser.get(path.as_uri())
    browser.execute_async_script("requestAnimationFrame(() => setTimeout(arguments[0], 300))")
    return browser


def check_loading(page: Any, path: Path) -> None:
    """Check that a page loaded without messages on the console, without requests, and without buttons for services."""
    assert [entry["message"] for entry in page.get_log("browser")] == []
    events = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    requests = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    # Other requests are from the first page of the browser.
    urls = [request["request"]["url"] for request in requests if request["documentURL"] == path.as_uri()]
    assert [url for url in urls if not url.startswith(("data:", "blob:"))] == [path.as_uri()]
    buttons = page.execute_script(
        "return [...document.querySelectorAll('.modebar-btn')].map(b => b.dataset.title || '')"
    )
    assert buttons
    assert not [title for title in buttons if "share" in title.lower() or "cloud" in title.lower()]


def drawn_plots(page: Any) -> dict[str, bool]:
    """Return the names of all plots, and whether each is drawn inside its frame."""
    drawn = page.execute_script(
        "return [...document.querySelectorAll('.js-plotly-plot')].map(plot => {"
        "  const inner = plot.querySelector('.main-svg').getBoundingClientRect();"
        "  const outer = plot.closest('figure').getBoundingClientRect();"
        "  return [plot.id, inner.width > 200 && inner.height > 80 && inner.right <= outer.right + 1];"
        "})"
    )
    return {name.removeprefix("plot-"): inside for name, inside in drawn}


def is_wider_than_window(page: Any) -> bool:
    """Return True if a reader must scroll sideways."""
    return bool(page.execute_script("return document.documentElement.scrollWidth > window.innerWidth"))
