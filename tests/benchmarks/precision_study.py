"""Compare trainings in BF16 and FP32: `python -m tests.benchmarks.precision_study`, at most an hour on two cores.

Every seed is trained in every precision on the same simulated showers, with the same initial weights, order of events
and noise. The number of steps follows from the available time and the measured time of a step. The plan and every
complete training are saved, so the same command continues after an interruption. `precision_comparison` computes the
conclusion. `gan.precision.arithmetic` emulates BF16 on a processor without BF16 instructions.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gan.data.energies import draw_energies
from gan.data.feeding import Part
from gan.physics.formulas import profiles, sampling_fraction
from gan.simulation.gflash import simulate
from scaling.records.saving import save_text
from tests.benchmarks.precision_comparison import BASE, Cell, curve, differences, draw, shape_distance, table, verdict

__all__ = ["Data", "Plan", "main", "run_cell", "steps_for"]

RESULTS = Path(__file__).resolve().parent / "results"
FILTERS = "original"
BATCH = 8
DATA_SEED = 20
ENERGIES = (10.0, 500.0)
"""Range of primary energies in GeV, as in a training."""
BINS = np.linspace(*ENERGIES, 6)
"""Edges of the energy bins in GeV."""
MARGIN = 0.85
"""Fraction of the time to use in the plan, because a shared machine may become slower after the measurement."""
FEWEST_STEPS = 20
"""Smallest number of steps of a useful training."""
TIMED_STEPS = 4
"""Number of steps that are timed for the plan."""


@dataclass(frozen=True, slots=True)
class Data:
    """Simulated showers, (n, 25, 25, 25) in GeV, and their energies in GeV."""

    cells: np.ndarray
    energies: np.ndarray

    @classmethod
    def simulated(cls, events: int, first: int) -> Data:
        energies = draw_energies(
            events, seed=DATA_SEED, first_event=first, energy_min=ENERGIES[0], energy_max=ENERGIES[1]
        )
        return cls(simulate(energies, seed=DATA_SEED, first_event=first), energies.astype(np.float32))


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Values that are the same for all cells. An interrupted study continues with them."""

    steps: int
    seeds: list[int]
    precisions: list[str]
    events: int
    held_out: int
    seconds_per_step: dict[str, float]
    """Measured seconds per step, by precision."""


def steps_for(minutes: float, seeds: int, step: Sequence[float], start: Sequence[float]) -> int:
    """Return the number of steps of each training, so that all trainings together take the given time.

    Args:
        minutes: time for all trainings.
        seeds: number of seeds.
        step: seconds of a step in each precision.
        start: seconds to build and compile in each precision.

    Raises:
        SystemExit: the time is too short for FEWEST_STEPS steps.
    """
    steps = int((MARGIN * 60 * minutes / seeds - sum(start)) / sum(step))
    if steps < FEWEST_STEPS:
        needed = seeds * (sum(start) + FEWEST_STEPS * sum(step)) / MARGIN / 60
        raise SystemExit(
            f"--minutes {minutes:g} allows {max(steps, 0)} steps per training; expected at least {FEWEST_STEPS}. "
            f"Give --minutes {np.ceil(needed):.0f} or more"
        )
    return steps


