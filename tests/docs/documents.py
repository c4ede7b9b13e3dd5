"""The documentation as data: fenced blocks, inline code, links and headings, each with its file and line."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from tests.support.environment import ROOT

__all__ = ["DOCUMENTS", "Block", "Piece", "anchors", "blocks", "code_spans", "links"]

DOCUMENTS = (
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """A piece of a document."""

    document: Path
    line: int
    """Line in the document, from 1."""
    text: str

    def __str__(self) -> str:
        """Return the file and the line, for the message of a failed test."""
        return f"{self.document.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Block(Piece):
    """A fenced block."""

    language: str
    """First word after the fence."""
    name: str = ""
    """Second word after the fence: the file that the block shows."""


@functools.cache
def _tokens(document: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(document.read_text(encoding="utf-8"))


def blocks(language: str = "") -> list[Block]:
    """Return the fenced blocks of all documents, or those in one language."""
    found = []
    for document in DOCUMENTS:
        for token in _tokens(document):
            if token.type == "fence" and token.map is not None:
                words = token.info.split()
                block = Block(
                    document=document,
                    line=token.map[0] + 1,
                    text=token.content,
                    language=words[0] if words else "",
                    name=words[1] if len(words) > 1 else "",
                )
                found.append(block)
    return [block for block in found if not language or block.language == language]


def code_spans() -> list[Piece]:
    """Return the inline code of all documents."""
    return [
        Piece(document=document, line=line, text=child.content)
        for document in DOCUMENTS
        for line, child in _inline(document)
        if child.type == "code_inline"
    ]


def links() -> list[Piece]:
    """Return the targets of all links and images."""
    targets = {"link_open": "href", "image": "src"}
    return [
        Piece(document=document, line=line, text=str(child.attrs[targets[child.type]]))
        for document in DOCUMENTS
        for line, child in _inline(document)
        if child.type in targets
    ]


def anchors(document: Path) -> set[str]:
    """Return the anchors that GitHub makes for a document's headings."""
    tokens = _tokens(document)
    headings = [after for token, after in pairwise(tokens) if token.type == "heading_open"]
    seen: Counter[str] = Counter()
    found = set()
    for heading in headings:
        text = "".join(child.content for child in heading.children or ())
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def _inline(document: Path) -> Iterator[tuple[int, Token]]:
    """Yield the inline tokens of a document with their lines."""
    for token in _tokens(document):
        if token.type != "inline" or token.map is None:
            continue
        line = token.map[0] + 1
        for child in token.children or ():
            yield line, child
            line += child.type in ("softbreak", "hardbreak")
