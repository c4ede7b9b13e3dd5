"""Beds for the tests of this folder. If no bed can be started, the tests are skipped.

With REQUIRE_CLUSTER=1, as in continuous integration, they fail instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.bed import MakeBed, SlurmBed
from tests.cluster.requirements import missing
from tests.support.packages import skip_or_fail


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Iterator[None]:
    """Add the logs of a failed test's beds to its report, because the beds are removed."""
    outcome: Any = yield
    report = outcome.get_result()
    if report.failed:
        for name, value in getattr(item, "funcargs", {}).items():
            if isinstance(value, SlurmBed):
                report.sections.append((f"logs of {name}", value.logs(25)))


@pytest.fixture(scope="session", autouse=True)
def _a_bed_is_possible() -> None:
    if reason := missing():
        skip_or_fail("cluster", reason)


@contextmanager
def _maker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeBed]:
    with ExitStack() as stack:

        def make(nodes: int = 4, *, shared: Iterable[Path] = (), **options: Any) -> SlurmBed:
            everywhere = [tmp_path_factory.getbasetemp(), *shared]
            return stack.enter_context(SlurmBed(nodes, shared=everywhere, **options))

        yield make


@pytest.fixture
def make_bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeBed]:
    """Function that starts beds, with the options of `SlurmBed`. All nodes see the folders of `tmp_path`."""
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
    """Four nodes, shared by all tests and idle before each. All nodes see the folders of `tmp_path`."""
    yield _plain_bed
    _plain_bed.reset()


@pytest.fixture
def skx_bed(_skx_bed: SlurmBed) -> Iterator[SlurmBed]:
    """Four nodes as in `bed`, but processes see and bind to the 2 x 24 cores of a Stampede2 SKX node."""
    yield _skx_bed
    _skx_bed.reset()
