"""Signs of life of the two networks, computed in every step from what the discriminator sees and answers.

They cost a few sums over the batch. They travel with the losses, so all ranks see the same means. `alarms` judges them.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from gan.models.architecture import Architecture
from gan.models.latent import ENERGY_UNIT

__all__ = ["HEALTH", "signs_of_life"]

HEALTH = ("active_cells", "sampling_fraction", "variety", "judged_real")
"""Names of the signs, in their order.

`active_cells`: share of cells above zero. `sampling_fraction`: visible over primary energy. `variety`: difference
between two showers of the batch, 0 for equal showers and 1 for showers without a common cell; each shower is divided
by its sum before. `judged_real`: probability that the discriminator gives for "this shower is real".
"""


def signs_of_life(
    cells: tf.Tensor, energies: tf.Tensor, outputs: Sequence[tf.Tensor], architecture: Architecture
) -> tf.Tensor:
    """Return the means over the batch of the signs in HEALTH, float32 (4,). They have no gradient.

    Args:
        cells: showers in GeV, (n, X, Y, Z, 1).
        energies: primary energies in `latent.ENERGY_UNIT`, (n, 1).
        outputs: answers of the discriminator, one for each loss term.
        architecture: the architecture of the networks.
    """
    showers = tf.stop_gradient(tf.reshape(cells, (tf.shape(cells)[0], -1)))
    visible = tf.reduce_sum(showers, axis=1, keepdims=True)
    shapes = tf.math.divide_no_nan(showers, visible)
    return tf.stack(
        [
            tf.reduce_mean(tf.cast(showers > 0, tf.float32)),
            tf.reduce_mean(visible / (energies * ENERGY_UNIT)),
            # Each shower with the next one: of a batch of one event, the shower with itself.
            tf.reduce_mean(tf.reduce_sum(tf.abs(shapes - tf.roll(shapes, 1, axis=0)), axis=1)) / 2,
            tf.reduce_mean(tf.stop_gradient(tf.nest.flatten(outputs)[architecture.label_output])),
        ]
    )