class Trainer:
    """The training of one cell, step by step."""

    def __init__(self, seed: int, precision: str, data: Data) -> None:
        import keras
        import tensorflow as tf

        from gan.parallel import Alone
        from gan.settings import TrainingSettings
        from gan.training.networks import Networks
        from gan.training.step import TrainingStep

        keras.backend.clear_session()
        self._settings = TrainingSettings(filters=FILTERS, batch_size=BATCH, precision=precision, seed=seed)
        self._networks = Networks(self._settings, Alone())
        self._step = TrainingStep(self._networks, self._settings, Alone())
        self._data = data
        self._generate = tf.function(lambda latent: self._networks.generator(latent, training=False))

    def steps(self, number: int) -> Iterator[np.ndarray]:
        """Train and yield the losses of each step, as in `StepResult`."""
        from gan.ops.draws import position

        events = np.arange(len(self._data.cells))
        part = Part(train=events, batch_size=BATCH, rank=0, size=1, seed=self._settings.seed)
        for count in range(number):
            epoch, step = divmod(count, part.steps)
            batch = part.batches(epoch)[step]
            cells, energies = self._data.cells[batch], self._data.energies[batch]
            yield self._step(cells, energies, position(epoch, step), self._settings.learning_rate).losses

    def showers(self, energies: np.ndarray) -> np.ndarray:
        """Return generated cells (n, 25, 25, 25) for energies in GeV, with the same noise in every precision."""
        noise = np.random.default_rng([self._settings.seed, 2]).standard_normal((len(energies), 200))
        latent = (noise * energies[:, np.newaxis] / 100).astype(np.float32)
        size = min(32, len(energies))
        parts = [self._generate(latent[start : start + size]).numpy() for start in range(0, len(latent), size)]
        return np.concatenate(parts)[..., 0]


def shapes(cells: np.ndarray, energies: np.ndarray) -> tuple[list[list[float]], list[float]]:
    """Return the profiles of all showers along x, y and z, each with sum 1, and the sampling fraction in BINS."""
    whole = [profile.sum(axis=0) for profile in profiles(cells)]
    bins = np.clip(np.digitize(energies, BINS) - 1, 0, len(BINS) - 2)
    fractions = sampling_fraction(cells, energies)
    return [(each / max(each.sum(), 1e-30)).tolist() for each in whole], [
        float(fractions[bins == number].mean()) if (bins == number).any() else float("nan")
        for number in range(len(BINS) - 1)
    ]


