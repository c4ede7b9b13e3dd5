"""Complete the facts of a log from options and from the names of files and folders.

The first of these sources that has a fact is used: an option, the user's name pattern, the log, a usual name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from scaling.records import RecordError

__all__ = ["NUMBERS", "Facts", "Hints", "complete", "user_facts", "words"]

NUMBERS = (
    *("workers", "nodes", "workers_per_node", "cores_per_node"),
    *("batch_size", "global_batch_size", "train_events"),
)
"""Names of the counts in `Facts`."""


@dataclass(kw_only=True, slots=True)
class Facts:
    """Facts about a run, apart from its epochs. None means unknown."""

    workers: int | None = None
    """Number of workers: ranks, replicas or GPUs."""
    nodes: int | None = None
    """Number of nodes."""
    workers_per_node: int | None = None
    """Number of workers on each node."""
    cores_per_node: int | None = None
    """Number of physical cores of each node."""
    batch_size: int | None = None
    """Events per worker and step."""
    global_batch_size: int | None = None
    """Events per step over all workers."""
    train_events: int | None = None
    """Number of training events."""
    settings: dict[str, str] = field(default_factory=dict)
    """Settings of the run by name, as text."""

    @classmethod
    def of(cls, numbers: Mapping[str, int | None]) -> Facts:
        """Return facts with these counts, given by the names of the fields."""
        facts = cls()
        for name, value in numbers.items():
            setattr(facts, name, value)
        return facts


@dataclass(frozen=True, kw_only=True, slots=True)
class Hints:
    """Options of the user for all files. They do not replace the counts in a run.jsonl of this project.

    Raises:
        RecordError: a count is not 1 or more, or the name pattern is not a regular expression with a named group.
    """

    workers: int | None = None
    """Number of workers."""
    nodes: int | None = None
    """Number of nodes."""
    cores_per_node: int | None = None
    """Number of physical cores of each node."""
    batch_size: int | None = None
    """Events per worker and step."""
    train_events: int | None = None
    """Number of training events."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Names of columns in tables and CSV logs, by their meaning, such as `{"seconds": "average_train_time"}`."""
    name_pattern: str | None = None
    r"""Regular expression that is searched in the absolute path of a file. Its named groups are counts, such as
    `(?P<nodes>\d+)`: workers, nodes, workers_per_node, cores_per_node, batch_size, global_batch_size, train_events.
    A group of any other name is a setting of the run, such as `(?P<precision>fp32|bf16)`."""

    def __post_init__(self) -> None:
        for name in ("workers", "nodes", "cores_per_node", "batch_size", "train_events"):
            value = getattr(self, name)
            if value is not None and not 1 <= value < 2**63:
                raise RecordError(f"{name} is {value}; expected 1 or more. Give another number")
        if self.name_pattern is not None:
            try:
                groups = re.compile(self.name_pattern).groupindex
            except (re.error, OverflowError, RecursionError) as error:
                raise RecordError(
                    f"--name-pattern is {self.name_pattern!r} and is not a regular expression ({error}); "
                    r"expected for example '(?P<nodes>\d+)nodes'. Correct the pattern"
                ) from error
            if not groups:
                raise RecordError(
                    f"--name-pattern is {self.name_pattern!r} and has no named group; "
                    r"expected for example '(?P<nodes>\d+)nodes'. Name the group after what it matches"
                )


