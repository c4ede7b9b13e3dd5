"""The command `compare`: read two studies, check that they can be compared, and report the result as text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from scaling import metrics
from scaling.metrics.epochs import unquoted
from scaling.metrics.verdicts import UNKNOWN, WORSE, compare_points, count_verdicts
from scaling.records import RecordError
from scaling.records.wording import count
from scaling.report.text import figures, interval_text
from scaling.study import StudyOptions, differences_text, read_study

__all__ = ["Comparison", "compare_studies"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Result of comparing study B with study A."""

    text: str
    """Table, conclusion and notes, as text to print."""
    worse: bool
    """Whether B is worse in at least one comparison."""
    decided: bool
    """Whether every comparison had enough epochs."""


def compare_studies(a: Path, b: Path, options: StudyOptions, threshold: float) -> Comparison:
    """Compare the study at `b` with the study at `a`, each a log or a folder.

    Args:
        a, b: paths of the studies.
        options: how to read both.
        threshold: smallest relative loss that counts, such as 0.02.

    Raises:
        RecordError: a log cannot be read, the runs differ in their settings, the studies have no common number of
            workers, or no comparison has enough epochs.
    """
    first, second = (read_study([path], options) for path in (a, b))
    differences = metrics.differences([*first.runs, *second.runs], options.mode, options.series)
    if differences and not options.allow_different:
        raise RecordError(
            f"the settings of A and B differ:\n{differences_text(differences)}\n"
            "Compare studies of the same training, or compare these anyway with --allow-different"
        )
    # Use another seed than for the points of A, so that the draws of A and B are independent.
    others = metrics.points(second.epochs, seed=2)
    table = compare_points(first.points, others, threshold, options.baseline, options.mode)
    counts = count_verdicts(table)
    if counts[UNKNOWN] == len(table):
        raise RecordError(
            f"too few epochs in {a} or {b} at every common number of workers; expected three or more after the skipped "
            "ones. Train for more epochs, or repeat the runs"
        )
    lines = [_cells(table).to_string(index=False), "", *_conclusion(table, threshold)]
    lines += [f"Note: {note}" for note in dict.fromkeys([*first.notes, *second.notes])]
    return Comparison(text="\n".join(lines), worse=counts[WORSE] > 0, decided=counts[UNKNOWN] == 0)


def _conclusion(table: pd.DataFrame, threshold: float) -> list[str]:
    """Return the conclusion in sentences, with the limits of its validity."""
    worse, unknown = (table[table["verdict"] == name] for name in (WORSE, UNKNOWN))
    sentences = []
    if len(worse):
        worst = worse.sort_values("change_high").iloc[0]
        sentences.append(
            f"B is worse than A beyond the noise in {len(worse)} of {count(len(table), 'comparison')}. The clearest is "
            f"{worst['quantity']} at {count(worst['workers'], 'worker')}: {worst['change']:+.1%}."
        )
    else:
        decided = " in the comparisons with enough epochs" if len(unknown) else ""
        sentences.append(f"B is not worse than A beyond the noise and a loss of {threshold:.1%}{decided}.")
    if len(unknown):
        names = ", ".join(dict.fromkeys(_size(row) + f" ({row['quantity']})" for _, row in unknown.iterrows()))
        sentences.append(f"Too few epochs to decide: {names}. Train for more epochs there, or repeat the runs.")
    single = table[(table["runs"] == 1) & (table["verdict"] != UNKNOWN)]
    if len(single):
        names = ", ".join(dict.fromkeys(_size(row) for _, row in single.iterrows()))
        sentences.append(
            f"A or B has only one run at {names}: the interval does not include the variation between repeated runs."
        )
    return sentences


def _size(row: pd.Series) -> str:
    workers = count(row["workers"], "worker")
    return f"{unquoted(row['series'])}, {workers}" if row["series"] else workers


def _cells(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table of comparisons as text."""
    cells = pd.DataFrame()
    if table["series"].nunique() > 1:
        cells["series"] = table["series"].map(unquoted)
    cells["workers"] = table["workers"].astype(str)
    cells["quantity"] = table["quantity"]
    for name in ("a", "b"):
        cells[name.upper()] = [
            f"{value:.1%}" if quantity == "efficiency" else figures(value)
            for value, quantity in zip(table[name], table["quantity"], strict=True)
        ]
    cells["B / A - 1"] = table["change"].map("{:+.1%}".format)
    cells["interval"] = interval_text(table["change_low"], table["change_high"], "{:+.1%}".format)
    cells["verdict"] = table["verdict"]
    return cells
