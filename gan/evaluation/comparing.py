"""Compares samples with a reference: every figure with its interval, its floor and its ratio to the floor.

The floor of a figure is its value between two halves of the reference with the same energies. A sample is compared with
the same halves, so that value and floor are of the same number of events: half A of the reference with the sample's
events at the energies of half B, and half B with those at the energies of half A. The value is the mean of the two.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from gan.evaluation.figures import FEWEST, IDEAL, bootstrapped, embedding_figures
from gan.evaluation.pairing import halves, pair
from gan.evaluation.samples import Sample
from gan.physics.metrics.bins import ALL, EnergyBin, authors_bins, equal_bins, wide_bins
from gan.physics.metrics.classifier import Judgement, judge_cells, judge_features
from gan.physics.metrics.distances import standardised
from gan.physics.metrics.embedding import Estimate
from gan.physics.metrics.neighbours import memorisation
from gan.physics.observables import Observables

__all__ = ["Comparison", "compare"]

Report = Callable[[str], None]
Figures = dict[tuple[str, str], Estimate]
"""Estimates by name of the figure and of the bin."""

FEWEST_EMBEDDING = 200
"""Events of each half from which FPD, KPD and the figures of neighbours are computed."""
FEWEST_PARALLEL = 2000
"""Events from which the bins are computed in several processes."""
FEWEST_MEANINGFUL = 500
"""Events below which the report says that most figures are not meaningful."""
INTERVAL = 1.96
"""Standard errors on each side of a 95% interval."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Result of `compare`."""

    reference: Sample
    samples: Sequence[Sample]
    """Samples with all their events. Only those with a partner of the same energy in the reference are compared."""
    table: pd.DataFrame
    """One row for each sample, figure and bin: `sample`, `figure`, `bin`, `events`, `value`, `low`, `high`, `floor`,
    `floor_low`, `floor_high` and `ratio` (distance from the ideal value over that of the floor)."""
    judgements: Mapping[str, Mapping[str, Judgement]]
    """Results of the classifiers by sample, then by input (`features` or `cells`). Their ROC curves are drawn."""
    notes: Sequence[str]
    """Sentences that a reader needs to judge the figures."""


@dataclass(frozen=True, slots=True)
class _Pairing:
    """Two halves to compare, each ordered by energy, and the cells that were kept of them."""

    real: Observables
    fake: Observables
    real_cells: np.ndarray
    fake_cells: np.ndarray

    def inside(self, energy_bin: EnergyBin | None) -> tuple[Observables, Observables]:
        """Return the real and the generated events in an energy bin. None means all energies."""
        if energy_bin is None:
            return self.real, self.fake
        real, fake = (each.take(energy_bin.holds(each.energies)) for each in (self.real, self.fake))
        return real, fake


