"""Beds for the tests of this folder, and what is said where a machine cannot have one.

Set REQUIRE_CLUSTER=1 where the tests must not be skipped, as in continuous integration.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.bed import SlurmBed
from tests.cluster.requirements import missing

HERE = Path(__file__).parent
MakeBed = Callable[..., SlurmBed]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.cluster)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Iterator[None]:
    """Show the logs of a failed test's beds; the beds themselves will be gone."""
    outcome: Any = yield
    report = outcome.get_result()
    if report.failed:
        for name, value in getattr(item, "funcargs", {}).items():
            if isinstance(value, SlurmBed):
                report.sections.append((f"logs of {name}", value.logs(25)))


@pytest.fixture(scope="session", autouse=True)
def _a_bed_is_possible() -> None:
    if reason := missing():
        if os.environ.get("REQUIRE_CLUSTER") == "1":
            pytest.fail(f"REQUIRE_CLUSTER=1, but {reason}")
        pytest.skip(reason)


@contextmanager
def _maker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeBed]:
    with ExitStack() as stack:

        def make(nodes: int = 4, *, shared: Iterable[Path] = (), **options: Any) -> SlurmBed:
            everywhere = [tmp_path_factory.getbasetemp(), *shared]
            return stack.enter_context(SlurmBed(nodes, shared=everywhere, **options))

        yield make


@pytest.fixture
def make_bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeBed]:
    """Brings up beds with the options of `SlurmBed`, for this test only. All nodes see the folders of `tmp_path`."""
    with _maker(tmp_path_factory) as make:
        yield make


@pytest.fixture(scope="session")
def _beds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeBed]:
    with _maker(tmp_path_factory) as make:
        yield make


@pytest.fixture(scope="session")
def _plain_bed(_beds: MakeBed) -> SlurmBed:
    return _beds()


@pytest.fixture(scope="session")
def _skx_bed(_beds: MakeBed) -> SlurmBed:
    return _beds(pretend=True)


@pytest.fixture
def bed(_plain_bed: SlurmBed) -> Iterator[SlurmBed]:
    """Four nodes, up for the whole session and idle before each test. All nodes see the folders of `tmp_path`."""
    yield _plain_bed
    _plain_bed.reset()


@pytest.fixture
def skx_bed(_skx_bed: SlurmBed) -> Iterator[SlurmBed]:
    """Four nodes whose processes see and bind to the 2 x 24 cores of a Stampede2 SKX node."""
    yield _skx_bed
    _skx_bed.reset()
