"""Show what became slower between two benchmark runs: `python -m tests.benchmarks.compare OLD.json NEW.json`.

Machines differ, and their speed changes with time. So a figure is compared at equal matrix product rates if both runs
measured this rate in the same rounds. A change counts if it is larger than the noise of both runs together.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.figures import MORE_IS_BETTER, Figure, Results, read_results

__all__ = ["Change", "changes", "main", "noise"]

FLOOR = 0.05
"""Smallest relative change that 5 quiet rounds can show: the distance between medians of equal runs."""
USUAL_ROUNDS = 5
"""Number of rounds for which FLOOR is valid."""
DEVIATIONS = 1.4826
"""Standard deviation divided by median absolute deviation, for a normal distribution."""
CONFIDENCE = 2.0
"""Half width of an interval around a median, in standard errors."""
MEDIAN_ERROR = 1.2533
"""Ratio of the standard errors of a median and of a mean, for a normal distribution: sqrt(pi / 2)."""
NOT_COMPARED = ("matmul-fp32", "matmul-bf16")
"""Rates of the machine itself, by which other figures are scaled."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """Change of one figure between two runs."""

    name: str
    old: float
    new: float
    unit: str
    factor: float
    """New time (or size) divided by the old one, at equal matrix product rates. Below 1 is faster."""
    noise: float
    """Largest relative change, in both directions, that may be chance."""
    normalized: bool
    """Whether both runs have the matrix product rate."""

    @property
    def verdict(self) -> str:
        if self.factor > 1 + self.noise:
            return "slower"
        return "faster" if self.factor < 1 / (1 + self.noise) else "same"


def noise(figure: Figure) -> float:
    """Return half the width of the 95% interval of a figure's median, relative to the median, at least a floor.

    It follows from the median absolute deviation, which a few disturbed rounds do not change much. The floor is higher
    for fewer rounds.
    """
    middle = figure.median
    if not middle:
        return 0.0
    number = len(figure.rounds)
    spread = DEVIATIONS * figure.deviation / abs(middle)
    return max(FLOOR * math.sqrt(USUAL_ROUNDS / number), CONFIDENCE * MEDIAN_ERROR * spread / math.sqrt(number))


def changes(old: Results, new: Results) -> list[Change]:
    """Return the changes of all figures in both runs, in the order of the new run."""
    changed = []
    for figure in new.figures:
        before = old.get(figure.name)
        if before is None or before.median is None or figure.median is None or figure.name.endswith(NOT_COMPARED):
            continue
        changed.append(_change(before, figure, old.get(before.reference), new.get(figure.reference)))
    return changed


def _change(old: Figure, new: Figure, old_rate: Figure | None, new_rate: Figure | None) -> Change:
    before, after = old.median or 0.0, new.median or 0.0
    if before and after:
        factor = before / after if new.unit in MORE_IS_BETTER else after / before
    else:
        factor = 1.0 if before == after else math.inf if after > before else 0.0
    uncertain = [noise(old), noise(new)]
    normalized = bool(old_rate and new_rate and old_rate.median and new_rate.median)
    if old_rate and new_rate and old_rate.median and new_rate.median:
        # A machine twice as fast should take half the time for the same code.
        factor *= new_rate.median / old_rate.median
        uncertain += [noise(old_rate), noise(new_rate)]
    return Change(
        name=new.name,
        old=before,
        new=after,
        unit=new.unit,
        factor=factor,
        noise=math.hypot(*uncertain),
        normalized=normalized,
    )


def render(changed: Sequence[Change], missing: Iterable[str]) -> str:
    """Return the slower figures, then the faster ones, then the number of unchanged ones as text."""
    lines = []
    for verdict in ("slower", "faster"):
        some = [change for change in changed if change.verdict == verdict]
        lines.append(f"{verdict}: {len(some) or 'none'}")
        for change in sorted(some, key=lambda change: -abs(math.log(change.factor or 1e-9))):
            how = "at equal matrix product rates" if change.normalized else "as measured"
            lines.append(
                f"  {change.name}: {change.old:.4g} -> {change.new:.4g} {change.unit}, "
                f"{change.factor:.2f} times the time {how} (noise {change.noise:.0%})"
            )
    lines.append(f"the same within the noise: {sum(change.verdict == 'same' for change in changed)}")
    lost = list(missing)
    if lost:
        lines.append(f"missing in the new run: {', '.join(lost)}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare two runs. Return the exit status: 0 if nothing is slower, 1 if something is, 2 for an unreadable file."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.compare", description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path, help="results of the earlier run, a JSON file")
    parser.add_argument("new", type=Path, help="results of the later run, a JSON file")
    options = parser.parse_args(arguments)
    try:
        old, new = read_results(options.old), read_results(options.new)
    except ValueError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    if old.machine["cpu"] != new.machine["cpu"] or old.machine["cores"] != new.machine["cores"]:
        print("The runs are of different machines: compare only figures at equal matrix product rates.")
    changed = changes(old, new)
    measured = {figure.name for figure in new.figures if figure.rounds}
    print(render(changed, [figure.name for figure in old.figures if figure.rounds and figure.name not in measured]))
    return int(any(change.verdict == "slower" for change in changed))


if __name__ == "__main__":
    sys.exit(main())
