"""Measure several cases in interleaved rounds within a time limit, so that a slower machine affects all cases."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.benchmarks.figures import Figure

__all__ = ["Case", "elapsed", "interleave"]

MOST_ROUNDS = 9
"""Default for `Case.rounds`. More rounds change the median less than the speed of the machine changes."""

Measurement = Callable[[], float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One piece of work to measure repeatedly."""

    name: str
    prepare: Callable[[], Measurement]
    """Function that builds the case and returns its measurement. The first call of the measurement is a warm-up."""
    unit: str = "s"
    rounds: int = MOST_ROUNDS
    """Largest number of rounds."""
    expected: float = 0.0
    """Expected seconds of a round; 0 if unknown."""
    note: str = ""
    reference: str = ""


def elapsed(work: Callable[[], object]) -> Measurement:
    """Return a measurement of some work, in seconds."""

    def measure() -> float:
        began = time.perf_counter()
        work()
        return time.perf_counter() - began

    return measure


def interleave(
    cases: Sequence[Case], budget: float, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
) -> list[Figure]:
    """Warm up every case, then run rounds of all cases until the budget is used, at least one round.

    A case is left out, with a note in its figure, if one round of it and all cases before it would take more than the
    budget. So the most important cases must come first.

    Args:
        cases: cases in order of importance.
        budget: seconds for the rounds, without building and warm-up.
        say: function that prints progress.
        clock: function that returns seconds.
    """
    ready: list[tuple[Case, Measurement]] = []
    left_out: dict[str, str] = {}
    cost: dict[str, float] = {}
    for case in cases:
        if case.expected and sum(cost.values()) + case.expected > budget:
            left_out[case.name] = f"left out: one round would take about {case.expected:.0f} s"
            continue
        # Build all cases before any call: building networks sets TensorFlow's seed, which drops compiled functions.
        ready.append((case, case.prepare()))
        cost[case.name] = case.expected
    for case, measure in ready:
        say(f"{case.name}: warming up")
        began = clock()
        measure()
        # The warm-up includes compilation, so prefer the expected time from the caller.
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
