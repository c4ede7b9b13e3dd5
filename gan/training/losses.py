"""The loss of both networks, and the targets of the discriminator's outputs.

The terms belong to the architecture, see `models.architecture.LossTerm`. The weights are settings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras
import tensorflow as tf

from gan.models.architecture import LossTerm
from gan.ops.draws import Draws
from gan.physics.formulas import geant4_ecal

__all__ = ["Targets", "flipped_labels", "judgement_loss", "targets"]

Targets = Mapping[str, tf.Tensor]
"""Correct values of the discriminator's outputs, each (n, 1). The keys are the values of `LossTerm.target`."""


def judgement_loss(
    terms: Sequence[LossTerm], weights: Sequence[float], outputs: Sequence[tf.Tensor], targets: Targets
) -> tf.Tensor:
    """Return the weighted loss and the terms without weights: means over the batch, float32 (1 + terms,).

    Args:
        terms: loss terms of the architecture.
        weights: factor of each term.
        outputs: outputs of the discriminator, one tensor (n, 1) for each term.
        targets: result of the function `targets`.
    """
    parts = tf.stack(
        [
            tf.reduce_mean(getattr(keras.losses, term.error)(targets[term.target], output))
            # Keras returns a single output without a list around it.
            for term, output in zip(terms, tf.nest.flatten(outputs), strict=True)
        ]
    )
    return tf.concat([[tf.reduce_sum(parts * list(weights))], parts], axis=0)


def targets(labels: tf.Tensor, energies: tf.Tensor, visible: tf.Tensor | None = None) -> Targets:
    """Return the targets of `judgement_loss`.

    Args:
        labels: 1 for a real shower, 0 for a generated one, (n, 1).
        energies: primary energies in `latent.ENERGY_UNIT`, (n, 1).
        visible: sum of the cells in GeV, (n, 1). By default the mean of Geant4 at these energies.
    """
    return {
        "label": labels,
        "energy": energies,
        "visible_energy": geant4_ecal(energies) if visible is None else visible,
    }


def flipped_labels(label: float, probability: float, draws: Draws, use: str) -> tf.Tensor:
    """Return the label of each event, flipped with the given probability, float32 (batch, 1)."""
    flip = draws.uniform(f"{use}/flip", 0.0, 1.0) < probability
    return tf.where(flip, 1.0 - label, label)
