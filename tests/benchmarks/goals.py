"""Goals for the project's speed, and the check whether a run meets them.

Everything here is computed from the figures, without side effects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.benchmarks.figures import Results

__all__ = ["GOALS", "Goal", "judge"]

STEP = "step/original/8"
NO_BF16 = "this processor has no BF16 instructions"


@dataclass(frozen=True, kw_only=True, slots=True)
class Goal:
    """A limit for one figure or several."""

    what: str
    """Description of the quantity with the limit."""
    goal: str
    """The limit as text."""
    values: Callable[[Results], Sequence[float | None]]
    """Function that returns the values, None for a missing one. The worst value decides."""
    limit: float
    at_least: bool
    """Whether `limit` is a minimum; otherwise it is a maximum."""
    format: str
    """Format of a measured value."""
    needs_bf16: bool = False
    """Whether only a processor with BF16 instructions can meet the goal."""
    missing: str = ""
    """Advice if figures are missing."""

    def row(self, results: Results) -> dict[str, Any]:
        """Return the goal with `measured`, `state` (met, not met, not measured, not measurable here) and `why`."""
        row: dict[str, Any] = {"what": self.what, "goal": self.goal, "measured": "", "why": ""}
        if self.needs_bf16 and not results.machine["native_bf16"]:
            return row | {"state": "not measurable here", "why": NO_BF16}
        values = [value for value in self.values(results) if value is not None]
        if not values:
            return row | {"state": "not measured", "why": self.missing}
        worst = min(values) if self.at_least else max(values)
        met = worst >= self.limit if self.at_least else worst <= self.limit
        return row | {"measured": self.format.format(worst), "state": "met" if met else "not met"}


def ratio(results: Results, numerator: str, denominator: str) -> float | None:
    """Return one figure's median divided by another's, or None if one of them is missing."""
    above, below = results.median(numerator), results.median(denominator)
    return None if above is None or not below else above / below


def of_step(numerator: str, denominator: str) -> Callable[[Results], list[float | None]]:
    return lambda results: [ratio(results, f"{STEP}/{numerator}", f"{STEP}/{denominator}")]


def median_of(*names: str) -> Callable[[Results], list[float | None]]:
    return lambda results: [results.median(name) for name in names]


def exchange(results: Results) -> list[float | None]:
    """Return the time of the default communicator divided by the time of a plain MPI_Allreduce."""
    return [ratio(results, "allreduce/2/generator/horovod", "allreduce/2/generator/plain")]


def first_steps(results: Results) -> list[float | None]:
    """Return the largest difference between our losses and the plain loop's, divided by the effect of one rounding.

    This effect is the difference between two plain loops whose initial weights differ by one rounding.
    """
    ours, rounded = (results.get(f"losses/first-steps/{name}") for name in ("ours", "rounded"))
    return [max(ours.rounds) / max(rounded.rounds)] if ours and rounded else []


GOALS = (
    Goal(
        what="BF16 step over the plain fp32 Keras loop, original filters",
        goal=">= 5x", limit=5, at_least=True, format="{:.2f}x", needs_bf16=True,
        values=of_step("keras-fp32", "ours-bf16"),
    ),
    Goal(
        what="fp32 step over the plain fp32 Keras loop, original filters",
        goal=">= 1.5x", limit=1.5, at_least=True, format="{:.2f}x",
        values=of_step("keras-fp32", "ours-fp32"),
    ),
    Goal(
        what="fp32 step of conv2d over the plain fp32 Keras loop, batch 8",
        goal=">= 1.5x", limit=1.5, at_least=True, format="{:.2f}x",
        values=lambda results: [ratio(results, "conv2d/8/keras-fp32", "conv2d/8/ours-fp32")],
    ),
    Goal(
        what="fp32 step time over the sum of its convolutions alone",
        goal="<= 1.2", limit=1.2, at_least=False, format="{:.2f}",
        values=of_step("ours-fp32", "limit-fp32"),
    ),
    Goal(
        what="BF16 step time over the sum of its convolutions alone",
        goal="<= 1.2", limit=1.2, at_least=False, format="{:.2f}", needs_bf16=True,
        values=of_step("ours-bf16", "limit-bf16"),
    ),
    Goal(
        what="difference of the first 5 steps' losses from the plain loop's, over the effect of one rounding",
        goal="<= 2x", limit=2, at_least=False, format="{:.2f}x", values=first_steps,
        missing="runs only with --only losses",
    ),
    Goal(
        what="difference of the mean losses up to step 200 from the plain loop's",
        goal="<= 3 sigma", limit=3, at_least=False, format="{:.1f} sigma",
        values=lambda results: list(figure.rounds) if (figure := results.get("losses/means")) else [],
        missing="runs only with --only losses",
    ),
    Goal(
        what="time waiting for input, 2 ranks, file not in the page cache",
        goal="< 1%", limit=1, at_least=False, format="{:.2f}%",
        values=median_of("weak/fp32/input", "weak/bf16/input"),
    ),
    Goal(
        what="exposed communication, 2 ranks on 2 cores",
        goal="< 3%", limit=3, at_least=False, format="{:.1f}%",
        values=median_of("weak/fp32/communication", "weak/bf16/communication"),
    ),
    Goal(
        what="gradient exchange of a generator update over plain MPI_Allreduce, 2 ranks",
        goal="<= 1.3x", limit=1.3, at_least=False, format="{:.2f}x", values=exchange,
    ),
    Goal(
        what="weak scaling, 2 ranks on two cores over 1 rank on one core",
        goal=">= 1.9x", limit=1.9, at_least=True, format="{:.2f}x",
        values=median_of("weak/fp32/ratio", "weak/bf16/ratio"),
    ),
    Goal(
        what="memory of a worker above TensorFlow's own, batch 8",
        goal="<= 1 GB", limit=1024, at_least=False, format="{:.0f} MB",
        values=median_of("memory/original", "memory/16"),
    ),
    Goal(
        what="launcher plan", goal="<= 0.3 s", limit=0.3, at_least=False, format="{:.2f} s",
        values=median_of("startup/plan"),
    ),
    Goal(
        what="TensorFlow, MPI and pandas imported by launcher plan",
        goal="none", limit=0, at_least=False, format="{:.0f}",
        values=median_of("startup/plan-heavy"),
    ),
    Goal(
        what="generation, BF16, batch 128", goal="<= 0.5 ms/shower", limit=0.5, at_least=False,
        format="{:.2f} ms/shower", needs_bf16=True, values=median_of("generation/original/128/bf16"),
    ),
)  # fmt: skip
"""Goals for a machine of 2 cores with AMX. Most are ratios within one run, so they are also valid for other speeds."""


def judge(results: Results, goals: Sequence[Goal] = GOALS) -> list[dict[str, Any]]:
    """Return the rows of all goals."""
    return [goal.row(results) for goal in goals]