def complete(facts: Facts, path: Path, hints: Hints, about: str) -> tuple[Facts, list[str]]:
    """Complete the facts of a log, and return them with notes about contradictions.

    The number of workers may follow from nodes x workers per node, or from global batch size / batch size. A batch size
    may follow from the other one and the number of workers.

    Args:
        facts: facts in the log.
        path: the file.
        hints: options of the user.
        about: name of the log in messages, such as `the MLPerf log`.

    Raises:
        RecordError: no source contains the number of workers, or the name pattern finds a text where a count is
            expected.
    """
    by_user = user_facts(path, hints)
    sources = (*by_user.items(), ("in the log", facts), ("in the name", _from_usual_names(path)))
    result, notes = Facts(settings=facts.settings.copy()), []
    for each in by_user.values():
        result.settings |= each.settings
    for name in NUMBERS:
        values = [(where, value) for where, each in sources if (value := getattr(each, name)) is not None]
        if not values:
            continue
        where, value = values[0]
        setattr(result, name, value)
        in_log = getattr(facts, name)
        if in_log is not None and in_log != value:
            notes.append(f"{words(name)}: {value} {where}, but {in_log} in the log.")
        elif where == "in the name":
            notes.append(f"{words(name)}: {value} from the file's path.")
    _derive(result)
    if result.workers is None:
        nodes = f" (only that of the nodes, {result.nodes})" if result.nodes else ""
        raise RecordError(
            f"{path}: {about} does not contain the number of workers{nodes}; expected it in the log, the options or "
            r"the path. Give --workers N, or --name-pattern such as '(?P<nodes>\d+)nodes-(?P<workers_per_node>\d+)'"
        )
    return result, notes


def user_facts(path: Path, hints: Hints) -> dict[str, Facts]:
    """Return the facts that the user gives about a file: from options, then from the name pattern.

    The keys name the source in messages.
    """
    options = Facts.of({name: getattr(hints, name, None) for name in NUMBERS})
    return {"in the options": options, "in the match of --name-pattern": _from_pattern(hints.name_pattern, path)}


def _derive(facts: Facts) -> None:
    """Compute unknown facts from the known ones."""
    if facts.workers is None and facts.nodes and facts.workers_per_node:
        facts.workers = facts.nodes * facts.workers_per_node
    if facts.workers is None and facts.global_batch_size and facts.batch_size:
        workers, rest = divmod(facts.global_batch_size, facts.batch_size)
        facts.workers = workers if workers and not rest else None
    if facts.workers is None:
        return
    if facts.nodes is None and facts.workers_per_node:
        facts.nodes = -(-facts.workers // facts.workers_per_node)
    if facts.batch_size is None and facts.global_batch_size and facts.global_batch_size % facts.workers == 0:
        facts.batch_size = facts.global_batch_size // facts.workers
    if facts.global_batch_size is None and facts.batch_size:
        facts.global_batch_size = facts.batch_size * facts.workers


def _from_pattern(pattern: str | None, path: Path) -> Facts:
    """Return the facts that the user's name pattern finds in the absolute path."""
    match = re.search(pattern, str(path.absolute())) if pattern else None
    facts = Facts()
    for name, text in match.groupdict().items() if match else ():
        if text is None:
            continue
        if name not in NUMBERS:
            facts.settings[name] = text
        elif text.isascii() and text.isdecimal() and 0 < int(text[:30]) < 2**63:
            setattr(facts, name, int(text))
        else:
            raise RecordError(
                f"{path}: --name-pattern finds {text[:40]!r} for {name}; expected a number of 1 or more. "
                rf"Use '(?P<{name}>\d+)'"
            )
    return facts


# A number before a word is a count (8nodes, 1-gpu). After a word it is a count only if the word is a plural: gpu1 and
# node3 are names of a single device or node. Single letters (n8, N8) may mean nodes or ranks, so they need the user's
# own pattern.
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
    """Return the facts in the name of the file or, for facts that are not in it, of the two folders above it."""
    absolute = path.absolute()
    names = (absolute.stem, *(parent.name for parent in list(absolute.parents)[:2]))
    return Facts.of({fact: next(_numbers(names, patterns), None) for fact, patterns in _USUAL.items()})


def _numbers(names: Iterable[str], patterns: Iterable[re.Pattern[str]]) -> Iterator[int]:
    """Yield the number in each name. Skip a name without a number, or with two different numbers."""
    for name in names:
        numbers = {int(text) for pattern in patterns for text in pattern.findall(name)}
        if len(numbers) == 1 and (number := numbers.pop()) > 0:
            yield number


def words(name: str) -> str:
    """Return the name of a field as words for messages."""
    return name.replace("_", " ")
