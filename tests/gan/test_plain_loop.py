"""Our training step has the losses and the updates of the plain Keras loop."""

from __future__ import annotations

import numpy as np
import pytest

from tests.benchmarks.baseline import PlainLoop, copy_weights, plain_generator
from tests.benchmarks.losses import three_losses
from tests.support.rounding import LOSS_TOLERANCE, SMALL_RATE


@pytest.mark.numeric
@pytest.mark.slow
def test_the_first_steps_have_the_losses_and_the_weights_of_the_plain_keras_loop() -> None:
    losses = three_losses("original", 2, 2, lambda text: None, SMALL_RATE)
    assert np.isfinite(losses.plain).all()
    np.testing.assert_allclose(losses.ours, losses.plain, rtol=LOSS_TOLERANCE)
    # If all moves are equal and a fraction s of them has the wrong direction, the distance is 2 sqrt(s): 0.063 for 1 in
    # 1,000.
    assert losses.unlike < 0.063


def test_weights_are_only_copied_between_equal_networks() -> None:
    loop = PlainLoop("original", 1)
    with pytest.raises(ValueError, match="has the variables"):
        copy_weights(plain_generator(16), loop.generator)
