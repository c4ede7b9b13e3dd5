"""Phrases that the messages of all packages use."""

from __future__ import annotations

import re

__all__ = ["count", "markdown_text"]


def count(number: int, noun: str) -> str:
    """Return a number with its noun: `1 worker`, `1,024 workers`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def markdown_text(text: str) -> str:
    """Return any text as one line that Markdown shows unchanged, also in a table: no HTML, link, picture or cell."""
    return re.sub(r"([\\`*\[\]<>|&])", r"\\\1", " ".join(text.split()))
