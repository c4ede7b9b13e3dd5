"""Compare the trainings of a precision study: paired differences between precisions, and the spread between seeds.

A cell is one training with a seed and a precision. Trainings with the same seed have the same initial weights, data and
noise. So the difference of two precisions is computed for each seed, and Student's t gives an interval for its mean.
Everything except `draw` is computed without side effects; `precision_study` trains and writes files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

__all__ = [
    "BASE",
    "FIGURES",
    "Cell",
    "Difference",
    "curve",
    "differences",
    "draw",
    "shape_distance",
    "table",
    "verdict",
]

BASE = "fp32"
FIGURES = {
    "discriminator_loss": "ln of the discriminator's loss",
    "generator_loss": "ln of the generator's loss",
    "shape_error": "distance of profiles from the simulation's",
    "fraction_error": "|ln| of the sampling fraction over the simulation's",
}
"""Figures of a trained cell. Smaller is better, except for the discriminator's loss."""
LEVEL = 0.95
"""Confidence level of intervals."""
POINTS = 50
"""Number of points of a loss curve. Each point is a mean over its part of the steps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One training and its results."""

    seed: int
    precision: str
    losses: Sequence[Sequence[float]]
    """Losses of every step: the mean of the discriminator's two losses and the mean of the generator's two."""
    profiles: Sequence[Sequence[float]]
    """Profiles along x, y and z of showers with the held-out energies, each with sum 1."""
    fractions: Sequence[float]
    """Sampling fraction in bins of energy."""
    figures: Mapping[str, float]
    """Values by the names in FIGURES."""
    seconds_per_step: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """Difference of one figure between a precision and FP32, for all seeds."""

    precision: str
    figure: str
    values: tuple[float, ...]
    """Difference for each seed."""
    low: float
    """Lower end of the interval for the mean, at LEVEL."""
    high: float
    """Upper end of the interval for the mean, at LEVEL."""
    spread: float
    """Standard deviation of the figure in FP32 over the seeds."""
    base: float
    """Mean of the figure in FP32."""

    @property
    def mean(self) -> float:
        return float(np.mean(self.values))

    @property
    def resolved(self) -> bool:
        """True if the interval excludes 0."""
        return self.low > 0 or self.high < 0


def shape_distance(profiles: Sequence[Sequence[float]], others: Sequence[Sequence[float]]) -> float:
    """Return the fraction of the energy in different cells: 1/2 sum |p - q|, with profiles of sum 1, mean over axes."""
    return float(np.mean(0.5 * np.abs(np.asarray(profiles) - np.asarray(others)).sum(axis=1)))


def curve(losses: Sequence[Sequence[float]]) -> np.ndarray:
    """Return a loss curve as at most POINTS means, (points, 2)."""
    parts = np.array_split(np.asarray(losses), min(POINTS, len(losses)))
    return np.array([part.mean(axis=0) for part in parts])


def differences(cells: Sequence[Cell]) -> list[Difference]:
    """Return the paired differences of every precision and figure, for the seeds that are complete in both.

    Raises:
        ValueError: a precision shares fewer than two seeds with FP32, so there is no spread.
    """
    paired = []
    by_key = {(cell.seed, cell.precision): cell for cell in cells}
    for precision in dict.fromkeys(cell.precision for cell in cells):
        if precision == BASE:
            continue
        seeds = [seed for seed, kind in by_key if kind == precision and (seed, BASE) in by_key]
        if len(seeds) < 2:
            raise ValueError(f"{precision} and {BASE} have {len(seeds)} seeds in common; expected at least 2")
        for figure in FIGURES:
            base, other = (
                np.array([by_key[seed, kind].figures[figure] for seed in seeds]) for kind in (BASE, precision)
            )
            values = other - base
            half = stats.t.ppf(0.5 + LEVEL / 2, len(seeds) - 1) * values.std(ddof=1) / np.sqrt(len(seeds))
            paired.append(
                Difference(
                    precision=precision,
                    figure=figure,
                    values=tuple(values.tolist()),
                    low=float(values.mean() - half),
                    high=float(values.mean() + half),
                    spread=float(base.std(ddof=1)),
                    base=float(base.mean()),
                )
            )
    return paired


def distances(cells: Sequence[Cell], precision: str) -> tuple[float, float]:
    """Return the mean `shape_distance` between FP32 and a precision for one seed, and between two seeds in FP32."""
    base = [cell for cell in cells if cell.precision == BASE]
    other = {cell.seed: cell for cell in cells if cell.precision == precision}
    paired = [shape_distance(cell.profiles, other[cell.seed].profiles) for cell in base if cell.seed in other]
    seeds = [shape_distance(a.profiles, b.profiles) for n, a in enumerate(base) for b in base[:n]]
    return float(np.mean(paired)), float(np.mean(seeds))


