"""Random numbers of a training step, drawn from counters instead of a state.

Every number is a function of the seed, a purpose ("real/flip"), the position in the training (epoch and step) and the
place of the event in the global batch. So nothing has to be saved for a resume, and one rank with a batch of 16 draws
the same numbers as two ranks with 8 each: a rank starts its counter at its own part of the global batch.
The generator is Philox 4x32-10 (Salmon et al., SC'11) of TensorFlow; four numbers come out of one count.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

__all__ = ["Draws", "keep", "position"]

PHILOX = 1
NUMBERS_PER_COUNT = 4


def position(epoch: int, step: int) -> np.uint64:
    """The position of a step as the uint64 that `Draws` takes: epoch in the high half, step within it in the low."""
    return np.uint64((epoch << 32) | step)


@dataclass(frozen=True, slots=True)
class Draws:
    """The random numbers of one step for `batch` events that start at event `first` of the global batch."""

    seed: int
    first: int
    batch: int
    position: tf.Tensor
    """uint64 scalar, see `position`."""

    def normal(self, purpose: str, per_event: int) -> tf.Tensor:
        """Standard normal numbers, float32 (batch, per_event)."""
        padded = _padded(per_event)
        values = tf.raw_ops.StatelessRandomNormalV2(
            shape=[self.batch, padded], **self._source(purpose, padded), dtype=tf.float32
        )
        return values[:, :per_event]

    def uniform(self, purpose: str, low: float, high: float) -> tf.Tensor:
        """Uniform numbers in [low, high), one an event, float32 (batch, 1)."""
        values = tf.raw_ops.StatelessRandomUniformV2(
            shape=[self.batch, NUMBERS_PER_COUNT],
            **self._source(purpose, NUMBERS_PER_COUNT),
            dtype=tf.float32,
        )
        return low + (high - low) * values[:, :1]

    def words(self, purpose: str, per_event: int) -> tf.Tensor:
        """Random bits, uint32 (batch, per_event)."""
        padded = _padded(per_event)
        values = tf.raw_ops.StatelessRandomUniformFullIntV2(
            shape=[self.batch, padded], **self._source(purpose, padded), dtype=tf.uint32
        )
        return values[:, :per_event]

    def _source(self, purpose: str, per_event: int) -> dict[str, object]:
        """Key and counter: one key a purpose; the counter's high word is the position, its low word the event."""
        key = (zlib.crc32(purpose.encode()) << 32) | self.seed
        first_count = self.first * (per_event // NUMBERS_PER_COUNT)
        return {
            "key": tf.constant([key], tf.uint64),
            "counter": tf.stack([tf.constant(first_count, tf.uint64), self.position]),
            "alg": PHILOX,
        }


def keep(seeds: tf.Tensor, shape: Sequence[int], rate: float) -> tf.Tensor:
    """A dropout mask, bool (batch, *shape), False with probability `rate`.

    Philox for every cell would cost as much as a small convolution. It draws two words an event and layer instead, and
    each cell's number is mixed with them, by the two multiplications and three shifts that Wellons' search found to mix
    32 bits best ("lowbias32", 2018). So a mask needs no memory: loops over cells compute it anew.

    Args:
        seeds: uint32 (batch, 2), from `Draws.words`.
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
    """Numbers to draw per event so that every event starts on a whole count."""
    return NUMBERS_PER_COUNT * math.ceil(count / NUMBERS_PER_COUNT)
