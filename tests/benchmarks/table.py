"""Write results as text: steps with ratios, other figures, goals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tests.benchmarks.figures import Figure, Results

__all__ = ["figures_table", "goals_table", "head", "steps_table"]

PRECISIONS = ("fp32", "bf16")


def head(machine: Mapping[str, Any]) -> str:
    """Return two lines about the machine."""
    versions = machine["versions"]
    tensorflow = versions.get("tensorflow-cpu") or versions.get("tensorflow", "?")
    flags = " ".join(machine["flags"])
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB ({flags})\n"
        f"TensorFlow {tensorflow}, commit {machine['git_commit'][:12] or '?'}, {machine['date']}"
    )


def steps_table(results: Results, flops: Mapping[str, int]) -> str:
    """Return the table of all steps: seconds, events/s and ratios.

    Args:
        results: figures of a run.
        flops: floating-point operations of a step per event of the batch, by filters.
    """
    names = "filters,batch,what,s/step,+-,n,events/s,x Keras,/ convolutions,% of matmul,"
    rows = [names.split(",")]
    for place in _places(results.figures):
        _, filters, batch = place.split("/")
        keras = results.median(f"{place}/keras-fp32")
        for what in ("keras-fp32", *(f"{who}-{precision}" for precision in PRECISIONS for who in ("ours", "limit"))):
            figure = results.get(f"{place}/{what}")
            if figure is None:
                continue
            row = [filters, batch, what]
            seconds = figure.median
            if seconds is None:
                rows.append([*row, *[""] * 7, figure.note])
                continue
            precision = what.rsplit("-", 1)[1]
            limit = results.median(f"{place}/limit-{precision}")
            rate = results.median(f"{place}/matmul-{precision}")
            achieved = 1e-9 * flops[filters] * int(batch) / seconds
            row += [f"{seconds:.3f}", f"{figure.deviation:.3f}", str(len(figure.rounds)), f"{int(batch) / seconds:.1f}"]
            row += [f"{keras / seconds:.2f}" if keras else "", f"{seconds / limit:.2f}" if limit else ""]
            rows.append([*row, f"{achieved / rate:.0%}" if rate else "", figure.note])
    return _aligned(rows)


def figures_table(figures: Iterable[Figure]) -> str:
    """Return the table of all other figures: median, spread, number of rounds."""
    rows = [["figure", "median", "+-", "n", "unit", ""]]
    for figure in figures:
        if figure.name.startswith("step/") and not figure.name.rsplit("/", 1)[1].startswith("matmul"):
            continue
        middle = figure.median
        row = ["", "", ""] if middle is None else [f"{middle:.4g}", f"{figure.deviation:.2g}", str(len(figure.rounds))]
        rows.append([figure.name, *row, figure.unit, figure.note])
    return _aligned(rows)


def goals_table(goals: Iterable[Mapping[str, Any]]) -> str:
    """Return the table of the goals: met, not met or not measurable here."""
    rows = [["goal", "limit", "measured", "state"]]
    for goal in goals:
        state = goal["state"] + (f": {goal['why']}" if goal["why"] else "")
        rows.append([goal["what"], goal["goal"], goal["measured"], state])
    return _aligned(rows)


def _places(figures: Sequence[Figure]) -> list[str]:
    """Return the filter sets and batch sizes of the steps, in the order of measurement."""
    return list(dict.fromkeys(f.name.rsplit("/", 1)[0] for f in figures if f.name.startswith("step/")))


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return rows in aligned columns: text to the left, numbers to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    numbers = [
        all(not row[column] or row[column][0].isdigit() for row in rows[1:]) and any(row[column] for row in rows[1:])
        for column in range(len(rows[0]))
    ]
    lines = [
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(row, widths, numbers, strict=True)
        ).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])
