"""Train many variants and compare their showers: `python -m tests.benchmarks.quality_study recipes` or `workers`.

`recipes` changes one setting of the default recipe at a time. `workers` trains with different numbers of virtual
workers, rules for the learning rate and warm-ups, all with the same number of events. Every training is a normal run of
the launcher in its own folder, so the same command continues after an interruption. The table has the figures of the
last validation: medians over the seeds, and the range.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from scaling.records import RecordError, read_run

__all__ = ["RECIPES", "Variant", "figures", "main", "rows", "workers_study"]

VALIDATION = 0.1
DATA_SEED = 21

Figures = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Variant:
    """One kind of training in a study."""

    name: str
    """Description for the table, and name of the folder."""
    options: Sequence[str]
    """Options of the launcher."""


RECIPES = tuple(
    Variant(name, options.split())
    for name, options in {
        "stampede2": "--recipe stampede2",
        "stampede2, original filters": "--recipe stampede2 --filters original",
        "default": "--filters original",
        "without shape term": "--filters original --shape-weight 0",
        "without discriminator": "--filters original --loss-weights 0,0,0.1",
        "without energy bound": "--filters original --energy-bound 0",
        "noise times energy as input": "--filters original --latent product --energy-bound 0",
        "without input noise": "--filters original --input-noise 0",
        "faint cells visible": "--filters original --faint-cells 0",
        "ReLU at the end": "--filters original --last-activation relu",
        "cells in GeV": "--filters original --cell-scale gev --cell-power 1",
        "RMSprop": "--filters original --optimizer rmsprop",
        "constant learning rate": "--filters original --lr-schedule constant",
        "as fast a discriminator": "--filters original --discriminator-rate 1",
        "one generator step": "--filters original --generator-steps 1",
        "without average": "--filters original --average 0",
        "batch of 64": "--filters original --batch-size 64",
    }.items()
)


def workers_study(numbers: Sequence[int], rules: Sequence[str], warmups: Sequence[int]) -> Iterator[Variant]:
    """Yield the variants of the study of virtual workers."""
    for rule in rules:
        for warmup in warmups:
            for number in numbers:
                options = f"--virtual-workers {number} --lr-scaling {rule} --warmup-epochs {warmup}"
                yield Variant(f"{number} workers, {rule}, warm-up {warmup}", options.split())


_COLUMNS: Mapping[str, Callable[[Figures], float]] = {
    "shower distance": lambda f: f["shower_distance"],
    "L1 x": lambda f: f["profile_l1_x"],
    "L1 y": lambda f: f["profile_l1_y"],
    "L1 z": lambda f: f["profile_l1_z"],
    "energy, worst bin": lambda f: max(
        abs(value) for name, value in f.items() if name.startswith("sampling_fraction_error/")
    ),
    "active cells": lambda f: f["active_cells"] / f["active_cells_real"],
    "hits": lambda f: f["hits"] / f["hits_real"],
    "widths, worst": lambda f: max(abs(f[f"width_error_{axis}"]) for axis in "xyz"),
}


def figures(run: Path) -> dict[str, float]:
    """Return the figures of a complete run by column, and `dead`: 1 if an alarm said that the generator died.

    Raises:
        RecordError: the run has no readable record.
    """
    record = read_run(run)
    last = record.epochs[-1].validation
    dead = any("dead generator" in warning for epoch in record.epochs for warning in epoch.warnings)
    return {"dead": float(dead), **{name: value(last) for name, value in _COLUMNS.items()}}


def rows(results: Mapping[str, Sequence[Figures]]) -> list[dict[str, str]]:
    """Return the rows of the table: each figure as the median over the seeds, with its range if there are several."""
    table = []
    for name, runs in results.items():
        row = {"variant": name, "died": f"{sum(int(run['dead']) for run in runs)} of {len(runs)}"}
        for column in _COLUMNS:
            values = [run[column] for run in runs]
            row[column] = f"{statistics.median(values):.2f}"
            if len(values) > 1:
                row[column] += f" ({min(values):.2f}-{max(values):.2f})"
        table.append(row)
    return table


def _complete(run: Path) -> bool:
    try:
        return read_run(run).complete
    except RecordError:
        return False


def _train(variant: Variant, run: Path, arguments: argparse.Namespace, seed: int) -> None:
    launcher = [sys.executable, "-m", "launcher", "--data", str(arguments.out / "data" / "*.h5"), "--out", str(run)]
    common = ["--model", arguments.model, "--precision", arguments.precision, "--epochs", str(arguments.epochs)]
    common += ["--seed", str(seed), "--bind", "none", "--no-stop-when-dead"]
    mpirun = ["mpirun", "-np", str(arguments.ranks)] if arguments.ranks > 1 else []
    subprocess.run([*mpirun, *launcher, *common, *variant.options], check=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a study and print its table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.quality_study", description=__doc__)
    parser.add_argument("study", choices=("recipes", "workers"))
    parser.add_argument("--out", type=Path, default=Path("quality"), help="folder for showers and runs (%(default)s)")
    parser.add_argument("--model", default="conv3d", help="architecture (%(default)s)")
    parser.add_argument("--precision", default="fp32", help="number format (%(default)s)")
    parser.add_argument("--events", type=int, default=2800, help="showers to simulate (%(default)s)")
    parser.add_argument("--epochs", type=int, default=4, help="epochs over these showers (%(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="seeds (%(default)s)")
    parser.add_argument("--ranks", type=int, default=1, help="ranks of each training (%(default)s)")
    parser.add_argument("--only", nargs="+", default=[], help="names of the variants to train (all)")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 4, 16, 64, 256], help="workers (%(default)s)")
    parser.add_argument("--rules", nargs="+", default=["none", "sqrt", "linear"], help="--lr-scaling (%(default)s)")
    parser.add_argument("--warmups", type=int, nargs="+", default=[0, 1], help="--warmup-epochs (%(default)s)")
    given = parser.parse_args(arguments)
    variants = RECIPES if given.study == "recipes" else workers_study(given.workers, given.rules, given.warmups)
    chosen = [variant for variant in variants if not given.only or variant.name in given.only]
    if not list((given.out / "data").glob("*.h5")):
        simulate = [sys.executable, "-m", "gan", "simulate", "--out", str(given.out / "data")]
        subprocess.run([*simulate, "--events", str(given.events), "--seed", str(DATA_SEED)], check=True)
    results: dict[str, list[Figures]] = {}
    for seed in given.seeds:
        for variant in chosen:
            run = given.out / given.model / variant.name.replace(", ", "-").replace(" ", "-") / f"seed-{seed}"
            if not _complete(run):
                _train(variant, run, given, seed)
            results.setdefault(variant.name, []).append(figures(run))
            print(pd.DataFrame(rows(results)).to_string(index=False), flush=True)


if __name__ == "__main__":
    main()
