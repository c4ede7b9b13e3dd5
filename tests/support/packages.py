"""Debian packages that some tests need, from tests/apt-packages.txt, and skips or failures without them."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

from tests.support.environment import ROOT

__all__ = ["install_hint", "packages", "skip_or_fail"]

FILE = ROOT / "tests" / "apt-packages.txt"


def packages(group: str) -> list[str]:
    """Return the packages of one group."""
    words = [line.split() for line in FILE.read_text().splitlines() if line and not line.startswith("#")]
    return [package for name, package, *_ in words if name == group]


def install_hint(group: str) -> str:
    """Return the commands that install a group, for the end of an error message."""
    return f"install with 'make test-packages GROUP={group}' (apt-get install {' '.join(packages(group))})"


def skip_or_fail(group: str, reason: str) -> NoReturn:
    """Skip the current test, or fail it if REQUIRE_CLUSTER=1 (or _BROWSER, _SIMGRID) is set for its group."""
    required = f"REQUIRE_{group.upper()}"
    if os.environ.get(required) == "1":
        pytest.fail(f"{required}=1, but {reason}")
    pytest.skip(reason)
