"""Decide whether one study is slower or scales worse than another, by more than the noise of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from scaling.metrics.curves import check_mode
from scaling.metrics.epochs import events_known, joined, workers_text
from scaling.records import RecordError
from scaling.records.wording import count

__all__ = ["BETTER", "SAME", "UNKNOWN", "WORSE", "compare_points", "count_verdicts"]

BETTER, SAME, UNKNOWN, WORSE = "better", "within the noise", "too few epochs", "worse"
_TAIL = 0.025
"""Largest probability that one of two equal studies counts as worse in any comparison."""


def compare_points(
    a: pd.DataFrame,
    b: pd.DataFrame,
    threshold: float = 0.0,
    baseline: int | None = None,
    mode: str = "fixed-local",
) -> pd.DataFrame:
    """Compare study B with study A at every number of workers that both have.

    The function compares events/s, and the efficiency relative to the smallest common size. The interval of each ratio
    comes from the bootstrap draws of both studies. With m comparisons, each interval leaves out 2.5% / m at each end
    (Bonferroni). So if both studies have the same true speed, the probability that B counts as worse in at least one
    comparison is at most 2.5%.

    Args:
        a, b: results of `points` with different seeds, so that the draws are independent.
        threshold: smallest relative loss (or gain) that counts, such as 0.02.
        baseline: number of workers that the efficiency refers to. None means the smallest common size of each series.
        mode: one of `runs.MODES`. It defines the work of an epoch if the events are not known.

    Returns:
        Columns series, workers, quantity (events/s or efficiency; epochs/s if the events are not known), a, b, change
        (b / a - 1), runs (the smaller number of runs of A and B), change_low, change_high and verdict, which is one of
        `BETTER`, `SAME`, `UNKNOWN` (fewer than 3 epochs in A or B) and `WORSE`.

    Raises:
        RecordError: A and B have no common size, the baseline is not one of them, or the mode is unknown.
    """
    check_mode(mode)
    known = events_known(a) and events_known(b)
    rows = []
    for series in sorted(set(a["series"]) & set(b["series"])):
        ours, theirs = (_by_workers(table, series) for table in (a, b))
        common = sorted(set(ours) & set(theirs))
        if not common:
            continue
        base = common[0] if baseline is None else baseline
        if base not in common:
            raise RecordError(
                f"A and B have {workers_text(common)} in common, but the baseline is {count(base, 'worker')}; "
                "give one of their numbers with --baseline"
            )
        pace = {n: (_pace(ours[n], known), _pace(theirs[n], known)) for n in common}
        runs = {n: min(int(ours[n]["runs"]), int(theirs[n]["runs"])) for n in common}
        for workers in common:
            name = "events/s" if known else "epochs/s"
            rows.append(_row(series, workers, name, [pace[workers]]) | {"runs": runs[workers]})
            if workers != base:
                # In weak scaling the work of an epoch is proportional to the number of workers.
                factor = 1.0 if mode == "weak" and not known else base / workers
                row = _row(series, workers, "efficiency", [pace[workers], pace[base]], factor)
                rows.append(row | {"runs": min(runs[workers], runs[base])})
    if not rows:
        sizes = [joined(table["workers"]) for table in (a, b)]
        raise RecordError(
            f"A and B have no number of workers in common: A has {sizes[0]}, B has {sizes[1]}; "
            "run both studies on at least one common number of workers"
        )
    tail = _TAIL / sum(len(row["draws"]) > 0 for row in rows) if any(len(row["draws"]) for row in rows) else _TAIL
    for row in rows:
        draws = row.pop("draws")
        low, high = np.quantile(draws, (tail, 1 - tail)) - 1 if len(draws) else (np.nan, np.nan)
        row |= {"change_low": low, "change_high": high, "verdict": _verdict(low, high, threshold)}
    return pd.DataFrame(rows)


def count_verdicts(table: pd.DataFrame) -> Mapping[str, int]:
    """Return the number of comparisons with each verdict."""
    return {name: int((table["verdict"] == name).sum()) for name in (WORSE, BETTER, SAME, UNKNOWN)}


def _by_workers(table: pd.DataFrame, series: str) -> dict[int, pd.Series]:
    return {int(row["workers"]): row for _, row in table[table["series"] == series].iterrows()}


def _pace(point: pd.Series, known: bool) -> tuple[float, np.ndarray]:
    """Return events/s (or epochs/s) of a point and its draws. The draws may be empty."""
    if known:
        return float(point["events_per_second"]), 1 / point["cost_draws"]
    return 1 / float(point["seconds"]), 1 / point["seconds_draws"]


def _row(
    series: str,
    workers: int,
    quantity: str,
    pairs: Sequence[tuple[tuple[float, np.ndarray], tuple[float, np.ndarray]]],
    factor: float = 1.0,
) -> dict[str, Any]:
    """Return one comparison of A and B.

    Args:
        pairs: the pace of A and B. For an efficiency also their pace at the baseline, which divides the first pair.
        factor: scale of the values `a` and `b`, such as the ratio of workers of an efficiency.
    """
    (a, a_draws), (b, b_draws) = pairs[0]
    every = [a_draws, b_draws]
    length = min(map(len, every))
    for (a_base, a_base_draws), (b_base, b_base_draws) in pairs[1:]:
        a, b = a / a_base, b / b_base
        every += [b_base_draws, a_base_draws]
        length = min(map(len, every))
    draws = np.empty(0)
    if length:
        draws = every[1][:length] / every[0][:length]
        if len(every) > 2:
            draws = draws * every[3][:length] / every[2][:length]
    return {
        "series": series,
        "workers": workers,
        "quantity": quantity,
        "a": a * factor,
        "b": b * factor,
        "change": b / a - 1,
        "draws": draws,
    }


def _verdict(low: float, high: float, threshold: float) -> str:
    if np.isnan(low):
        return UNKNOWN
    if high < -threshold:
        return WORSE
    return BETTER if low > threshold else SAME