def compare(
    reference: Sample,
    samples: Sequence[Sample],
    *,
    training: Sample | None = None,
    classifier: bool = True,
    report: Report = lambda _: None,
) -> Comparison:
    """Compare samples with a reference.

    Args:
        reference: simulated showers.
        samples: showers to judge. Their events are paired with those of the reference by energy.
        training: simulated showers that the network was trained on, for the memorisation.
        classifier: False to leave the classifiers out, which take most of the time.
        report: called with the name of each part before it begins.

    Raises:
        InputError: a sample has too few energies in common with the reference.
    """
    notes = _notes(reference, samples)
    judgements: dict[str, dict[str, Judgement]] = {}
    report(f"floor of {reference.name}")
    first, second = halves(len(reference))
    floor_pairs = [_pairing(reference, first, reference, second), _pairing(reference, second, reference, first)]
    floors = _figures(floor_pairs, classifier, judgements.setdefault(reference.name, {}))
    rows = []
    for sample in samples:
        report(sample.name)
        own, other = pair(reference.observables.energies, sample.observables.energies, sample.name)
        if len(own) < len(reference):
            notes.append(
                f"{sample.name}: {len(own):,} of {len(reference):,} events of the reference have a partner of the same "
                "energy; the floor is of all."
            )
        one, another = halves(len(own))
        pairs = [
            _pairing(reference, own[one], sample, other[another]),
            _pairing(reference, own[another], sample, other[one]),
        ]
        values = _figures(pairs, classifier, judgements.setdefault(sample.name, {}))
        if training is not None:
            values["memorisation", ALL] = _memorised(training, reference, sample)
        rows += [
            _row(sample.name, name, bin_name, value, floors.get((name, bin_name)), len(own) // 2)
            for (name, bin_name), value in values.items()
        ]
    return Comparison(
        reference=reference, samples=samples, table=pd.DataFrame(rows), judgements=judgements, notes=notes
    )


def _pairing(reference: Sample, own: np.ndarray, sample: Sample, other: np.ndarray) -> _Pairing:
    return _Pairing(
        reference.observables.take(own), sample.observables.take(other), _kept(reference, own), _kept(sample, other)
    )


def _kept(sample: Sample, events: np.ndarray) -> np.ndarray:
    return sample.cells[np.isin(sample.kept, events)]


def _figures(pairs: Sequence[_Pairing], classifier: bool, judgements: dict[str, Judgement]) -> Figures:
    """Return the means over the pairings of all figures, in all bins."""
    energies = np.concatenate([pair.real.energies for pair in pairs])
    equal = equal_bins(energies)
    bins = {each.name: each for each in (*wide_bins(), *equal, *authors_bins())}
    embedded = {ALL, *(each.name for each in equal)}
    tasks: list[tuple[str, Observables, Observables, bool, int]] = []
    for name, energy_bin in {ALL: None, **bins}.items():
        for number, pairing in enumerate(pairs):
            tasks.append((name, *pairing.inside(energy_bin), name in embedded, number))
    # Small samples are done before the processes have started.
    processes = len(os.sched_getaffinity(0)) if len(energies) >= FEWEST_PARALLEL else 1
    by_bin: dict[str, list[dict[str, Estimate]]] = {}
    results = Parallel(n_jobs=processes)(delayed(_estimates)(*task[1:]) for task in tasks)
    for task, estimates in zip(tasks, results, strict=True):
        by_bin.setdefault(task[0], []).append(estimates)
    figures = {
        (figure, name): _mean([each[figure] for each in estimates])
        for name, estimates in by_bin.items()
        for figure in estimates[0]
        if all(figure in each for each in estimates)
    }
    if classifier:
        figures |= _judged(pairs[0], equal, judgements)
    return figures


def _estimates(real: Observables, fake: Observables, embedded: bool, seed: int) -> dict[str, Estimate]:
    """Return the figures of two samples; empty if they have too few events."""
    events = min(len(real), len(fake))
    if events < FEWEST:
        return {}
    estimates = bootstrapped(real, fake, seed=seed)
    if embedded and events >= FEWEST_EMBEDDING:
        estimates |= embedding_figures(real, fake, seed=seed)
    return estimates


def _judged(pairing: _Pairing, bins: Sequence[EnergyBin], judgements: dict[str, Judgement]) -> Figures:
    """Return the AUC of both classifiers, and that of the features in energy bins too. Add the judgements."""
    if min(len(pairing.real), len(pairing.fake)) < FEWEST_EMBEDDING:
        return {}
    judgements["features"] = judge_features(pairing.real.features(), pairing.fake.features())
    judgements["cells"] = judge_cells(pairing.real_cells, pairing.fake_cells)
    figures = {
        (f"classifier AUC, {of}", ALL): Estimate(judgement.auc, judgement.spread)
        for of, judgement in judgements.items()
    }
    for each in bins:
        real, fake = pairing.inside(each)
        if min(len(real), len(fake)) >= FEWEST_EMBEDDING:
            judgement = judge_features(real.features(), fake.features())
            figures["classifier AUC, features", each.name] = Estimate(judgement.auc, judgement.spread)
    return figures


def _mean(estimates: Sequence[Estimate]) -> Estimate:
    """Return the mean of estimates of independent events."""
    values, errors = ([getattr(each, name) for each in estimates] for name in ("value", "error"))
    return Estimate(float(np.mean(values)), float(np.sqrt(np.sum(np.square(errors))) / len(estimates)))


def _memorised(training: Sample, reference: Sample, sample: Sample) -> Estimate:
    features = [each.observables.features() for each in (training, reference, sample)]
    return Estimate(memorisation(*standardised(*features)), math.nan)


def _row(
    sample: str, figure: str, bin_name: str, value: Estimate, floor: Estimate | None, events: int
) -> dict[str, object]:
    floor = floor or Estimate(math.nan, math.nan)
    ideal = 0.5 if figure.startswith("classifier") else IDEAL.get(figure, 0.0)
    # A floor at the ideal value by chance would make any ratio huge: its error is the least that counts.
    distance = max(abs(floor.value - ideal), floor.error) if math.isfinite(floor.error) else abs(floor.value - ideal)
    return {
        "sample": sample,
        "figure": figure,
        "bin": bin_name,
        "events": events,
        "value": value.value,
        "low": value.value - INTERVAL * value.error,
        "high": value.value + INTERVAL * value.error,
        "floor": floor.value,
        "floor_low": floor.value - INTERVAL * floor.error,
        "floor_high": floor.value + INTERVAL * floor.error,
        "ratio": abs(value.value - ideal) / distance if distance > 0 else math.nan,
    }


def _notes(reference: Sample, samples: Sequence[Sample]) -> list[str]:
    notes = []
    if len(reference) < FEWEST_MEANINGFUL:
        notes.append(
            f"The reference has {len(reference)} events. Below {FEWEST_MEANINGFUL}, only the sampling fraction and the "
            "mean profiles are meaningful."
        )
    for each in (reference, *samples):
        if each.negative_cells:
            notes.append(f"{each.name}: {each.negative_cells:,} cells are negative. They count with their energy.")
        if each.empty_events:
            notes.append(f"{each.name}: {each.empty_events:,} of {len(each):,} events have no visible energy.")
    return notes
