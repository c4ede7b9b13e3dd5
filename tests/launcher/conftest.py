"""Fixtures of the launcher's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.slurm_site import Site


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Stand-ins for Slurm's commands on PATH. The current folder is an empty folder."""
    site = Site(tmp_path / "site")
    for name, value in site.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SCRATCH", raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return site
