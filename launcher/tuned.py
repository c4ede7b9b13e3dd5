"""Store the fastest numbers of workers and threads for a type of node in the user's folder for settings.

`launcher tune` measures and stores them; later plans and runs on the same type of node use them as defaults. Options
and environment variables have priority over them. A type of node is a processor, the numbers of cores that a job may
use in each NUMA domain, and the number of hardware threads.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from launcher.errors import LaunchError
from launcher.topology import Topology
from scaling.records.documents import read_toml
from scaling.records.saving import save_text

__all__ = ["NodeType", "Tuned", "find_tuned", "forget", "keep", "node_type"]


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeType:
    """The properties of a node that decide which settings are fast."""

    processor: str
    """Name from /proc/cpuinfo."""
    domains: tuple[int, ...]
    """Number of cores in each NUMA domain that has cores."""
    threads: int
    """Total number of hardware threads."""

    @property
    def name(self) -> str:
        """File name without suffix, such as `intel-xeon-platinum-8160-cpu-2-10ghz-24x2-96`."""
        plain = re.sub(r"\((?:r|tm|c)\)", "", self.processor.lower())
        same = len(set(self.domains)) == 1
        cores = f"{self.domains[0]}x{len(self.domains)}" if same else "-".join(map(str, self.domains))
        return "-".join([*re.findall(r"[a-z0-9]+", plain), cores, str(self.threads)])

    def __str__(self) -> str:
        cores = "+".join(map(str, self.domains))
        return f"{self.processor}, {cores} cores per NUMA domain, {self.threads} hardware threads"


@dataclass(frozen=True, kw_only=True, slots=True)
class Tuned:
    """The fastest settings of a type of node. The fields are the keys of the file."""

    workers_per_node: int
    inter_op: int
    """TensorFlow operations at the same time in a worker."""
    intra_op: int
    """Threads that share one operation."""
    ratio: float
    """Speed relative to the default settings: ratio of the events per second."""
    measured: str
    """Date and training step of the measurement."""

    def __post_init__(self) -> None:
        for name in ("workers_per_node", "inter_op", "intra_op"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise LaunchError(f"{name} is {value!r}; expected a whole number of at least 1")


def node_type(topology: Topology, root: str | os.PathLike[str] = "/") -> NodeType:
    """Return the type of this node with the cores in `topology`. `root` is the folder that holds `proc`."""
    try:
        text = (Path(root) / "proc/cpuinfo").read_text(errors="replace")
    except OSError:
        text = ""
    # On ARM, /proc/cpuinfo has a number instead of a name.
    name = re.search(r"^model name\s*:\s*(.*\S)", text, re.M) or re.search(r"^CPU part\s*:\s*(.*\S)", text, re.M)
    counts = [len(topology.cores_of(domain.id)) for domain in topology.domains]
    return NodeType(
        processor=name[1] if name else "unknown",
        domains=tuple(count for count in counts if count),
        threads=topology.cpu_count,
    )


def find_tuned(topology: Topology, environ: Mapping[str, str]) -> Tuned | None:
    """Return the stored settings for this node with the cores in `topology`; None if nothing is stored.

    Raises:
        LaunchError: the file is damaged. The message names it.
    """
    folder = _folder(environ)
    # Most users never tune. Then there is no need to read the node.
    if folder is None or not folder.is_dir():
        return None
    path = folder / f"{node_type(topology).name}.toml"
    try:
        return Tuned(**read_toml(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        known = ", ".join(field.name for field in fields(Tuned))
        raise LaunchError(
            f"{path} cannot be used ({error}); expected the keys {known}. "
            "Remove it with 'python -m launcher tune --forget'"
        ) from None


def keep(tuned: Tuned, kind: NodeType, environ: Mapping[str, str]) -> Path:
    """Write the settings for a type of node and return the path of the file.

    Raises:
        LaunchError: the file cannot be written.
    """
    path = _path(kind, environ)
    lines = [f"# {kind}; made by 'python -m launcher tune'"]
    lines += [f"{name} = {json.dumps(value)}" for name, value in asdict(tuned).items()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_text(path, "\n".join(lines) + "\n")
    except OSError as error:
        raise LaunchError(
            f"{path} cannot be written ({error}); set XDG_CONFIG_HOME to a folder where you may write"
        ) from None
    return path


def forget(kind: NodeType, environ: Mapping[str, str]) -> Path | None:
    """Remove the stored settings of a type of node. Return the path of the file, or None if there was none."""
    path = _path(kind, environ)
    if not path.exists():
        return None
    path.unlink()
    return path


def _path(kind: NodeType, environ: Mapping[str, str]) -> Path:
    folder = _folder(environ)
    if folder is None:
        raise LaunchError("neither XDG_CONFIG_HOME nor HOME is set; set one of them, to name the folder for settings")
    return folder / f"{kind.name}.toml"


def _folder(environ: Mapping[str, str]) -> Path | None:
    """Return the folder for settings: in XDG_CONFIG_HOME, by default in HOME/.config; None if neither is set."""
    base = environ.get("XDG_CONFIG_HOME") or (f"{environ['HOME']}/.config" if environ.get("HOME") else "")
    return Path(base, "3dgan-scaling", "tuned") if base else None
