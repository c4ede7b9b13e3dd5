"""All benchmarks in one run: `python -m tests.benchmarks [--quick] [--only step,...] [--out results.json]`.

Sections run one after the other, each in its own process and time; what they measure is told in their modules.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tests.benchmarks.figures import Figure, Results, describe_machine, machine_name, write_results
from tests.benchmarks.goals import judge
from tests.benchmarks.process import Job, run_job, start_tensorflow
from tests.benchmarks.table import figures_table, goals_table, head, steps_table

__all__ = ["jobs", "main"]

STEP_BUDGETS = {8: 30.0, 32: 45.0, 128: 70.0}
"""Seconds for the rounds of one filter set, by batch size; building and compiling come on top."""
BUDGETS = {"generation": 30.0, "inputs": 20.0, "allreduce": 60.0, "startup": 40.0, "weak": 65.0}
ON_DEMAND = {"losses": 1200.0}
SECTIONS = ("step", *BUDGETS, *ON_DEMAND)
QUICK = 0.4
LIMIT = 13.5 * 60
LAST_START = 100.0
"""Seconds that a whole run may take; sections get less time where those before took more, and those that would begin
within the last 100 seconds are left out."""
BUILDING = 45.0
"""Seconds a section takes besides its rounds: TensorFlow's start, compilation, the first round."""


def jobs(only: Sequence[str], quick: bool) -> list[Job]:
    """What is to be measured, in order; the largest batches come last, where the time may not suffice for them."""
    share = QUICK if quick else 1.0
    steps = [
        Job(section="step", filters=filters, batch=batch, budget=share * budget, quick=quick)
        for batch, budget in STEP_BUDGETS.items()
        for filters in ("original", "16")
        if not quick or (batch == 8 and filters == "original")
    ]
    others = [Job(section=name, budget=share * budget, quick=quick) for name, budget in BUDGETS.items()]
    demanded = [Job(section=name, budget=budget, quick=quick) for name, budget in ON_DEMAND.items() if name in only]
    largest = max(STEP_BUDGETS)
    steps, last = ([job for job in steps if (job.batch == largest) == late] for late in (False, True))
    return [job for job in [*steps, *others, *last, *demanded] if not only or job.section in only]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="batch 8, original filters, few rounds: two minutes")
    parser.add_argument("--only", default="", help=f"some sections, with commas: {', '.join(SECTIONS)}")
    parser.add_argument("--out", type=Path, help="the file for all figures (default: the machine's name, here)")
    options = parser.parse_args(arguments)
    only = [name for name in options.only.split(",") if name]
    unknown = sorted(set(only) - set(SECTIONS))
    if unknown:
        parser.error(f"--only has {', '.join(unknown)}; expected some of {', '.join(SECTIONS)}")
    machine = describe_machine()
    out = options.out or Path(f"bench-{machine_name(machine)}.json")
    results, failed = measure_all(jobs(only, options.quick), machine)
    report(results)
    write_results(out, results, judge(results))
    print(f"\nAll rounds are in {out}")
    for title, reason in failed.items():
        print(f"Error: {title} could not be measured: {reason}", file=sys.stderr)
    return 1 if failed else 0


def measure_all(todo: Sequence[Job], machine: dict[str, object]) -> tuple[Results, dict[str, str]]:
    """Run every job; those that fail are named with the reason, and the others go on."""
    figures: list[Figure] = []
    seconds: dict[str, float] = {}
    failed: dict[str, str] = {}
    expected: dict[str, float] = {}
    began = time.monotonic()
    for number, job in enumerate(todo, start=1):
        started = time.monotonic()
        print(f"[{started - began:4.0f} s] {job.title}, {number} of {len(todo)}", file=sys.stderr, flush=True)
        left = LIMIT - (started - began)
        if left < LAST_START and job.section not in ON_DEMAND:
            failed[job.title] = f"left out: the {LIMIT:.0f} s of a run were used"
            continue
        share = share_of_time(todo[number - 1 :], left)
        try:
            found = run_job(replace(job, budget=share * job.budget, expected=expected.get(job.filters, 0.0)))
        except RuntimeError as error:
            failed[job.title] = str(error)
            found = []
        figures += found
        seconds[job.title] = round(time.monotonic() - started, 1)
        ours = next((figure.median for figure in found if figure.name.endswith("/ours-fp32")), None)
        if ours:
            expected[job.filters] = ours / job.batch
    return Results(machine=machine, figures=figures, seconds=seconds), failed


def share_of_time(todo: Sequence[Job], left: float) -> float:
    """By how much the budgets of what is still to be measured have to shrink to fit into the seconds left."""
    budgets = sum(job.budget for job in todo)
    return min(1.0, max(0.1, (left - BUILDING * len(todo)) / budgets))


def report(results: Results) -> None:
    """Print the tables."""
    # Counting operations loads TensorFlow, which is not to happen before the last measurement.
    start_tensorflow()
    from gan.models.conv3d import CONV3D
    from tests.benchmarks.limit import step_flops

    print(head(results.machine))
    if any(figure.name.startswith("step/") for figure in results.figures):
        print("\n" + steps_table(results, {name: step_flops(CONV3D.filter_set(name)) for name in ("original", "16")}))
    print("\n" + figures_table(results.figures))
    print("\n" + goals_table(judge(results)))
    print(f"\n{sum(results.seconds.values()):.0f} s in all")


if __name__ == "__main__":
    sys.exit(main())
