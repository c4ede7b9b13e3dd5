"""Measuring several cases in turn within a time: interleaved rounds, so that a drifting machine disturbs all alike.

What the cases do is left to the sections.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.benchmarks.figures import Figure

__all__ = ["Case", "elapsed", "interleave"]

MOST_ROUNDS = 9
"""Beyond these the median moves less than the machine drifts."""

Measurement = Callable[[], float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """Something to be measured again and again."""

    name: str
    prepare: Callable[[], Measurement]
    """Builds it. The result, called once a round, returns one value of the figure; its first call only warms up."""
    unit: str = "s"
    rounds: int = MOST_ROUNDS
    """At most."""
    expected: float = 0.0
    """Seconds that a round of it will take, where something tells; 0 where nothing does."""
    note: str = ""
    reference: str = ""


def elapsed(work: Callable[[], object]) -> Measurement:
    """A measurement of the seconds that some work takes."""

    def measure() -> float:
        began = time.perf_counter()
        work()
        return time.perf_counter() - began

    return measure


def interleave(
    cases: Sequence[Case], budget: float, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
) -> list[Figure]:
    """Warm up every case, then run rounds of all of them until the budget of seconds is used; at least one round.

    Building and warming up come on top. The first cases are the important ones: a case is left out, and its figure
    says so, where one round of it and of those before it is expected to take more than the budget.
    """
    ready: list[tuple[Case, Measurement]] = []
    left_out: dict[str, str] = {}
    cost: dict[str, float] = {}
    for case in cases:
        if case.expected and sum(cost.values()) + case.expected > budget:
            left_out[case.name] = f"left out: one round would take about {case.expected:.0f} s"
            continue
        # All before any is called: building networks sets TensorFlow's seed, which throws away what was compiled.
        ready.append((case, case.prepare()))
        cost[case.name] = case.expected
    for case, measure in ready:
        say(f"{case.name}: warming up")
        began = clock()
        measure()
        # A warm-up compiles: the caller knows better what a round will take, where it knows.
        cost[case.name] = case.expected or clock() - began
    values: dict[str, list[float]] = {case.name: [] for case, _ in ready}
    number, spent = 0, 0.0
    while True:
        due = [(case, measure) for case, measure in ready if number < case.rounds]
        if not due or (number and spent + sum(cost[case.name] for case, _ in due) > budget):
            break
        for case, measure in due:
            began = clock()
            values[case.name].append(measure())
            cost[case.name] = clock() - began
            spent += cost[case.name]
        number += 1
        say(f"round {number}: " + ", ".join(f"{case.name} {values[case.name][-1]:.4g} {case.unit}" for case, _ in due))
    return [
        Figure(
            name=case.name,
            unit=case.unit,
            rounds=values.get(case.name, ()),
            note=left_out.get(case.name, case.note),
            reference=case.reference,
        )
        for case in cases
    ]
