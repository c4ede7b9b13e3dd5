"""Random numbers depend on the event's place in the global batch, not on the number of ranks."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from gan.ops.draws import Draws, keep, position


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
    whole = keep(draws(0, 4).words("mask", 2), shape, 0.2)
    np.testing.assert_array_equal(whole[2:], keep(draws(2, 2).words("mask", 2), shape, 0.2))
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


def test_dropout_masks_are_random() -> None:
    """The probability to keep a cell is right, and does not depend on its neighbours, its place or the other events."""
    kept = keep(draws(0, 64).words("mask", 2), (25, 25, 25), 0.2).numpy().reshape(64, -1)
    cells = kept.size
    assert kept.mean() == pytest.approx(0.8, abs=5 * 0.4 / np.sqrt(cells))
    by_event, by_cell = kept.mean(axis=1), kept.mean(axis=0)
    assert by_event.std() == pytest.approx(0.4 / np.sqrt(kept.shape[1]), rel=0.4)
    assert by_cell.std() == pytest.approx(0.4 / np.sqrt(64), rel=0.05)
    centred = (kept - 0.8) / 0.4
    for shift in (1, 2, 16, 25, 256, 625, 4096):
        assert np.mean(centred[:, shift:] * centred[:, :-shift]) == pytest.approx(0, abs=5 / np.sqrt(cells))
    for one, other in ((0, 1), (3, 40)):
        assert np.mean(centred[one] * centred[other]) == pytest.approx(0, abs=5 / np.sqrt(kept.shape[1]))
