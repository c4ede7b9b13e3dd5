"""Tells whether one study is slower or scales worse than another beyond the noise of both.

Works on points as `metrics.points` gives them; reading runs and printing is left to `cli`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from scaling.metrics.curves import MODES
from scaling.metrics.epochs import events_known, listed
from scaling.records import RecordError

__all__ = ["BETTER", "SAME", "UNKNOWN", "WORSE", "compare", "verdicts"]

BETTER, SAME, UNKNOWN, WORSE = "better", "within the noise", "too few epochs", "worse"
_TAIL = 0.025


def compare(
    a: pd.DataFrame,
    b: pd.DataFrame,
    threshold: float = 0.0,
    baseline: int | None = None,
    mode: str = "fixed-local",
) -> pd.DataFrame:
    """Compare B with A at every size that both have: events/s, and efficiency against the fewest of these sizes.

    The draws of both bootstraps give the interval of each ratio. Each of the m comparisons of worse gets a tail of
    2.5% / m (Bonferroni), so that of studies that are alike not more than 2.5% are called worse in any of them.

    Args:
        a, b: points, from bootstraps with different seeds, so that their draws are independent.
        threshold: the smallest relative loss (or gain) that counts, such as 0.02.
        baseline: workers for the efficiency; by default the fewest that both have, series by series.
        mode: one of `metrics.MODES`: what an epoch is where its events are not known.

    Returns:
        Columns series, workers, quantity (events/s or efficiency; epochs/s where events are not known), a, b, change
        (b / a - 1), runs (the fewer of A's and B's), change_low, change_high and verdict, one of `BETTER`, `SAME`,
        `UNKNOWN` (fewer than 3 epochs in A or B) and `WORSE`.

    Raises:
        RecordError: no size is in both, or the baseline is not, or the mode is unknown.
    """
    if mode not in MODES:
        raise RecordError(f"mode {mode!r} is unknown; expected one of {listed(MODES)}")
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
                f"the baseline of {base} workers is not in both studies, which share {', '.join(map(str, common))}; "
                "give one of these numbers"
            )
        pace = {n: (_pace(ours[n], known), _pace(theirs[n], known)) for n in common}
        runs = {n: min(int(ours[n]["runs"]), int(theirs[n]["runs"])) for n in common}
        for workers in common:
            name = "events/s" if known else "epochs/s"
            rows.append(_row(series, workers, name, [pace[workers]]) | {"runs": runs[workers]})
            if workers != base:
                # An epoch of weak scaling is as much work as there are workers.
                factor = 1.0 if mode == "weak" and not known else base / workers
                row = _row(series, workers, "efficiency", [pace[workers], pace[base]], factor)
                rows.append(row | {"runs": min(runs[workers], runs[base])})
    if not rows:
        sizes = [", ".join(f"{row['workers']}" for _, row in table.iterrows()) for table in (a, b)]
        raise RecordError(
            f"no size is in both studies: A has {sizes[0]} workers, B {sizes[1]}; measure one size in both at least"
        )
    tail = _TAIL / sum(len(row["draws"]) > 0 for row in rows) if any(len(row["draws"]) for row in rows) else _TAIL
    for row in rows:
        draws = row.pop("draws")
        low, high = np.quantile(draws, (tail, 1 - tail)) - 1 if len(draws) else (np.nan, np.nan)
        row |= {"change_low": low, "change_high": high, "verdict": _verdict(low, high, threshold)}
    return pd.DataFrame(rows)


def verdicts(table: pd.DataFrame) -> Mapping[str, int]:
    """How many comparisons have each verdict."""
    return {name: int((table["verdict"] == name).sum()) for name in (WORSE, BETTER, SAME, UNKNOWN)}


def _by_workers(table: pd.DataFrame, series: str) -> dict[int, pd.Series]:
    return {int(row["workers"]): row for _, row in table[table["series"] == series].iterrows()}


def _pace(point: pd.Series, known: bool) -> tuple[float, np.ndarray]:
    """Events/s (or epochs/s) of a point and the draws of it, which may be none."""
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
    """One comparison: of the first pair of A and B, over the second pair where there is one."""
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
