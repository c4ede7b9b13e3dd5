"""What has become slower between two runs of the benchmarks: `python -m tests.benchmarks.compare OLD.json NEW.json`.

Machines drift and differ, so a figure that was measured along with a matrix product rate is compared by what it would
be at equal rates. A change counts where it is larger than the noise of both runs together.
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
"""Relative change that 5 quiet rounds do not show for sure: how far medians of equal runs were apart."""
USUAL_ROUNDS = 5
DEVIATIONS = 1.4826
"""Of a normal distribution: standard deviations in a median absolute deviation."""
CONFIDENCE = 2.0
"""Standard errors on either side of a median."""
MEDIAN_ERROR = 1.2533
"""Standard error of a median over that of a mean, for a normal distribution: sqrt(pi / 2)."""
NOT_COMPARED = ("matmul-fp32", "matmul-bf16")
"""The machine's own rates: they are the measure."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """How one figure changed."""

    name: str
    old: float
    new: float
    unit: str
    factor: float
    """How many times slower (or larger) it is now, at equal matrix product rates; below 1 it is faster."""
    noise: float
    """Relative; as much either way may be chance."""
    normalized: bool
    """Whether matrix product rates of both runs were there."""

    @property
    def verdict(self) -> str:
        if self.factor > 1 + self.noise:
            return "slower"
        return "faster" if self.factor < 1 / (1 + self.noise) else "same"


def noise(figure: Figure) -> float:
    """Half the width of the 95% interval of a figure's median, relative to it; never below a floor.

    From the median absolute deviation, which a few disturbed rounds do not widen. Fewer rounds raise the floor.
    """
    middle = figure.median
    if not middle:
        return 0.0
    number = len(figure.rounds)
    spread = DEVIATIONS * figure.deviation / abs(middle)
    return max(FLOOR * math.sqrt(USUAL_ROUNDS / number), CONFIDENCE * MEDIAN_ERROR * spread / math.sqrt(number))


def changes(old: Results, new: Results) -> list[Change]:
    """All figures that both runs have, in the order of the new one."""
    found = []
    for figure in new.figures:
        before = old.get(figure.name)
        if before is None or before.median is None or figure.median is None or figure.name.endswith(NOT_COMPARED):
            continue
        found.append(_change(before, figure, old.get(before.reference), new.get(figure.reference)))
    return found


def _change(old: Figure, new: Figure, old_rate: Figure | None, new_rate: Figure | None) -> Change:
    before, after = old.median or 0.0, new.median or 0.0
    if before and after:
        factor = before / after if new.unit in MORE_IS_BETTER else after / before
    else:
        factor = 1.0 if before == after else math.inf if after > before else 0.0
    uncertain = [noise(old), noise(new)]
    normalized = bool(old_rate and new_rate and old_rate.median and new_rate.median)
    if old_rate and new_rate and old_rate.median and new_rate.median:
        # On a machine twice as fast, the same code should have taken half the time.
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


def render(found: Sequence[Change], missing: Iterable[str]) -> str:
    """What is slower first, then what is faster, and in a line what is as it was."""
    lines = []
    for verdict in ("slower", "faster"):
        some = [change for change in found if change.verdict == verdict]
        lines.append(f"{verdict}: {len(some) or 'nothing'}")
        for change in sorted(some, key=lambda change: -abs(math.log(change.factor or 1e-9))):
            how = "at equal matrix product rates" if change.normalized else "as measured"
            lines.append(
                f"  {change.name}: {change.old:.4g} -> {change.new:.4g} {change.unit}, "
                f"{change.factor:.2f} times the time {how} (noise {change.noise:.0%})"
            )
    lines.append(f"the same within the noise: {sum(change.verdict == 'same' for change in found)} figures")
    lost = list(missing)
    if lost:
        lines.append(f"no longer measured: {', '.join(lost)}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 nothing is slower, 1 something is, 2 a file cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.compare", description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    options = parser.parse_args(arguments)
    try:
        old, new = read_results(options.old), read_results(options.new)
    except ValueError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    if old.machine["cpu"] != new.machine["cpu"] or old.machine["cores"] != new.machine["cores"]:
        print("These are two machines; figures that no matrix product rate goes with do not compare.")
    found = changes(old, new)
    measured = {figure.name for figure in new.figures if figure.rounds}
    print(render(found, [figure.name for figure in old.figures if figure.rounds and figure.name not in measured]))
    return int(any(change.verdict == "slower" for change in found))


if __name__ == "__main__":
    sys.exit(main())
