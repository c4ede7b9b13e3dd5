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

__all__ = ["Draws", "position"]

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

    def keep(self, purpose: str, shape: Sequence[int], rate: float) -> tf.Tensor:
        """A dropout mask, bool (batch, *shape), False with probability `rate` to 1 part in 65,536.

        Sixteen random bits decide a cell: half the cost of a float for each.
        """
        cells = math.prod(shape)
        words = _padded(math.ceil(cells / 2))
        bits = tf.raw_ops.StatelessRandomUniformFullIntV2(
            shape=[self.batch, words], **self._source(purpose, words), dtype=tf.uint32
        )
        halves = tf.reshape(tf.bitcast(bits, tf.uint16), [self.batch, 2 * words])[:, :cells]
        threshold = tf.constant(round(rate * 2**16), tf.uint16)
        return tf.reshape(halves >= threshold, [self.batch, *shape])

    def _source(self, purpose: str, per_event: int) -> dict[str, object]:
        """Key and counter: one key a purpose; the counter's high word is the position, its low word the event."""
        key = (zlib.crc32(purpose.encode()) << 32) | self.seed
        first_count = self.first * (per_event // NUMBERS_PER_COUNT)
        return {
            "key": tf.constant([key], tf.uint64),
            "counter": tf.stack([tf.constant(first_count, tf.uint64), self.position]),
            "alg": PHILOX,
        }


def _padded(count: int) -> int:
    """Numbers to draw per event so that every event starts on a whole count."""
    return NUMBERS_PER_COUNT * math.ceil(count / NUMBERS_PER_COUNT)
