"""Speed-up and parallel efficiency of points against a baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from scaling.metrics.bootstrap import interval
from scaling.metrics.epochs import events_known, listed
from scaling.metrics.points import DRAWN
from scaling.records import RecordError
from scaling.records.wording import count

__all__ = ["MODES", "curve"]

MODES = ("fixed-local", "strong", "weak")
"""What stays when workers are added: the batch per worker and the data set; the global batch and the data set; the
batch and the events per worker."""


def curve(
    points: pd.DataFrame,
    baseline: int | None = None,
    mode: str = "fixed-local",
    reference: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Speed-up and parallel efficiency against the point of `baseline` workers.

    With W events/s at N workers and W_b at the baseline's B: speed-up = W / W_b, and efficiency = speed-up / (N / B),
    which is T(B) B / (T(N) N) where both epochs process the same events and T(B) / T(N) where events grow with the
    workers. Ideal is a speed-up of N / B and the time that an epoch of the same events would take at it. Where a point
    of a series or its baseline does not tell its events, epochs count as the equal work that the mode promises.

    The intervals come from the bootstrap draws of both sizes, so that they carry the baseline's uncertainty. At the
    baseline itself the speed-up is 1 by definition and has no interval, unless the baseline is from another file.

    Args:
        points: as `points` gives them.
        baseline: number of workers; by default the fewest of each series.
        mode: one of `MODES`.
        reference: points of other runs, from which the baseline is taken; of the same series, or of one for all.

    Returns:
        `points` without the draws, with mode, baseline (its workers), speedup, efficiency, each with `_low` and
        `_high`, ideal_speedup and ideal_seconds.

    Raises:
        RecordError: no run of a series has `baseline` workers, or the mode is unknown.
    """
    if mode not in MODES:
        raise RecordError(f"mode {mode!r} is unknown; expected one of {listed(MODES)}")
    parts = []
    for series, group in points.groupby("series", sort=True):
        base = _baseline(group if reference is None else _of_series(reference, str(series)), baseline, str(series))
        parts.append(_against(group, base, mode, own=reference is None))
    return pd.concat(parts, ignore_index=True)


def _of_series(reference: pd.DataFrame, series: str) -> pd.DataFrame:
    if reference["series"].nunique() == 1:
        return reference
    own = reference[reference["series"] == series]
    if own.empty:
        raise RecordError(
            f"the baseline's file has no series {series!r}, but {listed(sorted(set(reference['series'])))}; "
            "give a file with one series or with the same ones"
        )
    return own


def _baseline(candidates: pd.DataFrame, baseline: int | None, series: str) -> pd.Series:
    sizes = candidates["workers"].tolist()
    wanted = min(sizes) if baseline is None else baseline
    if wanted not in sizes:
        where = f" of {series}" if series else ""
        raise RecordError(
            f"the baseline of {count(wanted, 'worker')} is in none of the runs{where}, which have "
            f"{listed(sorted(sizes))}; give one of these numbers or add a run of that size"
        )
    return candidates[candidates["workers"] == wanted].iloc[0]


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
    """Ratios of independent draws. Shifted by one, since equal sizes of two files draw with the same seed."""
    length = min(len(base), len(other))
    return base[:length] / np.roll(other[:length], 1)
