"""How many nodes a target needs, and how many still hold an efficiency, from a fitted model."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from scaling.models.fits import Fit
from scaling.records import RecordError

__all__ = ["Plan", "plan"]


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
        RecordError: no target, or one that cannot be.
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
    limit = limit or max(1024, 32 * largest)
    sizes = np.arange(1, limit + 1)
    workers = (sizes * per_unit).astype(float)
    seconds, speedups = fit.drawn(workers)
    needed: list[int | None] = [None] * 3
    most: list[int | None] = [None] * 3
    if target_epoch is not None:
        drawn = _first(seconds <= target_epoch)
        low, high = np.quantile(drawn, (0.025, 0.975), method="nearest")
        best = _first(fit.seconds(workers)[None, :] <= target_epoch)[0]
        needed = [_size(value, limit) for value in (best, min(low, best), max(high, best))]
    if target_efficiency is not None:
        # Below the baseline the efficiency may be above 1 or below the target; neither says anything of large sizes.
        from_base = workers >= fit.baseline
        fails = (speedups < target_efficiency * workers / fit.baseline) & from_base
        drawn = _first(fails) - 1
        low, high = np.quantile(drawn, (0.025, 0.975), method="nearest")
        best = _first(((fit.efficiency(workers) < target_efficiency) & from_base)[None, :])[0] - 1
        least = int(sizes[from_base][0]) if from_base.any() else limit + 1
        most = [int(value) if value >= least else None for value in (best, max(high, best), min(low, best))]
    return Plan(
        unit="nodes" if fit.study.nodes_known else "workers",
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


def _first(reached: np.ndarray) -> np.ndarray:
    """The first size, counted from 1, at which each row is true; one more than there are where none is."""
    return np.where(reached.any(axis=1), reached.argmax(axis=1) + 1, reached.shape[1] + 1)


def _size(value: float, limit: int) -> int | None:
    return int(value) if value <= limit else None
