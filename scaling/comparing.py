"""Compares two studies on disk: reads both, refuses unlike ones, and writes the outcome for people."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from scaling import metrics
from scaling.compare import UNKNOWN, WORSE, compare, verdicts
from scaling.plots.panels import plain
from scaling.records import RecordError
from scaling.report.text import figures
from scaling.study import Options, listed, read_study

__all__ = ["compare_studies"]


def compare_studies(a: Path, b: Path, options: Options, threshold: float) -> tuple[str, bool]:
    """What the comparison says, and whether B is worse in anything.

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
    table = compare(first.points, metrics.points(second.epochs, seed=2), threshold, options.baseline)
    counted = verdicts(table)
    if counted[UNKNOWN] == len(table):
        raise RecordError(
            f"{a} and {b} have too few epochs for an answer at every size that both have; expected three or more "
            "beside those to skip. Train longer, or repeat the runs"
        )
    lines = [_cells(table).to_string(index=False), ""]
    if counted[WORSE]:
        worst = table[table["verdict"] == WORSE].sort_values("change_high").iloc[0]
        lines.append(
            f"B is worse beyond the noise in {counted[WORSE]} of {len(table)} comparisons, the most in "
            f"{worst['quantity']} at {worst['workers']} workers: {worst['change']:+.1%}."
        )
    else:
        lines.append(f"B is not worse than A beyond the noise and a loss of {threshold:.1%}.")
    lines += [f"Note: {note}" for note in dict.fromkeys([*first.notes, *second.notes])]
    return "\n".join(lines), counted[WORSE] > 0


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
