"""Losses compared with their formulas, and labels that flip."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from gan.models.conv3d import CONV3D
from gan.ops.draws import Draws, position
from gan.training.losses import flipped_labels, judgement_loss, targets
from tests.support.rounding import assert_within, growth, sum_bound

pytestmark = pytest.mark.numeric


def column(*values: float) -> tf.Tensor:
    return tf.constant(values, tf.float32)[:, tf.newaxis]


def test_loss_is_the_weighted_sum_of_cross_entropy_and_percentage_errors() -> None:
    outputs = [column(0.875, 0.25), column(1.125, 1.0), column(2.0, 3.0)]
    wanted = targets(column(1, 0), column(1.0, 2.0), column(2.5, 2.5))
    entropy = -(np.log(0.875) + np.log(0.75)) / 2
    auxiliary = 100 * (0.125 / 1.0 + 1.0 / 2.0) / 2
    ecal = 100 * (0.5 / 2.5 + 0.5 / 2.5) / 2
    expected = np.array([8 * entropy + 0.2 * auxiliary + 0.1 * ecal, entropy, auxiliary, ecal])
    # The inputs and their differences are exact in FP32, and all terms are positive. A term has at most 16 roundings: 4
    # of a logarithm (2 units in the last place), and the others of products, quotients and sums.
    assert_within(judgement_loss(CONV3D.losses, (8.0, 0.2, 0.1), outputs, wanted), expected, growth(16) * expected)


def test_target_of_the_cells_sum_is_the_geant4_fit() -> None:
    energies = column(0.5, 5.0)
    fit, exact = np.array([0.0018, -0.023, 0.11, -0.28, 2.21]), np.array([0.5, 5.0])
    # There are 10 operations: 4 products and 4 additions, the last product, one rounded constant.
    bound = sum_bound(10, exact * np.polyval(np.abs(fit), exact))
    visible = targets(column(1, 1), energies)["visible_energy"]
    assert_within(visible[:, 0], exact * np.polyval(fit, exact), bound)
    measured = column(1.0, 9.0)
    assert targets(column(1, 1), energies, measured)["visible_energy"] is measured


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_label_in_twenty_is_flipped(label: float) -> None:
    draws = Draws(1, 0, 20_000, tf.constant(position(0, 0)))
    labels = flipped_labels(label, 0.05, draws, "use").numpy()
    assert set(np.unique(labels)) == {0.0, 1.0}
    assert np.mean(labels != label) == pytest.approx(0.05, abs=0.006)
