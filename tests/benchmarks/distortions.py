"""Measure which figure of the evaluation sees which distortion of the showers, and print a table in Markdown.

    python -m tests.benchmarks.distortions --events 4000

A value is the distance from the ideal value divided by that of the floor, as in `python -m gan evaluate`. Values above
SEEN are bold. The table is in docs/physics.md.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
import pandas as pd

from gan.evaluation.comparing import compare
from gan.evaluation.report import SUMMARY
from gan.evaluation.samples import BATCH, Sample, collect_sample
from gan.physics.metrics.bins import ALL
from gan.simulation.gflash import simulate
from tests.support.distortions import DISTORTIONS, Cells

__all__ = ["measure"]

SEEN = 3.0
"""Times the floor from which a figure sees a distortion."""


def measure(events: int, *, classifier: bool = True, seed: int = 1) -> pd.DataFrame:
    """Return times the floor, with a row for each figure of the summary and a column for each distortion.

    Args:
        events: number of events of the reference and of the distorted sample, with uniform energies of 10 to 500 GeV.
        classifier: whether to train the classifiers, which take most of the time.
        seed: seed of the reference. The sample has the next one.
    """
    energies = np.linspace(10.0, 500.0, events)
    reference = _sample("simulation", simulate(energies, seed=seed), energies)
    other = simulate(energies, seed=seed + 1)
    columns = {}
    for name, distort in {"none": lambda cells, _: cells, **DISTORTIONS}.items():
        sample = _sample(name, np.asarray(distort(other, energies), dtype=np.float32), energies)
        table = compare(reference, [sample], classifier=classifier).table
        columns[name] = table[table["bin"] == ALL].set_index("figure")["ratio"]
        print(f"{name}: done", file=sys.stderr, flush=True)
    result = pd.DataFrame(columns)
    return result.loc[[figure for figure in SUMMARY if figure in result.index]]


def _sample(name: str, cells: Cells, energies: np.ndarray) -> Sample:
    parts = [slice(start, start + BATCH) for start in range(0, len(cells), BATCH)]
    return collect_sample(name, "simulation", ((cells[part], energies[part]) for part in parts), len(cells))


def _markdown(table: pd.DataFrame) -> str:
    def text(value: float) -> str:
        shown = f"{value:.1f}" if value < 10 else f"{value:,.0f}"
        return "-" if not np.isfinite(value) else f"**{shown}**" if value > SEEN else shown

    lines = ["| figure | " + " | ".join(table.columns) + " |", "|---" * (len(table.columns) + 1) + "|"]
    lines += [f"| {figure} | " + " | ".join(map(text, row)) + " |" for figure, row in table.iterrows()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--events", type=int, default=4000, help="events of each sample (default: 4000)")
    parser.add_argument("--no-classifier", action="store_true", help="leave out the classifiers")
    options = parser.parse_args()
    print(_markdown(measure(options.events, classifier=not options.no_classifier)))


if __name__ == "__main__":
    main()