def run_cell(seed: int, precision: str, steps: int, train: Data, held_out: Data) -> Cell:
    """Train one seed in one precision and compute the figures of its losses and showers."""
    trainer = Trainer(seed, precision, train)
    rows: list[list[float]] = []
    began = time.perf_counter()
    for losses in trainer.steps(steps):
        began = time.perf_counter() if not rows else began
        rows.append([losses[:2, 0].mean(), losses[2:, 0].mean()])
    seconds = (time.perf_counter() - began) / max(1, steps - 1)
    fakes = trainer.showers(held_out.energies)
    (generated, fractions), (expected, _) = shapes(fakes, held_out.energies), shapes(held_out.cells, held_out.energies)
    last = np.log(rows[-max(1, steps // 4) :]).mean(axis=0)
    fraction, of_simulation = (sampling_fraction(cells, held_out.energies).mean() for cells in (fakes, held_out.cells))
    return Cell(
        seed=seed,
        precision=precision,
        losses=np.array(rows).tolist(),
        profiles=generated,
        fractions=fractions,
        figures={
            "discriminator_loss": float(last[0]),
            "generator_loss": float(last[1]),
            "shape_error": shape_distance(generated, expected),
            # Use the logarithm, because a generator at the beginning of its training may be wrong by a factor of
            # hundreds.
            "fraction_error": abs(math.log(max(float(fraction / of_simulation), 1e-6))),
        },
        seconds_per_step=seconds,
    )


def make_plan(minutes: float, seeds: int, precisions: list[str], events: int, held_out: int, quick: bool) -> Plan:
    """Measure a few steps in each precision, and choose the number of steps of all trainings."""
    data = Data.simulated(BATCH, 0)
    step, start = [], []
    for precision in precisions:
        began = time.perf_counter()
        taken = []
        for _ in Trainer(0, precision, data).steps(1 + TIMED_STEPS):
            taken.append(time.perf_counter())
        step.append(float(np.median(np.diff(taken))))
        start.append(taken[0] - began)
        print(f"{precision}: {start[-1]:.0f} s to start, {step[-1]:.2f} s per step", flush=True)
    return Plan(
        steps=3 if quick else steps_for(minutes, seeds, step, start),
        seeds=list(range(1, seeds + 1)),
        precisions=precisions,
        events=events,
        held_out=held_out,
        seconds_per_step=dict(zip(precisions, step, strict=True)),
    )


def report(plan: Plan, cells: Sequence[Cell], held_out: Data, out: Path) -> str:
    """Write precision.json, precision.md and precision.png, and return the verdict."""
    from gan.precision.formats import describe

    expected, fractions = shapes(held_out.cells, held_out.energies)
    conclusion, middle = verdict(cells), ((BINS[1:] + BINS[:-1]) / 2).tolist()
    out.mkdir(parents=True, exist_ok=True)
    content = {
        "filters": FILTERS, "batch_size": BATCH, **asdict(plan),
        "computed": {kind: describe(kind)["computed"] for kind in plan.precisions},
        "simulation": {"profiles": expected, "energies_GeV": middle, "sampling_fraction": fractions},
        "cells": [{**asdict(cell), "losses": curve(cell.losses).tolist()} for cell in cells],
        "first_steps": [{"seed": cell.seed, "precision": cell.precision, "losses": cell.losses[:5]} for cell in cells],
        "differences": [{**asdict(each), "mean": each.mean} for each in differences(cells)],
        "verdict": conclusion,
    }  # fmt: skip
    save_text(out / "precision.json", json.dumps(content, indent=1) + "\n")
    head = (
        f"Each of {len(plan.seeds)} seeds was trained in {', '.join(plan.precisions)}: {plan.steps} steps of batch "
        f"{BATCH} with the original filters on {plan.events} simulated showers. Showers were generated for "
        f"{plan.held_out} held-out energies. Losses are means of their logarithm over the last quarter of the steps, "
        "since the loss of a single step can be a hundred times the others'. The study covers the beginning of a "
        "training, not its end."
    )
    computed = "\n".join(f"- {kind}: {how}" for kind, how in content["computed"].items())
    text = f"# FP32 and BF16\n\n{conclusion}\n\n{head}\n\n{computed}\n\n{table(cells)}\n"
    save_text(out / "precision.md", text)
    draw(cells, expected, fractions, middle, out / "precision.png")
    return conclusion


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def main(arguments: Sequence[str] | None = None) -> None:
    from gan.settings import PRECISIONS

    about = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.precision_study", description=about)
    parser.add_argument("--minutes", type=float, default=55.0, help="minutes for all trainings together (default: 55)")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds, at least 2 (default: 3)")
    parser.add_argument(
        "--precisions",
        nargs="+",
        choices=PRECISIONS,
        default=list(PRECISIONS),
        help=f"{BASE} and others (default: all)",
    )
    parser.add_argument("--quick", action="store_true", help="train three steps only, as a trial (default: off)")
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("build/precision-study"),
        help="folder for complete trainings (default: %(default)s)",
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.seeds < 2 or BASE not in options.precisions or len(options.precisions) < 2:
        parser.error(
            f"--seeds is {options.seeds} and --precisions {' '.join(options.precisions)}; expected at least two seeds, "
            f"and {BASE} with another precision"
        )
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    options.work.mkdir(parents=True, exist_ok=True)
    planned = options.work / "plan.json"
    if not planned.exists():
        events, held_out = (16, 8) if options.quick else (512, 256)
        made = make_plan(options.minutes, options.seeds, options.precisions, events, held_out, options.quick)
        save_text(planned, json.dumps(asdict(made)))
    plan = Plan(**_read(planned))
    if (len(plan.seeds), plan.precisions) != (options.seeds, options.precisions):
        other = f"{len(plan.seeds)} seeds in {', '.join(plan.precisions)}"
        parser.error(f"--work {options.work} holds a study of {other}: remove it, or give another --work")
    train, test = Data.simulated(plan.events, 0), Data.simulated(plan.held_out, plan.events)
    cells = []
    for seed in plan.seeds:
        for precision in plan.precisions:
            kept = options.work / f"{precision}-{seed}.json"
            if not kept.exists():
                print(f"seed {seed}, {precision}: {plan.steps} steps", flush=True)
                save_text(kept, json.dumps(asdict(run_cell(seed, precision, plan.steps, train, test))))
            cells.append(Cell(**_read(kept)))
    print(report(plan, cells, test, options.out))


if __name__ == "__main__":
    main()
