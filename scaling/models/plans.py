"""How many nodes a target needs, and how many still hold an efficiency, from a fitted model."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scaling.models.fits import Fit
from scaling.records import RecordError

__all__ = ["Plan", "plan"]

_CHUNK = 1024
"""Sizes that are looked at together: some 10 MB for 1,000 draws."""
_MOST_WORKERS = 2**20
"""Beyond the largest machines; to look at as many takes a minute or two."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The answer of a model. Counts are nodes, or workers where the runs do not tell their nodes.

    An optimistic and a pessimistic count bracket each answer: the 95% interval over the draws of the fit. None means
    that no size up to `limit` does it.
    """

    unit: str
    """nodes or workers."""
    workers_per_unit: int
    limit: int
    """The largest size that was looked at."""
    largest_measured: int
    target_epoch: float | None
    """Seconds per epoch."""
    needed: int | None
    """The fewest that reach `target_epoch`."""
    needed_optimistic: int | None
    needed_pessimistic: int | None
    target_efficiency: float | None
    most: int | None
    """The most up to which the efficiency stays at `target_efficiency` or above, from the baseline on."""
    most_optimistic: int | None
    most_pessimistic: int | None

    @property
    def possible(self) -> bool:
        """Whether one size meets both targets."""
        if self.target_epoch is not None and self.needed is None:
            return False
        if self.target_efficiency is None:
            return True
        return self.most is not None and (self.needed is None or self.needed <= self.most)

    def sentences(self) -> list[str]:
        """The answer for people."""
        said = []
        if self.target_epoch is not None:
            what = f"an epoch in {self.target_epoch:g} s"
            if self.needed is None:
                said.append(f"No number of {self.unit} up to {self.limit} gives {what}.")
            else:
                band = _band(self.needed_optimistic, self.needed_pessimistic, self.limit)
                said.append(f"{self.needed} {self.unit} give {what} ({band}).{self._beyond(self.needed)}")
        if self.target_efficiency is not None:
            what = f"the efficiency at {self.target_efficiency:.0%} or above"
            if self.most is None:
                said.append(f"No size from the baseline on keeps {what}.")
            elif self.most >= self.limit:
                said.append(f"All sizes up to {self.limit} {self.unit} keep {what}.{self._beyond(self.most)}")
            else:
                band = _band(self.most_pessimistic, self.most_optimistic, self.limit)
                said.append(f"Up to {self.most} {self.unit} keep {what} ({band}).{self._beyond(self.most)}")
        if self.target_epoch is not None and self.target_efficiency is not None:
            said.append("One size meets both targets." if self.possible else "No size meets both targets.")
        return said

    def _beyond(self, size: int) -> str:
        return f" This lies beyond the {self.largest_measured} measured." if size > self.largest_measured else ""


def _band(low: int | None, high: int | None, limit: int) -> str:
    first, last = (f"more than {limit}" if value is None else str(value) for value in (low, high))
    return f"95% interval {first} to {last}"


def plan(
    fit: Fit,
    target_epoch: float | None = None,
    target_efficiency: float | None = None,
    limit: int | None = None,
) -> Plan:
    """How many nodes give an epoch of `target_epoch` seconds, and how many still have `target_efficiency`.

    Nodes are taken as full, with as many workers as the runs had on one. Sizes up to `limit` (default: 32 times the
    largest measured, 1024 at least) are looked at, all of them: time need not fall with every node.

    Raises:
        RecordError: no target, one that cannot be, or a limit of more than a million workers.
    """
    if target_epoch is None and target_efficiency is None:
        raise RecordError("no target was given; expected --target-epoch SECONDS, --target-efficiency FRACTION or both")
    if target_epoch is not None and not 0 < target_epoch < math.inf:
        raise RecordError(f"a target of {target_epoch} s per epoch was given; expected a time above 0")
    if target_efficiency is not None and not 0 < target_efficiency <= 1:
        raise RecordError(f"a target efficiency of {target_efficiency} was given; expected a fraction such as 0.9")
    per_unit = max(1, round(fit.study.workers_per_node))
    # A baseline or a point below a full node says that nodes were filled bit by bit.
    largest = math.ceil(int(fit.measured.max()) / per_unit)
    unit = "nodes" if fit.study.nodes_known else "workers"
    farthest = max(_MOST_WORKERS // per_unit, largest)
    if limit is not None and not 1 <= limit <= farthest:
        raise RecordError(f"a limit of {limit} {unit} was given; expected 1 to {farthest}")
    limit = limit or min(max(1024, 32 * largest), farthest)
    needed: list[int | None] = [None] * 3
    most: list[int | None] = [None] * 3
    if target_epoch is not None:
        goal = target_epoch

        def fast(workers: np.ndarray) -> np.ndarray:
            return np.vstack([fit.seconds(workers), fit.drawn(workers)[0]]) <= goal

        best, *drawn = _first(fast, per_unit, limit)
        low, high = np.quantile(drawn, (0.025, 0.975), method="nearest")
        needed = [_size(value, limit) for value in (best, min(low, best), max(high, best))]
    if target_efficiency is not None:
        # Below the baseline the efficiency may be above 1 or below the target; neither says anything of large sizes.
        least, kept = math.ceil(fit.baseline / per_unit), target_efficiency

        def fails(workers: np.ndarray) -> np.ndarray:
            efficiency = np.vstack([fit.efficiency(workers), fit.drawn(workers)[1] * fit.baseline / workers])
            return (efficiency < kept) & (workers >= fit.baseline)

        best, *drawn = _first(fails, per_unit, limit) - 1
        low, high = np.quantile(drawn, (0.025, 0.975), method="nearest")
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
    """The first size from 1 to `limit` at which each row of a condition holds; `limit` + 1 where it does at none.

    Args:
        condition: from workers, shape (sizes,), to truth, shape (1 + draws, sizes): of the best weights and all draws.
    """
    found: np.ndarray | None = None
    for start in range(1, limit + 1, _CHUNK):
        holds = condition(np.arange(start, min(start + _CHUNK, limit + 1)) * float(per_unit))
        here = np.where(holds.any(axis=1), start + holds.argmax(axis=1), limit + 1)
        found = here if found is None else np.minimum(found, here)
        if (found <= limit).all():
            break
    return np.full(1, limit + 1) if found is None else found


def _size(value: float, limit: int) -> int | None:
    return int(value) if value <= limit else None
