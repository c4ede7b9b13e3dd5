"""Speed-up and parallel efficiency of points, relative to a baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from scaling.metrics.bootstrap import interval
from scaling.metrics.epochs import events_known, joined, workers_text
from scaling.metrics.points import DRAWN
from scaling.records import RecordError
from scaling.records.wording import count
from scaling.runs import MODES

__all__ = ["check_mode", "curve"]


def curve(
    points: pd.DataFrame,
    baseline: int | None = None,
    mode: str = "fixed-local",
    reference: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Compute speed-up and parallel efficiency of points, relative to the point of `baseline` workers.

    With W events/s on N workers and W_b on the B workers of the baseline, speed-up is W / W_b and efficiency is
    speed-up / (N / B). If both epochs process the same events, the efficiency is T(B) B / (T(N) N). If the events grow
    with the workers, it is T(B) / T(N). The ideal speed-up is N / B. The ideal time is the time of an epoch with the
    same events at the ideal speed-up. If the events of a point or its baseline are not known, each epoch counts as the
    work that the mode defines.

    The intervals use the bootstrap draws of both sizes, so they include the uncertainty of the baseline. At the
    baseline itself the speed-up is 1 by definition and has no interval, unless the baseline is from other runs.

    Args:
        points: result of `points`.
        baseline: number of workers of the baseline. None means the smallest of each series.
        mode: one of `runs.MODES`.
        reference: points of other runs that contain the baseline. They have the same series, or one series for all.

    Returns:
        The columns of `points` without the draws, and mode, baseline (workers), speedup and efficiency, both with
        `_low` and `_high`, ideal_speedup and ideal_seconds.

    Raises:
        RecordError: a series has no run with `baseline` workers, or the mode is unknown.
    """
    check_mode(mode)
    parts = []
    for series, group in points.groupby("series", sort=True):
        base = _baseline(group if reference is None else _of_series(reference, str(series)), baseline, str(series))
        parts.append(_against(group, base, mode, own=reference is None))
    return pd.concat(parts, ignore_index=True)


def check_mode(mode: str) -> None:
    """Raise RecordError if `mode` is not one of `runs.MODES`."""
    if mode not in MODES:
        raise RecordError(f"mode {mode!r} is unknown; expected one of {joined(MODES)}")


def _of_series(reference: pd.DataFrame, series: str) -> pd.DataFrame:
    if reference["series"].nunique() == 1:
        return reference
    own = reference[reference["series"] == series]
    if own.empty:
        raise RecordError(
            f"the runs of --baseline-from have no series {series!r}, only {joined(sorted(set(reference['series'])))}; "
            "give runs of one series or of the same series"
        )
    return own


def _baseline(candidates: pd.DataFrame, baseline: int | None, series: str) -> pd.Series:
    sizes = candidates["workers"].tolist()
    size = min(sizes) if baseline is None else baseline
    if size not in sizes:
        runs = f"runs of {series}" if series else "runs"
        raise RecordError(
            f"the {runs} have {workers_text(sizes)}, but the baseline is {count(size, 'worker')}; "
            "give one of their numbers with --baseline, or add a run with that number"
        )
    return candidates[candidates["workers"] == size].iloc[0]


def _against(group: pd.DataFrame, base: pd.Series, mode: str, own: bool) -> pd.DataFrame:
    known = events_known(group) and bool(pd.notna(base["events"]))
    rows = [_row(point, base, mode, own, known) for _, point in group.iterrows()]
    return pd.concat([group.drop(columns=list(DRAWN)).reset_index(drop=True), pd.DataFrame(rows)], axis=1)


def _row(point: pd.Series, base: pd.Series, mode: str, own: bool, known: bool) -> dict[str, Any]:
    ideal = point["workers"] / base["workers"]
    if known:
        work = 1.0
        speedup = point["events_per_second"] / base["events_per_second"]
        draws: Sequence[np.ndarray] = (base["cost_draws"], point["cost_draws"])
        ideal_seconds = point["events"] / (base["events_per_second"] * ideal)
    else:
        work = ideal if mode == "weak" else 1.0
        speedup = work * base["seconds"] / point["seconds"]
        draws = (base["seconds_draws"], point["seconds_draws"])
        ideal_seconds = work * base["seconds"] / ideal
    itself = own and point["workers"] == base["workers"]
    both = all(len(part) for part in draws) and not itself
    low, high = interval(work * _paired(*draws) if both else np.empty(0))
    return {
        "mode": mode,
        "baseline": int(base["workers"]),
        "speedup": speedup,
        "speedup_low": low,
        "speedup_high": high,
        "efficiency": speedup / ideal,
        "efficiency_low": low / ideal,
        "efficiency_high": high / ideal,
        "ideal_speedup": ideal,
        "ideal_seconds": ideal_seconds,
    }


def _paired(base: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return ratios of independent draws.

    One side is shifted by one, because draws of the same size from two logs use the same seed and would cancel.
    """
    length = min(len(base), len(other))
    return base[:length] / np.roll(other[:length], 1)
