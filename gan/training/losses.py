"""The loss of both networks, and the targets that it compares the discriminator's outputs with.

The terms and their weights belong to the architecture, see `models.architecture.LossTerm`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras
import tensorflow as tf

from gan.models.architecture import LossTerm
from gan.ops.draws import Draws
from gan.physics.formulas import geant4_ecal

__all__ = ["flipped_labels", "judgement_loss", "targets"]

Targets = Mapping[str, tf.Tensor]
"""By the name that `LossTerm.target` uses, each (n, 1)."""


def judgement_loss(terms: Sequence[LossTerm], outputs: Sequence[tf.Tensor], targets: Targets) -> tf.Tensor:
    """Return the weighted loss and then each term without its weight: means over the batch, float32 (1 + terms,).

    Args:
        terms: the architecture's.
        outputs: of the discriminator, one (n, 1) for each term.
        targets: what the outputs should be.
    """
    parts = tf.stack(
        [
            tf.reduce_mean(getattr(keras.losses, term.error)(targets[term.target], output))
            # Keras returns a single output without a list around it.
            for term, output in zip(terms, tf.nest.flatten(outputs), strict=True)
        ]
    )
    return tf.concat([[tf.reduce_sum(parts * [term.weight for term in terms])], parts], axis=0)


def targets(labels: tf.Tensor, energies: tf.Tensor, visible: tf.Tensor | None = None) -> Targets:
    """Return the targets of `judgement_loss`.

    Args:
        labels: 1 for a real shower, 0 for a generated one, (n, 1).
        energies: primary energies in `latent.ENERGY_UNIT`, (n, 1).
        visible: sum of the cells in GeV, (n, 1). By default the mean that Geant4 gives at these energies.
    """
    return {
        "label": labels,
        "energy": energies,
        "visible_energy": geant4_ecal(energies) if visible is None else visible,
    }


def flipped_labels(label: float, probability: float, draws: Draws, use: str) -> tf.Tensor:
    """Return the label of every event, replaced by its opposite with a probability, float32 (batch, 1)."""
    flip = draws.uniform(f"{use}/flip", 0.0, 1.0) < probability
    return tf.where(flip, 1.0 - label, label)
