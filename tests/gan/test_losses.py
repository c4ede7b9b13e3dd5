"""Losses against formulas written out, and labels that flip."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from gan.models.conv3d import CONV3D
from gan.ops.draws import Draws, position
from gan.training.losses import flipped_labels, judgement_loss, targets


def column(*values: float) -> tf.Tensor:
    return tf.constant(values, tf.float32)[:, tf.newaxis]


def test_loss_is_the_weighted_sum_of_cross_entropy_and_percentage_errors() -> None:
    outputs = [column(0.9, 0.2), column(1.1, 1.0), column(2.0, 3.0)]
    wanted = targets(column(1, 0), column(1.0, 2.0), column(2.5, 2.4))
    entropy = -(np.log(0.9) + np.log(0.8)) / 2
    auxiliary = 100 * (0.1 / 1.0 + 1.0 / 2.0) / 2
    ecal = 100 * (0.5 / 2.5 + 0.6 / 2.4) / 2
    expected = [8 * entropy + 0.2 * auxiliary + 0.1 * ecal, entropy, auxiliary, ecal]
    np.testing.assert_allclose(judgement_loss(CONV3D.losses, outputs, wanted), expected, rtol=1e-5)


def test_target_of_the_cells_sum_is_the_geant4_fit() -> None:
    energies = column(0.5, 5.0)
    expected = [e * np.polyval([0.0018, -0.023, 0.11, -0.28, 2.21], e) for e in (0.5, 5.0)]
    np.testing.assert_allclose(targets(column(1, 1), energies)["visible_energy"][:, 0], expected, rtol=1e-6)
    measured = column(1.0, 9.0)
    assert targets(column(1, 1), energies, measured)["visible_energy"] is measured


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_label_in_twenty_is_flipped(label: float) -> None:
    draws = Draws(1, 0, 20_000, tf.constant(position(0, 0)))
    labels = flipped_labels(label, 0.05, draws, "use").numpy()
    assert set(np.unique(labels)) == {0.0, 1.0}
    assert np.mean(labels != label) == pytest.approx(0.05, abs=0.006)
