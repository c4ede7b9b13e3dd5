"""Compares two studies on disk: reads both, refuses unlike ones, and writes the outcome for people."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from scaling import metrics
from scaling.compare import UNKNOWN, WORSE, compare, verdicts
from scaling.plots.panels import plain
from scaling.records import RecordError
from scaling.report.text import figures
from scaling.study import Options, listed, read_study

__all__ = ["Outcome", "compare_studies"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What a comparison says."""

    text: str
    """The table, the verdict and the notes, for people."""
    worse: bool
    """Whether B is worse in anything that could be told."""
    told: bool
    """Whether every size that both have could be told."""


def compare_studies(a: Path, b: Path, options: Options, threshold: float) -> Outcome:
    """Compare the study at `b` with the one at `a`, each a file or a folder.

    Raises:
        RecordError: runs cannot be read or do not compare, no size is in both, or no size has enough epochs in both.
    """
    first, second = (read_study([path], options) for path in (a, b))
    unlike = metrics.differences([*first.runs, *second.runs], options.mode, options.series)
    if unlike and not options.allow_different:
        raise RecordError(
            f"A and B differ in more than their speed:\n{listed(unlike)}\n"
            "Compare studies of the same training, or give --allow-different if that is what is to be compared"
        )
    others = metrics.points(second.epochs, seed=2)
    table = compare(first.points, others, threshold, options.baseline, options.mode)
    counted = verdicts(table)
    if counted[UNKNOWN] == len(table):
        raise RecordError(
            f"{a} and {b} have too few epochs for an answer at every size that both have; expected three or more "
            "beside those to skip. Train longer, or repeat the runs"
        )
    lines = [_cells(table).to_string(index=False), "", *_verdict(table, threshold)]
    lines += [f"Note: {note}" for note in dict.fromkeys([*first.notes, *second.notes])]
    return Outcome(text="\n".join(lines), worse=counted[WORSE] > 0, told=counted[UNKNOWN] == 0)


def _verdict(table: pd.DataFrame, threshold: float) -> list[str]:
    """The answer in sentences, with what it does not hold."""
    worse, unknown = (table[table["verdict"] == name] for name in (WORSE, UNKNOWN))
    said = []
    if len(worse):
        worst = worse.sort_values("change_high").iloc[0]
        said.append(
            f"B is worse beyond the noise in {len(worse)} of {len(table)} comparisons, the most in "
            f"{worst['quantity']} at {worst['workers']} workers: {worst['change']:+.1%}."
        )
    else:
        told = " in what could be told" if len(unknown) else ""
        said.append(f"B is not worse than A beyond the noise and a loss of {threshold:.1%}{told}.")
    if len(unknown):
        named = ", ".join(dict.fromkeys(_size(row) + f" ({row['quantity']})" for _, row in unknown.iterrows()))
        said.append(f"Too few epochs to tell: {named}. Train longer there, or repeat the runs.")
    single = table[(table["runs"] == 1) & (table["verdict"] != UNKNOWN)]
    if len(single):
        named = ", ".join(dict.fromkeys(_size(row) for _, row in single.iterrows()))
        said.append(
            f"There is only one run in A or B behind the comparison at {named}: how much repeated runs differ from "
            "one another is not in its interval."
        )
    return said


def _size(row: pd.Series) -> str:
    return f"{plain(row['series'])}, {row['workers']} workers" if row["series"] else f"{row['workers']} workers"


def _cells(table: pd.DataFrame) -> pd.DataFrame:
    shown = pd.DataFrame()
    if table["series"].nunique() > 1:
        shown["series"] = table["series"].map(plain)
    shown["workers"] = table["workers"].astype(str)
    shown["quantity"] = table["quantity"]
    for name in ("a", "b"):
        shown[name.upper()] = [
            f"{value:.1%}" if quantity == "efficiency" else figures(value)
            for value, quantity in zip(table[name], table["quantity"], strict=True)
        ]
    shown["B / A - 1"] = table["change"].map("{:+.1%}".format)
    shown["interval"] = [
        "-" if pd.isna(low) else f"{low:+.1%} .. {high:+.1%}"
        for low, high in zip(table["change_low"], table["change_high"], strict=True)
    ]
    shown["verdict"] = table["verdict"]
    return shown
