"""The losses of 3DGAN and the targets they compare with.

A network's judgement of a batch is three columns: real or fake, primary energy, sum of the cells.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

from gan.ops.draws import Draws
from gan.physics.formulas import geant4_ecal

__all__ = [
    "ENERGY_RANGE",
    "ENERGY_UNIT",
    "FLIP",
    "LOSS_PARTS",
    "WEIGHTS",
    "flipped_labels",
    "judgement_loss",
    "targets_of",
]

ENERGY_UNIT = 100.0
"""GeV. The networks see energies in units of it."""
ENERGY_RANGE = (0.1, 5.0)
"""Sampled energies of fakes, in ENERGY_UNIT."""
FLIP = 0.05
"""Probability that the discriminator is shown the wrong label."""
WEIGHTS = (8.0, 0.2, 0.1)
"""Of the binary cross-entropy (real or fake), and of the energy's and the sum's absolute percentage errors."""
LOSS_PARTS = ("total", "generation", "auxiliary", "ecal")


def judgement_loss(judged: Sequence[tf.Tensor], targets: Sequence[tf.Tensor]) -> tf.Tensor:
    """Weighted loss and its three parts, each a mean over the batch, float32 (4,) in the order of LOSS_PARTS.

    Args:
        judged: outputs of the discriminator, three of (n, 1).
        targets: what they should have been, same shapes.
    """
    generation = tf.reduce_mean(keras.losses.binary_crossentropy(targets[0], judged[0]))
    errors = [
        tf.reduce_mean(keras.losses.mean_absolute_percentage_error(target, value))
        for target, value in zip(targets[1:], judged[1:], strict=True)
    ]
    parts = tf.stack([generation, *errors])
    return tf.concat([[tf.reduce_sum(parts * WEIGHTS)], parts], axis=0)


def targets_of(labels: tf.Tensor, energies: tf.Tensor, ecal: tf.Tensor | None = None) -> list[tf.Tensor]:
    """Targets for `judgement_loss`; without the cells' sum it is what Geant4 gives on average at these energies.

    Args:
        labels: 1 for real, 0 for fake, (n, 1).
        energies: primary energy in ENERGY_UNIT, (n, 1).
        ecal: sum of the cells in GeV, (n, 1).
    """
    return [labels, energies, geant4_ecal(energies) if ecal is None else ecal]


def flipped_labels(label: float, draws: Draws, use: str) -> tf.Tensor:
    """The label, turned into its opposite with probability FLIP, float32 (batch, 1)."""
    flip = draws.uniform(f"{use}/flip", 0.0, 1.0) < FLIP
    return tf.where(flip, 1.0 - label, label)
