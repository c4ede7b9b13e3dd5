"""Results of a benchmark run: the measured figures, the machine, and the file that contains both.

A figure is one measured quantity. The sections measure figures, `goals` checks them, and `compare` compares two runs.
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

from gan.precision.formats import native_bf16
from launcher.provenance import git_commit, library_versions
from scaling.records.saving import save_text

__all__ = ["MORE_IS_BETTER", "Figure", "Results", "describe_machine", "read_results", "write_results"]

MORE_IS_BETTER = ("events/s", "GFLOP/s", "x")
"""Units in which a larger figure is better. In all other units, a smaller figure is better."""
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16")


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One measured quantity with all its rounds."""

    name: str
    """Path of the figure: its section, then more parts, different for each figure of the section."""
    unit: str
    rounds: Sequence[float] = ()
    """Values in the order of measurement; empty for a missing figure."""
    note: str = ""
    """Details of the measurement, or the reason for a missing figure."""
    reference: str = ""
    """Name of the matrix product rate from the same rounds, to compare machines."""

    @property
    def median(self) -> float | None:
        return statistics.median(self.rounds) if self.rounds else None

    @property
    def deviation(self) -> float:
        """Median absolute deviation of the rounds; 0 without rounds."""
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
    """Seconds that each section took."""

    def get(self, name: str) -> Figure | None:
        return next((figure for figure in self.figures if figure.name == name), None)

    def median(self, name: str) -> float | None:
        figure = self.get(name)
        return figure.median if figure else None


def describe_machine() -> dict[str, Any]:
    """Return processor, memory, system, libraries, commit and date, for the header of a result."""
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
    """Return a name for files, for example `intel-xeon-processor-2-50ghz-2-cores-amx`."""
    special = next((name for name in ("amx", "avx512_bf16") if any(name in flag for flag in machine["flags"])), "")
    model = re.sub(r"\((R|TM)\)", "", machine["cpu"])
    words = [model, str(machine["cores"]), "cores", special.replace("_", "-")]
    return re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-")


def write_results(path: Path, results: Results, goals: Iterable[Mapping[str, Any]]) -> None:
    """Write a result. The goals in it are for readers only: `judge` computes them again from the figures."""
    content = {
        "machine": dict(results.machine),
        "seconds": dict(results.seconds),
        "goals": list(goals),
        "figures": [figure.as_dict() for figure in results.figures],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_text(path, json.dumps(content, indent=1) + "\n")


def read_results(path: Path) -> Results:
    """Read a file of `write_results`.

    Raises:
        ValueError: the file is not a result.
    """
    try:
        content = json.loads(path.read_text())
        figures = [Figure.of(values) for values in content["figures"]]
        return Results(machine=content["machine"], figures=figures, seconds=content["seconds"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is no result of the benchmarks ({error!r}); expected a JSON file with machine, seconds and "
            "figures. Write one with 'python -m tests.benchmarks --out FILE'"
        ) from error


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
