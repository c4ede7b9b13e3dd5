"""Read the TOML files of machines and check every value in them."""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import MISSING, fields
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from launcher.cpulist import MAX_CPUS
from launcher.errors import LaunchError
from launcher.machines.description import Machine, Node, Partition
from scaling.records.documents import read_toml

__all__ = ["load_machine", "machine_names"]

MAX_DOMAINS = 1024
"""Largest number of NUMA domains that Linux supports."""
LAUNCHERS = ("ibrun", "srun", "mpirun")
BATCH_SYSTEMS = ("slurm", "none")
NUMBERINGS = ("interleaved", "contiguous")

TYPES = {
    "int": ("a whole number of at least 1", lambda value: type(value) is int and value >= 1),
    "bool": ("true or false", lambda value: isinstance(value, bool)),
    "tuple[str, ...]": (
        "a list of texts, each of one line",
        lambda value: isinstance(value, list) and all(map(_is_line, value)),
    ),
    "str": ("a text of one line", lambda value: _is_line(value)),
}
"""Allowed values of a field, in words and as a test. The keys are the types of fields, as text.

A line break in a text would be the start of a command in a job script.
"""
WORD = re.compile(r"[A-Za-z0-9][\w.+-]*", re.ASCII)
"""Name of a partition or of a script: a job script and Slurm need no quotes around it."""


def _is_line(value: object) -> bool:
    """Return whether a value is a text without line breaks and other control characters."""
    return isinstance(value, str) and value.isprintable()


def machine_names() -> tuple[str, ...]:
    """Return the names of the machines that come with the launcher."""
    names = (file.name for file in resources.files("launcher.machines").iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml")))


def load_machine(name: str | os.PathLike[str]) -> Machine:
    """Load a machine that comes with the launcher by its name, or a user's own machine by the path of its TOML file.

    Raises:
        LaunchError: the name is unknown, or the file does not describe a machine.
    """
    text = os.fspath(name)
    if text.endswith(".toml") or os.sep in text:
        path = Path(text)
        if not text.isprintable():
            raise LaunchError(f"the machine file {text!r} has a line break in its name; expected one line: rename it")
        try:
            data = read_toml(path)
        except OSError as error:
            raise LaunchError(
                f"cannot read the machine file {text}: {error.strerror}. Expected the path of a TOML file: correct it"
            ) from None
        except ValueError as error:
            raise LaunchError(f"machine {text}: not a TOML file: {error}; correct it") from None
        return _parse(path.stem, data, text, file=str(path.absolute()))
    if text not in machine_names():
        known = ", ".join(machine_names())
        raise LaunchError(f"unknown machine {text!r}. Expected one of {known}, or the path of a TOML file")
    file = resources.files("launcher.machines") / f"{text}.toml"
    return _parse(text, tomllib.loads(file.read_text(encoding="utf-8")), text)


def _parse(name: str, data: dict[str, Any], where: str, file: str = "") -> Machine:
    """Return the machine in the values of a TOML file.

    Args:
        name: name of the machine.
        data: content of the file.
        where: name or path of the machine, for messages.
        file: absolute path of a user's own file; empty for a machine that comes with the launcher.
    """
    node = data.pop("node", None)
    partitions = data.pop("partitions", [])
    environment = data.pop("environment", {})
    if not isinstance(environment, dict) or not all(map(_is_line, environment.values())):
        raise LaunchError(
            f"machine {where}: [environment] is {environment!r}; expected a text of one line for every variable: "
            "correct it"
        )
    if bad := [variable for variable in environment if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable)]:
        raise LaunchError(
            f"machine {where}: [environment] has a variable {bad[0]!r}; expected a name that a shell can export: "
            "change it"
        )
    if not isinstance(partitions, list):
        raise LaunchError(f"machine {where}: partitions is {partitions!r}; expected tables: write [[partitions]]")
    machine = _build(
        Machine,
        data,
        f"machine {where}",
        name=name,
        file=file,
        node=None if node is None else _build(Node, node, f"machine {where}, [node]"),
        partitions=tuple(_build(Partition, table, f"machine {where}, [[partitions]]") for table in partitions),
        environment=environment,
    )
    if machine.node:
        _check_size(machine.node, where)
    for value, allowed, key in (
        (machine.launcher, LAUNCHERS, "launcher"),
        (machine.batch, BATCH_SYSTEMS, "batch"),
        (machine.node.numbering if machine.node else NUMBERINGS[0], NUMBERINGS, "numbering"),
    ):
        if value not in allowed:
            raise LaunchError(f"machine {where}: {key} is {value!r}; expected one of {', '.join(allowed)}: correct it")
    words = [("script", machine.script)] if machine.script else []
    words += [("[[partitions]], name", partition.name) for partition in machine.partitions]
    for key, word in words:
        if not WORD.fullmatch(word):
            raise LaunchError(f"machine {where}: {key} is {word!r}; expected letters, digits and .+-_ : correct it")
    for option in machine.options:
        if not re.fullmatch(r"-[ -~]+", option):
            raise LaunchError(
                f"machine {where}: options holds {option!r}; expected options of sbatch such as '--exclusive': "
                "correct it"
            )
    try:
        machine.check_workers(machine.workers_per_node)
    except LaunchError as error:
        raise LaunchError(f"machine {where}: workers_per_node: {error}") from None
    return machine


def _check_size(node: Node, where: str) -> None:
    """Refuse a node that Linux could not run on. Its description would take gigabytes and minutes."""
    for number, most, what in (
        (node.core_count * node.threads_per_core, MAX_CPUS, "hardware threads"),
        (node.packages * node.domains_per_package, MAX_DOMAINS, "NUMA domains"),
    ):
        if number > most:
            raise LaunchError(
                f"machine {where}, [node]: {number:,} {what}; expected at most {most:,}: correct the node"
            )


Description = TypeVar("Description")


def _build(kind: type[Description], table: Any, where: str, **known: Any) -> Description:
    """Return a `Machine`, `Node` or `Partition` with the values of a TOML table.

    Args:
        kind: the class to build.
        table: the table, or any other value if the file is wrong.
        where: place of the table, for messages.
        known: values of the fields that must not be in the table.
    """
    if not isinstance(table, dict):
        raise LaunchError(f"{where}: expected a table, but it is {table!r}: correct it")
    expected_fields = {field.name: field for field in fields(kind) if field.name not in known}  # type: ignore[arg-type]
    if unknown := sorted(set(table) - set(expected_fields)):
        known_keys = ", ".join(sorted(expected_fields))
        raise LaunchError(f"{where}: unknown {', '.join(unknown)}; expected only {known_keys}: correct or remove it")
    values = {}
    for name, field in expected_fields.items():
        if name not in table:
            if field.default is MISSING:
                raise LaunchError(f"{where}: {name} is missing; add it")
            continue
        expected, is_right = TYPES[str(field.type)]
        if not is_right(table[name]):
            raise LaunchError(f"{where}: {name} is {table[name]!r}; expected {expected}: correct it")
        values[name] = tuple(table[name]) if isinstance(table[name], list) else table[name]
    return kind(**values, **known)
