"""What a user says of logs that do not say it themselves, and what the names of files and folders tell.

A fact is taken from the first of: an option, the user's name pattern, the log, the names that people usually give.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from scaling.records import RecordError

__all__ = ["NUMBERS", "Facts", "Hints", "complete", "said_by_user", "words"]

NUMBERS = (
    *("workers", "nodes", "workers_per_node", "cores_per_node"),
    *("batch_size", "global_batch_size", "train_events"),
)


@dataclass(kw_only=True, slots=True)
class Facts:
    """What is known of a run beside its epochs. None is unknown."""

    workers: int | None = None
    nodes: int | None = None
    workers_per_node: int | None = None
    cores_per_node: int | None = None
    batch_size: int | None = None
    """Events per worker and step."""
    global_batch_size: int | None = None
    train_events: int | None = None
    settings: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, numbers: Mapping[str, int | None]) -> Facts:
        facts = cls()
        for name, value in numbers.items():
            setattr(facts, name, value)
        return facts


@dataclass(frozen=True, kw_only=True, slots=True)
class Hints:
    """Options that hold for every file that is read, but for the counts that a run.jsonl of this project tells."""

    workers: int | None = None
    nodes: int | None = None
    cores_per_node: int | None = None
    """Physical cores."""
    batch_size: int | None = None
    """Events per worker and step."""
    train_events: int | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    """For tables and CSV logs: what is meant -> name of its column, such as seconds -> average_train_time."""
    name_pattern: str | None = None
    r"""Regular expression that is searched in the absolute path, with named groups such as `(?P<nodes>\d+)`: workers,
    nodes, workers_per_node, cores_per_node, batch_size, global_batch_size, train_events. Any other name is a setting
    of the run, such as `(?P<precision>fp32|bf16)`."""

    def __post_init__(self) -> None:
        for name in ("workers", "nodes", "cores_per_node", "batch_size", "train_events"):
            value = getattr(self, name)
            if value is not None and not 1 <= value < 2**63:
                raise RecordError(f"{name} is {value}; expected 1 or more")
        if self.name_pattern is not None:
            try:
                groups = re.compile(self.name_pattern).groupindex
            except (re.error, OverflowError, RecursionError) as error:
                raise RecordError(
                    f"the name pattern {self.name_pattern!r} is no regular expression: {error}"
                ) from error
            if not groups:
                raise RecordError(
                    f"the name pattern {self.name_pattern!r} has no named group; "
                    r"name what it finds, for example '(?P<nodes>\d+)nodes'"
                )


def complete(told: Facts, path: Path, hints: Hints, about: str) -> tuple[Facts, list[str]]:
    """`told` (what the log says) with what hints and names add, and notes on where they disagree.

    Workers follow from nodes x workers per node or from global / local batch where they are not given, and a batch
    size from the other one and the workers.

    Raises:
        RecordError: the number of workers cannot be found; or the name pattern finds no number where one belongs.
    """
    by_user = said_by_user(path, hints)
    sources = (*by_user.items(), ("in the log", told), ("in the name", _from_usual_names(path)))
    known, notes = Facts(settings=told.settings.copy()), []
    for facts in by_user.values():
        known.settings |= facts.settings
    for name in NUMBERS:
        said = [(where, value) for where, facts in sources if (value := getattr(facts, name)) is not None]
        if not said:
            continue
        where, value = said[0]
        setattr(known, name, value)
        own = getattr(told, name)
        if own is not None and own != value:
            notes.append(f"{words(name)}: {value} as {where}, though the log says {own}.")
        elif where == "in the name":
            notes.append(f"{words(name)}: {value} as found in the file's path.")
    _derive(known)
    if known.workers is None:
        nodes = f", of which {known.nodes} nodes are known" if known.nodes else ""
        raise RecordError(
            f"{path}: {about} does not tell the number of workers{nodes}; expected it in the log, in the options or in "
            r"the path. Give --workers N, or --name-pattern such as '(?P<nodes>\d+)nodes-(?P<workers_per_node>\d+)'"
        )
    return known, notes


def said_by_user(path: Path, hints: Hints) -> dict[str, Facts]:
    """Where the user has said something of a file (options, then the name pattern) -> what was said."""
    given = Facts.of({name: getattr(hints, name, None) for name in NUMBERS})
    return {"given": given, "in the name pattern's match": _from_pattern(hints.name_pattern, path)}


def _derive(known: Facts) -> None:
    if known.workers is None and known.nodes and known.workers_per_node:
        known.workers = known.nodes * known.workers_per_node
    if known.workers is None and known.global_batch_size and known.batch_size:
        workers, rest = divmod(known.global_batch_size, known.batch_size)
        known.workers = workers if workers and not rest else None
    if known.workers is None:
        return
    if known.nodes is None and known.workers_per_node:
        known.nodes = -(-known.workers // known.workers_per_node)
    if known.batch_size is None and known.global_batch_size and known.global_batch_size % known.workers == 0:
        known.batch_size = known.global_batch_size // known.workers
    if known.global_batch_size is None and known.batch_size:
        known.global_batch_size = known.batch_size * known.workers


def _from_pattern(pattern: str | None, path: Path) -> Facts:
    found = re.search(pattern, str(path.absolute())) if pattern else None
    facts = Facts()
    for name, text in found.groupdict().items() if found else ():
        if text is None:
            continue
        if name not in NUMBERS:
            facts.settings[name] = text
        elif text.isascii() and text.isdecimal() and 0 < int(text[:30]) < 2**63:
            setattr(facts, name, int(text))
        else:
            raise RecordError(
                f"{path}: the name pattern finds {text[:40]!r} for {name}; expected a number of 1 or more. "
                rf"Use '(?P<{name}>\d+)'"
            )
    return facts


# A number before the word counts (8nodes, 1-gpu); after it only the plural does, since gpu1 and node3 are one of many.
# Single letters (n8, N8, -32-) are nodes to some and ranks to others: they need the user's own pattern.
_WORKERS = "ranks|workers|gpus|replicas|procs|processes|tasks"
_BEFORE, _AFTER = r"(?<![A-Za-z0-9.])", r"(?![A-Za-z0-9]|[-_]?per)"
_USUAL = {
    name: tuple(re.compile(_BEFORE + alternative + _AFTER, re.IGNORECASE) for alternative in alternatives)
    for name, alternatives in {
        "nodes": (r"(\d{1,7})[-_]?nodes?", r"n?nodes[-_=]?(\d{1,7})"),
        "workers": (
            rf"(\d{{1,7}})[-_]?(?:{_WORKERS}|rank|worker|gpu|replica|proc|process|task)",
            rf"(?:np|nprocs?|nranks|ngpus|ntasks|{_WORKERS})[-_=]?(\d{{1,7}})",
        ),
        "workers_per_node": (
            r"(\d{1,5})[-_]?(?:ppn|wpn|tpn)",
            r"(?:ppn|wpn|tpn)[-_=]?(\d{1,5})",
            rf"(\d{{1,5}})[-_]?(?:{_WORKERS})[-_]?per[-_]?node",
        ),
        "batch_size": (r"(?:bs|(?<!global[-_])batch(?:[-_]?size)?)[-_=]?(\d{1,7})",),
        "global_batch_size": (r"(?:gbs|global[-_]?batch(?:[-_]?size)?)[-_=]?(\d{1,9})",),
    }.items()
}


def _from_usual_names(path: Path) -> Facts:
    """From the file's name and, where that tells nothing, from the two folders above it."""
    absolute = path.absolute()
    names = (absolute.stem, *(parent.name for parent in list(absolute.parents)[:2]))
    return Facts.of({fact: next(_numbers(names, patterns), None) for fact, patterns in _USUAL.items()})


def _numbers(names: Iterable[str], patterns: Iterable[re.Pattern[str]]) -> Iterator[int]:
    """The number that each name tells; a name that tells two different ones tells none."""
    for name in names:
        found = {int(text) for pattern in patterns for text in pattern.findall(name)}
        if len(found) == 1 and (number := found.pop()) > 0:
            yield number


def words(name: str) -> str:
    return name.replace("_", " ")
