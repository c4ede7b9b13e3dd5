"""Random numbers of a training step, computed from counters instead of a state.

Every number is a function of the seed, a purpose (such as "real/flip"), the position in the training (epoch and step)
and the index of the event in the global batch. So a checkpoint needs no random state, and one rank with a batch of 16
draws the same numbers as two ranks with 8 each: a rank starts its counter at its own part of the global batch.

The generator is TensorFlow's Philox 4x32-10 (Salmon et al., SC'11), which makes four numbers per count.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

__all__ = ["Draws", "epoch_of", "keep", "position"]

PHILOX = 1
NUMBERS_PER_COUNT = 4


def position(epoch: int, step: int) -> np.uint64:
    """Return the position of a step for `Draws`: the epoch in the high 32 bits, the step within it in the low ones."""
    return np.uint64((epoch << 32) | step)


def epoch_of(position: tf.Tensor) -> tf.Tensor:
    """Return the epoch of a position, an int32 scalar, from 0."""
    return tf.cast(tf.bitwise.right_shift(position, tf.constant(32, tf.uint64)), tf.int32)


@dataclass(frozen=True, slots=True)
class Draws:
    """Random numbers of one step for the events of one worker."""

    seed: int
    first: int | tf.Tensor
    """Index of this worker's first event in the global batch."""
    batch: int
    """Number of events in this worker's batch."""
    position: tf.Tensor
    """Position of the step, uint64 scalar; see the function `position`."""

    def normal(self, purpose: str, per_event: int) -> tf.Tensor:
        """Return standard normal numbers, float32 (batch, per_event)."""
        padded = _padded(per_event)
        values = tf.raw_ops.StatelessRandomNormalV2(
            shape=[self.batch, padded], **self._source(purpose, padded), dtype=tf.float32
        )
        return values[:, :per_event]

    def uniform(self, purpose: str, low: float, high: float) -> tf.Tensor:
        """Return one uniform number in [low, high) per event, float32 (batch, 1)."""
        values = tf.raw_ops.StatelessRandomUniformV2(
            shape=[self.batch, NUMBERS_PER_COUNT],
            **self._source(purpose, NUMBERS_PER_COUNT),
            dtype=tf.float32,
        )
        return low + (high - low) * values[:, :1]

    def words(self, purpose: str, per_event: int) -> tf.Tensor:
        """Return random bits, uint32 (batch, per_event)."""
        padded = _padded(per_event)
        values = tf.raw_ops.StatelessRandomUniformFullIntV2(
            shape=[self.batch, padded], **self._source(purpose, padded), dtype=tf.uint32
        )
        return values[:, :per_event]

    def _source(self, purpose: str, per_event: int) -> dict[str, object]:
        """Return key and counter of the generator.

        The key holds the purpose and the seed. The counter's high word is the position, and its low word counts events.
        """
        key = (zlib.crc32(purpose.encode()) << 32) | self.seed
        first_count = self.first * (per_event // NUMBERS_PER_COUNT)
        return {
            "key": tf.constant([key], tf.uint64),
            "counter": tf.stack([tf.cast(first_count, tf.uint64), self.position]),
            "alg": PHILOX,
        }


def keep(seeds: tf.Tensor, shape: Sequence[int], rate: float) -> tf.Tensor:
    """Return a dropout mask, bool (batch, *shape). A cell is False, which means dropped, with probability `rate`.

    Philox for every cell would cost as much as a small convolution. So Philox draws two words per event and layer, and
    a hash mixes them with the index of each cell: the two multiplications and three shifts of "lowbias32", the best
    32-bit mixer of Wellons' search (2018). A mask is never stored, because every loop over the cells computes it again.

    Args:
        seeds: uint32 (batch, 2), from `Draws.words`.
        shape: shape of the cells of one event.
        rate: probability of a cell to be dropped.
    """
    cells = tf.cast(tf.range(math.prod(shape), dtype=tf.int32), tf.uint32)
    first, second = seeds[:, :1], seeds[:, 1:]
    mixed = _xor_shifted(cells + first, 16) * tf.constant(0x21F0AAAD, tf.uint32)
    mixed = (_xor_shifted(mixed, 15) ^ second) * tf.constant(0x735A2D97, tf.uint32)
    threshold = tf.constant(min(round(rate * 2**32), 2**32 - 1), tf.uint32)
    return tf.reshape(_xor_shifted(mixed, 15) >= threshold, [-1, *shape])


def _xor_shifted(words: tf.Tensor, bits: int) -> tf.Tensor:
    return words ^ tf.bitwise.right_shift(words, tf.constant(bits, tf.uint32))


def _padded(count: int) -> int:
    """Return the number of random numbers to draw per event, so that every event starts at a whole count."""
    return NUMBERS_PER_COUNT * math.ceil(count / NUMBERS_PER_COUNT)
