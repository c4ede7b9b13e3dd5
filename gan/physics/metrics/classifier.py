"""How well a classifier tells generated showers from simulated ones: the area under its ROC curve (AUC).

0.5: it cannot tell them apart. 1: it always can. The classifier is trained on one part of the events and judged on
another. Source: CaloChallenge 2022, arXiv:2410.21611; there the classifiers are networks of 2 x 2,048 units.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.neural_network import MLPClassifier

__all__ = ["SEEDS", "Judgement", "judge_cells", "judge_features"]

Floats = npt.NDArray[np.float64]

SEEDS = 5
HELD_OUT = 0.4
"""Fraction of the events that the classifier is judged on."""
CELL_SCALE = 1e-4
"""GeV. Cells are compressed as ln(1 + E / CELL_SCALE): their energies span six decades."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """AUC over several seeds, and the ROC curve of the first."""

    auc: float
    """Mean over the seeds."""
    spread: float
    """Standard deviation over the seeds."""
    false_positives: Floats
    """Rates along the ROC curve of the first seed."""
    true_positives: Floats


def judge_features(reference: Floats, sample: Floats, *, seeds: int = SEEDS) -> Judgement:
    """Return the judgement of gradient-boosted trees on features ("high-level" classifier).

    Trees instead of the challenge's network: with a few thousand events they are the stronger classifier, and they need
    no scaling of the features.

    Args:
        reference: features of simulated events, (n, columns).
        sample: features of generated events, (m, columns).
        seeds: number of splits and trainings.
    """

    def make(seed: int) -> Any:
        return HistGradientBoostingClassifier(random_state=seed, early_stopping=True, max_iter=200)

    return _judge(make, reference, sample, seeds)


def judge_cells(reference: Floats, sample: Floats, *, seeds: int = SEEDS) -> Judgement:
    """Return the judgement of a network on all cells ("low-level" classifier).

    Args:
        reference: cells of simulated events in GeV, (n, X, Y, Z).
        sample: cells of generated events in GeV, (m, X, Y, Z).
        seeds: number of splits and trainings.
    """

    def make(seed: int) -> Any:
        return MLPClassifier(
            (128, 64), random_state=seed, early_stopping=True, max_iter=30, n_iter_no_change=4, batch_size=256
        )

    def flat(cells: Floats) -> Floats:
        return np.log1p(np.maximum(cells, 0) / CELL_SCALE).reshape(len(cells), -1).astype(np.float32)

    return _judge(make, flat(reference), flat(sample), seeds)


def _judge(make: Callable[[int], Any], reference: Floats, sample: Floats, seeds: int) -> Judgement:
    inputs = np.concatenate([reference, sample])
    labels = np.concatenate([np.ones(len(reference)), np.zeros(len(sample))])
    scores, curve = [], (np.zeros(0), np.zeros(0))
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(len(labels))
        held_out, training = np.split(order, [round(HELD_OUT * len(order))])
        model = make(seed).fit(inputs[training], labels[training])
        chances = model.predict_proba(inputs[held_out])[:, 1]
        scores.append(roc_auc_score(labels[held_out], chances))
        if seed == 0:
            curve = roc_curve(labels[held_out], chances)[:2]
    return Judgement(
        auc=float(np.mean(scores)),
        spread=float(np.std(scores, ddof=1)) if seeds > 1 else float("nan"),
        false_positives=curve[0],
        true_positives=curve[1],
    )
