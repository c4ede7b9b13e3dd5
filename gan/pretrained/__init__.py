"""Trained generators that ship with the package, for `--from pretrained:NAME`.

Each has a folder with the generator (`generator.npz`, made by `python -m gan pack`), the record of its training
(`run.jsonl`) and its evaluation (`evaluation.md`, `evaluation.json`). `make pretrained` trains them again.
"""

from __future__ import annotations

from pathlib import Path

from gan.errors import InputError

__all__ = ["is_pretrained", "pretrained_checkpoint", "pretrained_names"]

PREFIX = "pretrained:"
FOLDER = Path(__file__).parent
GENERATOR = "generator.npz"


def pretrained_names() -> list[str]:
    """Return the names of the generators that ship."""
    return sorted(path.parent.name for path in FOLDER.glob(f"*/{GENERATOR}"))


def is_pretrained(source: Path) -> bool:
    """Return True if a value of `--from` names a generator that ships."""
    return str(source).startswith(PREFIX)


def pretrained_checkpoint(source: Path) -> Path:
    """Return the file of a generator that ships.

    Args:
        source: such as `pretrained:conv3d`.

    Raises:
        InputError: there is no generator with this name.
    """
    names = pretrained_names()
    name = str(source).removeprefix(PREFIX)
    if name not in names:
        expected = " or ".join(f"{PREFIX}{each}" for each in names) or "the --out folder of a training"
        raise InputError(f"--from is {source}; expected {expected}: change --from")
    return FOLDER / name / GENERATOR
