"""Random numbers depend on the event's place in the global batch, not on how the batch is cut into ranks."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from gan.draws import Draws, position


def draws(first: int, batch: int, *, seed: int = 5, epoch: int = 1, step: int = 2) -> Draws:
    return Draws(seed, first, batch, tf.constant(position(epoch, step)))


@settings(max_examples=25, deadline=None)
@given(cut=st.integers(1, 7), per_event=st.integers(1, 300))
def test_ranks_draw_their_slices_of_the_global_batch(cut: int, per_event: int) -> None:
    whole = draws(0, 8).normal("noise", per_event)
    parts = tf.concat([draws(0, cut).normal("noise", per_event), draws(cut, 8 - cut).normal("noise", per_event)], 0)
    np.testing.assert_array_equal(whole, parts)


def test_dropout_masks_and_uniforms_are_sliced_the_same_way() -> None:
    shape = (5, 5, 3)
    whole = draws(0, 4).keep("mask", shape, 0.2)
    np.testing.assert_array_equal(whole[2:], draws(2, 2).keep("mask", shape, 0.2))
    np.testing.assert_array_equal(draws(0, 4).uniform("u", 1, 2)[3:], draws(3, 1).uniform("u", 1, 2))


def test_numbers_differ_between_events_purposes_steps_epochs_and_seeds() -> None:
    base = draws(0, 2).normal("noise", 8).numpy()
    others = [
        base[::-1],
        draws(0, 2).normal("other", 8),
        draws(0, 2, step=3).normal("noise", 8),
        draws(0, 2, epoch=2).normal("noise", 8),
        draws(0, 2, seed=6).normal("noise", 8),
    ]
    assert all(not np.any(base == np.asarray(other)) for other in others)


def test_distributions() -> None:
    normal = draws(0, 64).normal("noise", 1000).numpy()
    assert normal.mean() == pytest.approx(0, abs=0.02)
    assert normal.std() == pytest.approx(1, abs=0.02)
    uniform = draws(0, 4000).uniform("energy", 0.1, 5.0).numpy()
    assert 0.1 <= uniform.min() < 0.2
    assert 4.9 < uniform.max() < 5.0
    kept = draws(0, 16).keep("mask", (25, 25, 8), 0.2).numpy()
    assert kept.mean() == pytest.approx(0.8, abs=0.01)
