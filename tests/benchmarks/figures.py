"""What a benchmark run leaves behind: figures, the machine they belong to, and the file of both.

How a figure is measured is the sections' business, whether it is good enough `goals`', and what has become slower
since another run `compare`'s.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gan.precision.arithmetic import native_bf16
from launcher.provenance import git_commit, library_versions

__all__ = ["MORE_IS_BETTER", "Figure", "Results", "describe_machine", "read_results", "write_results"]

MORE_IS_BETTER = ("events/s", "GFLOP/s", "x")
"""Units of which more is better; of all others less is."""
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16")


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One measured quantity with all its rounds."""

    name: str
    """A path: section, then what distinguishes the figure from the section's others."""
    unit: str
    rounds: Sequence[float] = ()
    """The values, in the order they were measured; none where the figure could not be had."""
    note: str = ""
    """How it was measured where that is not obvious, or why it is missing."""
    reference: str = ""
    """The matrix product rate that was measured in the same rounds, by its name: by it machines that drift compare."""

    @property
    def median(self) -> float | None:
        return statistics.median(self.rounds) if self.rounds else None

    @property
    def deviation(self) -> float:
        """Median absolute deviation of the rounds."""
        middle = self.median
        return 0.0 if middle is None else statistics.median(abs(value - middle) for value in self.rounds)

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "unit": self.unit,
            "median": self.median,
            "n": len(self.rounds),
            "rounds": list(self.rounds),
            "note": self.note,
            "reference": self.reference,
        }

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Figure:
        return cls(**{field.name: values[field.name] for field in dataclasses.fields(cls)})


@dataclass(frozen=True, kw_only=True, slots=True)
class Results:
    """All figures of one run."""

    machine: Mapping[str, Any]
    figures: Sequence[Figure]
    seconds: Mapping[str, float] = field(default_factory=dict)
    """What each section took."""

    def get(self, name: str) -> Figure | None:
        return next((figure for figure in self.figures if figure.name == name), None)

    def median(self, name: str) -> float | None:
        figure = self.get(name)
        return figure.median if figure else None


def describe_machine() -> dict[str, Any]:
    """The processor, the libraries, the commit and the date, for the head of a result."""
    information = _read("/proc/cpuinfo")
    model = re.search(r"^model name\s*:\s*(.+)$", information, re.MULTILINE)
    flags = re.search(r"^flags\s*:\s*(.+)$", information, re.MULTILINE)
    known = flags[1].split() if flags else []
    memory = re.search(r"MemTotal:\s+(\d+) kB", _read("/proc/meminfo"))
    return {
        "cpu": model[1].strip() if model else platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "flags": [flag for flag in FLAGS if flag in known],
        "native_bf16": native_bf16(information),
        "memory_gb": round(int(memory[1]) / 2**20, 1) if memory else None,
        "system": f"{platform.system()} {platform.release()}",
        "versions": library_versions(),
        "git_commit": git_commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def machine_name(machine: Mapping[str, Any]) -> str:
    """A name for a file: `intel-xeon-processor-2-50ghz-2-cores-amx`."""
    special = next((name for name in ("amx", "avx512_bf16") if any(name in flag for flag in machine["flags"])), "")
    model = re.sub(r"\((R|TM)\)", "", machine["cpu"])
    words = [model, str(machine["cores"]), "cores", special.replace("_", "-")]
    return re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-")


def write_results(path: Path, results: Results, goals: Iterable[Mapping[str, Any]]) -> None:
    """Write a result; the goals in it are for readers, and are worked out again from the figures."""
    content = {
        "machine": dict(results.machine),
        "seconds": dict(results.seconds),
        "goals": list(goals),
        "figures": [figure.as_dict() for figure in results.figures],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    beside.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(beside, path)


def read_results(path: Path) -> Results:
    """Read a file of `write_results`.

    Raises:
        ValueError: it is none.
    """
    try:
        content = json.loads(path.read_text())
        figures = [Figure.of(values) for values in content["figures"]]
        return Results(machine=content["machine"], figures=figures, seconds=content["seconds"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is no result of the benchmarks ({error!r}); expected a file that 'python -m tests.benchmarks "
            "--out FILE' wrote"
        ) from error


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
