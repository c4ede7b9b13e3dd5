"""Run all benchmarks: `python -m tests.benchmarks [--quick] [--only step,...] [--out results.json]`.

Sections run one after another, each in a separate process with a separate time budget. The module of a section
describes what it measures.
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
"""Seconds for the rounds of one filter set by batch size, without building and compiling."""
STEP_BUDGETS_2D = {8: 30.0, 32: 45.0}
"""The same for `conv2d`."""
# Seconds for the rounds of the other sections.
BUDGETS = {"generation": 30.0, "generation2d": 20.0, "inputs": 20.0, "allreduce": 60.0, "startup": 40.0, "weak": 65.0}
ON_DEMAND = {"losses": 1200.0}
"""Sections that run only with --only, with their budgets in seconds."""
SECTIONS = ("step", "conv2d", *BUDGETS, *ON_DEMAND)
QUICK = 0.4
"""Fraction of each budget that --quick uses."""
LIMIT = 13.5 * 60
"""Time limit of a whole run in seconds. After slow sections, the remaining ones get less time."""
LAST_START = 100.0
"""Seconds before the end of a run in which no section may start."""
BUILDING = 45.0
"""Seconds of a section in addition to its rounds: start of TensorFlow, compilation, first round."""


def jobs(only: Sequence[str], quick: bool) -> list[Job]:
    """Return the jobs of a run in order. The largest batches come last, since the time may run out before them."""
    share = QUICK if quick else 1.0
    steps = [
        Job(section="step", filters=filters, batch=batch, budget=share * budget, quick=quick)
        for batch, budget in STEP_BUDGETS.items()
        for filters in ("original", "16")
        if not quick or (batch == 8 and filters == "original")
    ]
    others = [Job(section=name, budget=share * budget, quick=quick) for name, budget in BUDGETS.items()]
    demanded = [Job(section=name, budget=budget, quick=quick) for name, budget in ON_DEMAND.items() if name in only]
    steps += [
        Job(section="conv2d", filters="64", batch=batch, budget=share * budget, quick=quick)
        for batch, budget in STEP_BUDGETS_2D.items()
        if not quick or batch == 8
    ]
    largest = max(STEP_BUDGETS)
    steps, last = ([job for job in steps if (job.batch == largest) == late] for late in (False, True))
    return [job for job in [*steps, *others, *last, *demanded] if not only or job.section in only]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="few rounds of batch 8, original filters only: two minutes (default: all)"
    )
    parser.add_argument(
        "--only", default="", help=f"sections, separated by commas: {', '.join(SECTIONS)} (default: all but losses)"
    )
    parser.add_argument("--out", type=Path, help="JSON file for all figures (default: bench-MACHINE.json)")
    options = parser.parse_args(arguments)
    only = [name for name in options.only.split(",") if name]
    unknown = sorted(set(only) - set(SECTIONS))
    if unknown:
        parser.error(f"--only has unknown sections {', '.join(unknown)}; expected some of {', '.join(SECTIONS)}")
    machine = describe_machine()
    out = options.out or Path(f"bench-{machine_name(machine)}.json")
    results, failed = measure_all(jobs(only, options.quick), machine)
    report(results)
    write_results(out, results, judge(results))
    print(f"\nWrote all rounds to {out}")
    for title, reason in failed.items():
        print(f"Error: no figures for {title}: {reason}", file=sys.stderr)
    return 1 if failed else 0


def measure_all(todo: Sequence[Job], machine: dict[str, object]) -> tuple[Results, dict[str, str]]:
    """Run every job. Return the figures, and the reasons of failed jobs by their titles."""
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
            failed[job.title] = f"the run reached its {LIMIT:.0f} s before; give --only {job.section}"
            continue
        share = share_of_time(todo[number - 1 :], left)
        try:
            measured = run_job(replace(job, budget=share * job.budget, expected=expected.get(job.filters, 0.0)))
        except RuntimeError as error:
            failed[job.title] = str(error)
            measured = []
        figures += measured
        seconds[job.title] = round(time.monotonic() - started, 1)
        ours = next((figure.median for figure in measured if figure.name.endswith("/ours-fp32")), None)
        if ours:
            expected[job.filters] = ours / job.batch
    return Results(machine=machine, figures=figures, seconds=seconds), failed


def share_of_time(todo: Sequence[Job], left: float) -> float:
    """Return the factor, 0.1 to 1, by which the budgets of the remaining jobs fit into `left` seconds."""
    budgets = sum(job.budget for job in todo)
    return min(1.0, max(0.1, (left - BUILDING * len(todo)) / budgets))


def report(results: Results) -> None:
    """Print the tables."""
    # Count operations only after the last measurement, because this loads TensorFlow.
    start_tensorflow()
    from gan.models.conv3d import CONV3D
    from tests.benchmarks.limit import step_flops

    print(head(results.machine))
    if any(figure.name.startswith("step/") for figure in results.figures):
        print("\n" + steps_table(results, {name: step_flops(CONV3D.filter_set(name)) for name in ("original", "16")}))
    print("\n" + figures_table(results.figures))
    print("\n" + goals_table(judge(results)))
    print(f"\nThe run took {sum(results.seconds.values()):.0f} s")


if __name__ == "__main__":
    sys.exit(main())
