"""The number of nodes that a target needs: a time per epoch to reach, or an efficiency to keep."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scaling.models.fits import Fit
from scaling.records import RecordError
from scaling.records.wording import count

__all__ = ["Plan", "plan"]

_CHUNK = 1024
"""Number of sizes that are evaluated together. They take about 10 MB for 1,000 draws."""
_MOST_WORKERS = 2**20
"""Largest number of workers to consider. It is above the largest machines. The evaluation takes a minute or two."""
_TAILS = (0.025, 0.975)
"""Quantiles at the limits of a 95% interval."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Sizes that reach a target, computed from a fitted model.

    A size is a number of nodes, or of workers if the runs do not record their nodes. The optimistic and the pessimistic
    size are the limits of the 95% interval over the draws of the fit. None means that no size up to `limit` reaches the
    target.
    """

    unit: str
    """Unit of the sizes: `nodes` or `workers`."""
    workers_per_unit: int
    """Workers of a full node, or 1."""
    limit: int
    """Largest size that was considered."""
    largest_measured: int
    """Largest size of the runs."""
    target_epoch: float | None
    """Target for the seconds per epoch, or None."""
    needed: int | None
    """Smallest size that reaches `target_epoch`, or None."""
    needed_optimistic: int | None
    needed_pessimistic: int | None
    target_efficiency: float | None
    """Target for the parallel efficiency, or None."""
    most: int | None
    """Largest size up to which all sizes from the baseline on have at least `target_efficiency`, or None."""
    most_optimistic: int | None
    most_pessimistic: int | None

    @property
    def possible(self) -> bool:
        """True if one size reaches all targets."""
        if self.target_epoch is not None and self.needed is None:
            return False
        if self.target_efficiency is None:
            return True
        return self.most is not None and (self.needed is None or self.needed <= self.most)

    def sentences(self) -> list[str]:
        """Return the result in words."""
        sentences = []
        if self.target_epoch is not None:
            goal = f"an epoch of {self.target_epoch:g} s"
            if self.needed is None:
                sentences.append(f"No number of {self.unit} up to {self.limit:,} reaches {goal}.")
            else:
                interval = _interval(self.needed_optimistic, self.needed_pessimistic, self.limit)
                size = self._size(self.needed)
                verb = "reaches" if self.needed == 1 else "reach"
                sentences.append(f"{size} {verb} {goal} ({interval}).{self._warning(self.needed)}")
        if self.target_efficiency is not None:
            goal = f"an efficiency of {self.target_efficiency:.0%} or more"
            if self.most is None:
                sentences.append(f"No number of {self.unit} keeps {goal}.")
            elif self.most >= self.limit:
                sentences.append(f"All sizes up to {self._size(self.limit)} keep {goal}.{self._warning(self.most)}")
            else:
                interval = _interval(self.most_pessimistic, self.most_optimistic, self.limit)
                sentences.append(f"Up to {self._size(self.most)} keep {goal} ({interval}).{self._warning(self.most)}")
        if self.target_epoch is not None and self.target_efficiency is not None:
            sentences.append("One size reaches both targets." if self.possible else "No size reaches both targets.")
        return sentences

    def _size(self, number: int) -> str:
        return count(number, self.unit.removesuffix("s"))

    def _warning(self, size: int) -> str:
        if size <= self.largest_measured:
            return ""
        return f" This is an extrapolation: the largest run used {self._size(self.largest_measured)}."


def _interval(low: int | None, high: int | None, limit: int) -> str:
    first, last = (f"more than {limit:,}" if value is None else f"{value:,}" for value in (low, high))
    return f"95% interval {first} to {last}"


def plan(
    fit: Fit,
    target_epoch: float | None = None,
    target_efficiency: float | None = None,
    limit: int | None = None,
) -> Plan:
    """Compute the numbers of nodes that reach an epoch of `target_epoch` seconds or keep `target_efficiency`.

    Each node has the largest number of workers on any node of the runs. All sizes up to `limit` are evaluated, because
    the time may increase with an additional node.

    Args:
        fit: a fitted model.
        target_epoch: seconds per epoch to reach.
        target_efficiency: parallel efficiency to keep, as a fraction.
        limit: largest size to consider, in nodes, or in workers if the runs do not record their nodes. None means 32
            times the largest size of the runs, but at least 1024.

    Raises:
        RecordError: no target or an impossible one was given, or a limit above a million workers.
    """
    if target_epoch is None and target_efficiency is None:
        raise RecordError("no target was given; expected --target-epoch SECONDS, --target-efficiency FRACTION or both")
    if target_epoch is not None and not 0 < target_epoch < math.inf:
        raise RecordError(f"the target epoch is {target_epoch} s; expected a time above 0. Change --target-epoch")
    if target_efficiency is not None and not 0 < target_efficiency <= 1:
        raise RecordError(
            f"the target efficiency is {target_efficiency}; expected a fraction such as 0.9. Change --target-efficiency"
        )
    per_unit = max(1, round(fit.workload.workers_per_node))
    # Round up, because the baseline or a point may use only a part of a node.
    largest = math.ceil(int(fit.measured.max()) / per_unit)
    unit = "nodes" if fit.workload.nodes_known else "workers"
    farthest = max(_MOST_WORKERS // per_unit, largest)
    if limit is not None and not 1 <= limit <= farthest:
        raise RecordError(f"the limit is {limit} {unit}; expected 1 to {farthest}. Change --limit")
    limit = limit or min(max(1024, 32 * largest), farthest)
    needed: list[int | None] = [None] * 3
    most: list[int | None] = [None] * 3
    if target_epoch is not None:
        goal = target_epoch

        def fast(workers: np.ndarray) -> np.ndarray:
            return np.vstack([fit.seconds(workers), fit.drawn(workers)[0]]) <= goal

        best, *drawn = _first(fast, per_unit, limit)
        low, high = np.quantile(drawn, _TAILS, method="nearest")
        needed = [_within(value, limit) for value in (best, min(low, best), max(high, best))]
    if target_efficiency is not None:
        # Ignore sizes below the baseline, because their efficiency does not matter for large sizes.
        least, kept = math.ceil(fit.baseline / per_unit), target_efficiency

        def fails(workers: np.ndarray) -> np.ndarray:
            efficiency = np.vstack([fit.efficiency(workers), fit.drawn(workers)[1] * fit.baseline / workers])
            return (efficiency < kept) & (workers >= fit.baseline)

        best, *drawn = _first(fails, per_unit, limit) - 1
        low, high = np.quantile(drawn, _TAILS, method="nearest")
        most = [int(value) if value >= least else None for value in (best, max(high, best), min(low, best))]
    return Plan(
        unit=unit,
        workers_per_unit=per_unit,
        limit=limit,
        largest_measured=largest,
        target_epoch=target_epoch,
        needed=needed[0],
        needed_optimistic=needed[1],
        needed_pessimistic=needed[2],
        target_efficiency=target_efficiency,
        most=most[0],
        most_optimistic=most[1],
        most_pessimistic=most[2],
    )


def _first(condition: Callable[[np.ndarray], np.ndarray], per_unit: int, limit: int) -> np.ndarray:
    """Return the first size from 1 to `limit` at which each row of a condition is true, or `limit` + 1 if it never is.

    Args:
        condition: function from workers, shape (sizes,), to booleans, shape (rows, sizes). The rows are the best
            weights and all draws.
        per_unit: workers of one unit of size.
        limit: largest size.

    Returns:
        Sizes of shape (rows,).
    """
    first: np.ndarray | None = None
    for start in range(1, limit + 1, _CHUNK):
        holds = condition(np.arange(start, min(start + _CHUNK, limit + 1)) * float(per_unit))
        here = np.where(holds.any(axis=1), start + holds.argmax(axis=1), limit + 1)
        first = here if first is None else np.minimum(first, here)
        if (first <= limit).all():
            break
    return np.full(1, limit + 1) if first is None else first


def _within(value: float, limit: int) -> int | None:
    """Return a size, or None if it is above the limit."""
    return int(value) if value <= limit else None
