"""A Python environment whose python is a shell script, for tests of job scripts."""

from __future__ import annotations

from pathlib import Path

__all__ = ["stand_in_venv"]


def stand_in_venv(folder: Path, script: str) -> Path:
    """Make an environment in `folder`/venv whose python runs these lines of sh, and return its path."""
    python = folder / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    return folder / "venv"
