"""Thread and worker counts that were measured on a type of node, kept in a file of the user's for the next runs there.

`launcher tune` measures and writes them (`tune`), the plan takes them as defaults. A type of node is its processor and
how many cores of it, in which NUMA domains, a job may use; options and the environment win over what is kept here.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from launcher.errors import LaunchError
from launcher.topology import Topology
from scaling.records.saving import save_text

__all__ = ["NodeType", "Tuned", "find_tuned", "forget", "keep", "node_type"]


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeType:
    """What decides which settings are fast."""

    processor: str
    """As the kernel names it."""
    domains: tuple[int, ...]
    """Cores of each NUMA domain that has any."""
    threads: int
    """Hardware threads in all."""

    @property
    def name(self) -> str:
        """For a file, such as `intel-xeon-platinum-8160-cpu-2-10ghz-24x2-96`."""
        plain = re.sub(r"\((?:r|tm|c)\)", "", self.processor.lower())
        same = len(set(self.domains)) == 1
        cores = f"{self.domains[0]}x{len(self.domains)}" if same else "-".join(map(str, self.domains))
        return "-".join([*re.findall(r"[a-z0-9]+", plain), cores, str(self.threads)])

    def __str__(self) -> str:
        cores = "+".join(map(str, self.domains))
        return f"{self.processor}, {cores} cores by NUMA domain, {self.threads} hardware threads"


@dataclass(frozen=True, kw_only=True, slots=True)
class Tuned:
    """What was fastest on a type of node. The fields are the file's keys."""

    workers_per_node: int
    inter_op: int
    intra_op: int
    ratio: float
    """Events per second over those of the plan's own settings."""
    measured: str
    """The day, and what was trained."""

    def __post_init__(self) -> None:
        for name in ("workers_per_node", "inter_op", "intra_op"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise LaunchError(f"{name} is {value!r}, expected a whole number of at least 1")


def node_type(topology: Topology, root: str | os.PathLike[str] = "/") -> NodeType:
    """The type of this node, cut down to the cores in `topology`; `root` holds the kernel's `proc`."""
    try:
        text = (Path(root) / "proc/cpuinfo").read_text(errors="replace")
    except OSError:
        text = ""
    # ARM's kernels give numbers instead of a name.
    found = re.search(r"^model name\s*:\s*(.*\S)", text, re.M) or re.search(r"^CPU part\s*:\s*(.*\S)", text, re.M)
    counts = [len(topology.cores_of(domain.id)) for domain in topology.domains]
    return NodeType(
        processor=found[1] if found else "unknown",
        domains=tuple(count for count in counts if count),
        threads=topology.cpu_count,
    )


def find_tuned(topology: Topology, environ: Mapping[str, str]) -> Tuned | None:
    """What was measured on nodes like this one, cut down to `topology`; None where nothing was.

    Raises LaunchError, naming the file, where it is damaged.
    """
    folder = _folder(environ)
    # Most users never tune: then nothing of the node is read either.
    if folder is None or not folder.is_dir():
        return None
    path = folder / f"{node_type(topology).name}.toml"
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        return Tuned(**values)
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, TypeError, LaunchError) as error:
        known = ", ".join(field.name for field in fields(Tuned))
        raise LaunchError(
            f"{path} cannot be used ({error}); expected {known}. Remove it with 'python -m launcher tune --forget'"
        ) from None


def keep(tuned: Tuned, kind: NodeType, environ: Mapping[str, str]) -> Path:
    """Write the user's file for a type of node. Raises LaunchError where it cannot be written."""
    path = _path(kind, environ)
    lines = [f"# {kind}; made by 'python -m launcher tune'"]
    lines += [f"{name} = {json.dumps(value)}" for name, value in asdict(tuned).items()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_text(path, "\n".join(lines) + "\n")
    except OSError as error:
        raise LaunchError(f"{path} cannot be written ({error}); set XDG_CONFIG_HOME to a folder that can") from None
    return path


def forget(kind: NodeType, environ: Mapping[str, str]) -> Path | None:
    """Remove the file for a type of node; None where there was none."""
    path = _path(kind, environ)
    if not path.exists():
        return None
    path.unlink()
    return path


def _path(kind: NodeType, environ: Mapping[str, str]) -> Path:
    folder = _folder(environ)
    if folder is None:
        raise LaunchError("neither XDG_CONFIG_HOME nor HOME is set; set one to say where your settings are kept")
    return folder / f"{kind.name}.toml"


def _folder(environ: Mapping[str, str]) -> Path | None:
    """XDG's folder for settings; one below HOME by default."""
    base = environ.get("XDG_CONFIG_HOME") or (f"{environ['HOME']}/.config" if environ.get("HOME") else "")
    return Path(base, "3dgan-scaling", "tuned") if base else None
