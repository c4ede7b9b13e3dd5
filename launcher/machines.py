"""Known machines: what their nodes are made of, how jobs start there and what they may ask for.

All that differs between machines is in one TOML file each, in the folder `machines` beside this module or
wherever a user keeps his own. A file says what a node is like on paper; a run reads the node itself. What a job
script makes of it is in `launcher.batch.script`.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from launcher.errors import LaunchError
from launcher.topology import Core, Domain, Topology

__all__ = ["Machine", "Node", "Partition", "load_machine", "machine_names"]

LAUNCHERS = ("ibrun", "srun", "mpirun")
BATCH_SYSTEMS = ("slurm", "none")
NUMBERINGS = ("interleaved", "contiguous")
DISTANCES = {"self": 10, "package": 12, "far": 21}
"""What Linux usually reports; only their order matters here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """The shape of a machine's nodes: the same number of cores in every NUMA domain."""

    processor: str
    packages: int
    domains_per_package: int
    cores_per_domain: int
    threads_per_core: int
    numbering: str
    """interleaved: consecutive CPU numbers go round the packages; contiguous: they fill one package first.
    Second hardware threads are numbered after the first threads of all cores."""
    memory_gib: int
    """Of the whole node, spread equally over its domains."""

    def topology(self) -> Topology:
        """The node's topology with the CPU numbers that Linux gives."""
        per_package = self.domains_per_package * self.cores_per_domain
        total, count = self.packages * per_package, self.packages * self.domains_per_package
        cores = []
        for package in range(self.packages):
            for core in range(per_package):
                interleaved = self.numbering == "interleaved"
                first = self.packages * core + package if interleaved else package * per_package + core
                cores.append(
                    Core(
                        package=package,
                        domain=package * self.domains_per_package + core // self.cores_per_domain,
                        cpus=tuple(first + thread * total for thread in range(self.threads_per_core)),
                    )
                )
        return Topology(tuple(cores), tuple(self._domain(index, count) for index in range(count)))

    def _domain(self, index: int, count: int) -> Domain:
        package = index // self.domains_per_package
        near = [other // self.domains_per_package == package for other in range(count)]
        distances = [DISTANCES["package" if same else "far"] for same in near]
        distances[index] = DISTANCES["self"]
        memory = self.memory_gib * 2**30 // count
        return Domain(id=index, package=package, memory_bytes=memory, distances=tuple(distances))


@dataclass(frozen=True, kw_only=True, slots=True)
class Partition:
    """A queue of the batch system and its limits for one job."""

    name: str
    max_nodes: int
    max_hours: int
    min_nodes: int = 1

    def __str__(self) -> str:
        return f"{self.name} ({self.min_nodes}-{self.max_nodes} nodes, {self.max_hours} h)"

    def refusal(self, nodes: int, hours: float = 0.0) -> str:
        """The limit that keeps such a job out; empty where it may come in."""
        if nodes < self.min_nodes:
            return f"at least {self.min_nodes} nodes a job"
        if nodes > self.max_nodes:
            return f"at most {self.max_nodes} nodes a job"
        return f"at most {self.max_hours} hours a job" if hours > self.max_hours else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """A machine as its data file describes it."""

    name: str
    title: str
    source: str
    """Where the facts come from, with their date."""
    launcher: str
    """What starts ranks there: ibrun, srun or mpirun."""
    workers_per_node: int
    """Used where the user does not say."""
    network: str = ""
    note: str = ""
    """What a user must know before he trusts the plan."""
    node: Node | None = None
    """None for a site whose nodes are not known beforehand."""
    batch: str = "slurm"
    """slurm, or none for a single node where a shell runs the script."""
    requeue: bool = False
    """Whether a job may put itself back into the queue; where not, jobs are chained."""
    signal: bool = False
    """Whether Slurm there takes --signal; where not, a run watches the clock alone."""
    modules: tuple[str, ...] = ()
    """Loaded by a job; MODULES in the environment wins."""
    options: tuple[str, ...] = ()
    """Options of sbatch that every job there needs."""
    script: str = ""
    """Its script in the folder `jobs`, where that is not the name with .sh."""
    file: str = ""
    """The file of a user's own machine; empty for one that comes with the launcher."""
    partitions: tuple[Partition, ...] = ()
    """Preferred first; none where there are no limits to know."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables that a job on this machine exports."""

    @property
    def reference(self) -> str:
        """What `--machine` takes to find it again, from any folder."""
        return self.file or self.name

    @property
    def max_workers(self) -> int | None:
        """Workers that a node has a core for; None where the nodes are not known."""
        node = self.node
        return node.packages * node.domains_per_package * node.cores_per_domain if node else None

    def topology(self) -> Topology:
        """The topology of a node. Raises LaunchError for a machine without one."""
        if self.node is None:
            raise LaunchError(
                f"the nodes of machine {self.name!r} are not known beforehand: run 'python -m launcher "
                "topology --out FILE' on one of them and give the file with --topology"
            )
        return self.node.topology()

    def check_workers(self, workers_per_node: int) -> None:
        """Raises LaunchError, naming the limit, for more workers than a node has cores."""
        limit = self.max_workers
        if workers_per_node < 1 or (limit and workers_per_node > limit):
            cores = f"1 to {limit}, the cores of a node of machine {self.name}" if limit else "at least 1"
            raise LaunchError(f"{workers_per_node} workers on a node; expected {cores}")

    def partition_for(self, nodes: int, hours: float = 0.0, name: str = "") -> Partition | None:
        """The partition of that name, or the first that takes such a job; None on a machine without known limits.

        Raises LaunchError, naming the limits, when none takes it.
        """
        asked = f"{nodes} nodes" + (f" for {hours:g} hours" if hours else "")
        if self.batch == "none" and nodes > 1:
            raise LaunchError(f"machine {self.name} has no batch system: at most 1 node, asked for {nodes}")
        if not self.partitions:
            return None
        known = ", ".join(map(str, self.partitions))
        if name:
            named = next((partition for partition in self.partitions if partition.name == name), None)
            if named is None:
                raise LaunchError(f"machine {self.name} has no partition {name!r}; it has {known}")
            if limit := named.refusal(nodes, hours):
                raise LaunchError(f"partition {name} of machine {self.name} takes {limit}, asked for {asked}")
            return named
        for partition in self.partitions:
            if not partition.refusal(nodes, hours):
                return partition
        largest = max(partition.max_nodes for partition in self.partitions)
        limit = f"at most {largest} nodes a job; " if nodes > largest else ""
        raise LaunchError(f"machine {self.name} has no partition for {asked}: {limit}it has {known}")


def machine_names() -> tuple[str, ...]:
    """The machines that come with the launcher."""
    files = (resources.files("launcher") / "machines").iterdir()
    return tuple(sorted(file.name[:-5] for file in files if file.name.endswith(".toml")))


def load_machine(name: str | os.PathLike[str]) -> Machine:
    """A known machine by its name, or one described in a user's TOML file by its path.

    Raises LaunchError for an unknown name, listing those known, and for a file that does not describe a
    machine.
    """
    text = os.fspath(name)
    if text.endswith(".toml") or os.sep in text:
        path = Path(text)
        try:
            return _parse(path.stem, path.read_text(encoding="utf-8"), text, file=str(path.absolute()))
        except OSError as error:
            raise LaunchError(f"cannot read the machine file {text}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise LaunchError(f"machine {text}: not a TOML file: it is not text in UTF-8") from None
    if text not in machine_names():
        known = ", ".join(machine_names())
        raise LaunchError(f"unknown machine {text!r}; known are {known}, or give the path of a TOML file")
    file = resources.files("launcher") / "machines" / f"{text}.toml"
    return _parse(text, file.read_text(encoding="utf-8"), text)


def _parse(name: str, text: str, where: str, file: str = "") -> Machine:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise LaunchError(f"machine {where}: not a TOML file: {error}") from None
    node = data.pop("node", None)
    partitions = data.pop("partitions", [])
    environment = data.pop("environment", {})
    if not isinstance(environment, dict) or not all(isinstance(value, str) for value in environment.values()):
        raise LaunchError(f"machine {where}: [environment] must give a text for every variable")
    if wrong := [variable for variable in environment if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable)]:
        raise LaunchError(f"machine {where}: [environment] names {wrong[0]!r}, which no shell can export")
    if not isinstance(partitions, list):
        raise LaunchError(f"machine {where}: write partitions as [[partitions]] tables")
    machine = _build(
        Machine,
        data,
        f"machine {where}",
        name=name,
        file=file,
        node=None if node is None else _build(Node, node, f"machine {where}, [node]"),
        partitions=tuple(_build(Partition, p, f"machine {where}, [[partitions]]") for p in partitions),
        environment=environment,
    )
    for value, allowed, key in (
        (machine.launcher, LAUNCHERS, "launcher"),
        (machine.batch, BATCH_SYSTEMS, "batch"),
        (machine.node.numbering if machine.node else NUMBERINGS[0], NUMBERINGS, "numbering"),
    ):
        if value not in allowed:
            raise LaunchError(f"machine {where}: {key} is {value!r}, expected one of {', '.join(allowed)}")
    for option in machine.options:
        if not re.fullmatch(r"-[ -~]+", option):
            raise LaunchError(
                f"machine {where}: options holds {option!r}, expected options of sbatch like '--exclusive'"
            )
    try:
        machine.check_workers(machine.workers_per_node)
    except LaunchError as error:
        raise LaunchError(f"machine {where}: {error}") from None
    return machine


Built = TypeVar("Built")


EXPECTED = {
    "int": ("a whole number of at least 1", lambda value: type(value) is int and value >= 1),
    "bool": ("true or false", lambda value: isinstance(value, bool)),
    "tuple[str, ...]": (
        "a list of texts",
        lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value),
    ),
    "str": ("a text", lambda value: isinstance(value, str)),
}
"""By the type of a field: what a file must give, in words and as a test."""


def _build(kind: type[Built], table: Any, where: str, **known: Any) -> Built:
    """Make a dataclass of a table's values; the fields in `known` have been read already."""
    if not isinstance(table, dict):
        raise LaunchError(f"{where}: expected a table, found {table!r}")
    wanted = {f.name: f for f in fields(kind) if f.name not in known}  # type: ignore[arg-type]
    if unknown := sorted(set(table) - set(wanted)):
        raise LaunchError(f"{where}: unknown {', '.join(unknown)}; known are {', '.join(sorted(wanted))}")
    values = {}
    for name, wanted_field in wanted.items():
        if name not in table:
            if wanted_field.default is MISSING:
                raise LaunchError(f"{where}: {name} is missing")
            continue
        expected, right = EXPECTED[str(wanted_field.type)]
        if not right(table[name]):
            raise LaunchError(f"{where}: {name} is {table[name]!r}, expected {expected}")
        values[name] = tuple(table[name]) if isinstance(table[name], list) else table[name]
    return kind(**values, **known)
