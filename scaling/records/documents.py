"""Read small files that users write or copy: TOML and JSON documents.

Planning a launch must work with the standard library alone, so this module imports nothing else.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["read_json", "read_toml"]

_LARGEST_TOML = 1 << 20
_LARGEST_JSON = 1 << 26
"""Largest sizes in bytes. The topology of a node takes about 100 kB, and the file of a large study 1 MB."""


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is not TOML, is too large, or has too many levels.
    """
    values: dict[str, Any] = _read(path, _LARGEST_TOML, tomllib.loads)
    return values


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is not JSON, is too large, or has too many levels.
    """
    return _read(path, _LARGEST_JSON, json.loads)


def _read(path: Path, most: int, parse: Callable[[str], Any]) -> Any:
    # One byte more than allowed: some files, such as /dev/zero, have no end.
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it has more than {most:,} bytes")
    try:
        return parse(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError("it is not text in UTF-8") from error
    except RecursionError as error:
        raise ValueError("its values are nested too deeply") from error