def verdict(cells: Sequence[Cell]) -> str:
    """Return the conclusion from the differences: two sentences for each precision."""
    paired = differences(cells)
    steps = len(cells[0].losses)
    sentences = []
    for precision in dict.fromkeys(each.precision for each in paired):
        mine = [each for each in paired if each.precision == precision]
        name, seeds = precision.upper(), len(mine[0].values)
        resolved = [each for each in mine if each.resolved]
        worse = [each for each in resolved if each.mean > 0 and each.figure != "discriminator_loss"]
        if worse:
            lead = f"{name} trains worse than FP32"
        elif resolved:
            lead = f"{name} trains differently from FP32, but not worse"
        else:
            lead = f"{name} trains as well as FP32, as far as this study can show"
        parts = ", ".join(
            f"{FIGURES[each.figure]} {each.mean:+.2g} [{each.low:+.2g}, {each.high:+.2g}]" for each in mine
        )
        apart, between = distances(cells, precision)
        sentences.append(
            f"{lead}: with {seeds} seeds of {steps} steps, {len(resolved)} of {len(mine)} paired differences exclude 0 "
            f"at {LEVEL:.0%} confidence ({parts}). The profiles of one seed in both precisions are {apart:.3f} apart, "
            f"the profiles of two seeds in FP32 {between:.3f}."
        )
    return " ".join(sentences)


def table(cells: Sequence[Cell]) -> str:
    """Return the figures in Markdown: mean and spread over seeds by precision, then the paired differences."""
    kinds = list(dict.fromkeys(cell.precision for cell in cells))
    lines = ["| | " + " | ".join(f"{kind} (spread)" for kind in kinds) + " |", "|---" * (len(kinds) + 1) + "|"]
    for figure, title in FIGURES.items():
        row = [title]
        for kind in kinds:
            values = [cell.figures[figure] for cell in cells if cell.precision == kind]
            row.append(f"{np.mean(values):.4g} ({np.std(values, ddof=1):.2g})")
        lines.append(f"| {' | '.join(row)} |")
    lines += [
        "",
        "| difference from fp32, paired by seed | mean | 95% interval | mean over the spread between seeds |",
        "|---|---|---|---|",
    ]
    for each in differences(cells):
        over = f"{abs(each.mean) / each.spread:.2f}" if each.spread else "-"
        interval = f"{each.low:+.3g} to {each.high:+.3g}"
        lines.append(f"| {each.precision}: {FIGURES[each.figure]} | {each.mean:+.3g} | {interval} | {over} |")
    return "\n".join(lines)


def draw(
    cells: Sequence[Cell],
    profiles: Sequence[Sequence[float]],
    fractions: Sequence[float],
    energies: Sequence[float],
    path: Path,
) -> None:
    """Draw loss curves, profiles and sampling fraction. Bands show the range over seeds.

    Args:
        cells: the trainings.
        profiles: the simulation's profiles along x, y and z, each with sum 1.
        fractions: the simulation's sampling fractions at `energies`.
        energies: energies in GeV.
        path: PNG file to write.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(13, 7), layout="constrained")
    kinds = list(dict.fromkeys(cell.precision for cell in cells))
    steps = len(cells[0].losses)
    for number, kind in enumerate(kinds):
        mine = [cell for cell in cells if cell.precision == kind]
        curves = np.array([curve(cell.losses) for cell in mine])
        at = (np.arange(curves.shape[1]) + 0.5) * steps / curves.shape[1]
        panels = [
            (axes[0, 0], at, curves[..., 0]),
            (axes[0, 1], at, curves[..., 1]),
            (axes[0, 2], np.asarray(energies), np.array([cell.fractions for cell in mine])),
            *((axes[1, n], np.arange(25), np.array([cell.profiles[n] for cell in mine])) for n in range(3)),
        ]
        for axis, x, values in panels:
            (line,) = axis.plot(x, values.mean(axis=0), color=f"C{number}", label=kind)
            axis.fill_between(x, values.min(axis=0), values.max(axis=0), color=line.get_color(), alpha=0.2, lw=0)
    axes[0, 2].plot(energies, fractions, "k--", label="simulation")
    for number, name in enumerate("xyz"):
        axes[1, number].plot(range(25), profiles[number], "k--", label="simulation")
        axes[1, number].set(xlabel=f"cell along {name}", ylabel="part of the energy")
    axes[0, 0].set(xlabel="step", ylabel="discriminator loss", yscale="log")
    axes[0, 1].set(xlabel="step", ylabel="generator loss", yscale="log")
    axes[0, 2].set(xlabel="energy (GeV)", ylabel="sampling fraction")
    axes[1, 0].legend()
    figure.suptitle(f"{len({cell.seed for cell in cells})} seeds: mean and range")
    figure.savefig(path, dpi=110)
    plt.close(figure)
