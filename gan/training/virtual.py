"""Virtual workers: a rank that computes the batches of several workers one after another.

So the training of many workers can be studied on few cores: each virtual worker has its own events, noise, dropout
masks and batch statistics, and the gradients are averaged over all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from gan.parallel import assign_flat, flat

__all__ = ["VirtualWorkers"]


class VirtualWorkers:
    """The virtual workers of a rank, with the moving statistics of each.

    With one worker, the variables of the networks hold its statistics, and nothing is copied.

    Args:
        count: number of virtual workers on this rank, 1 or more.
        statistics: variables of the networks that hold the moving statistics of batch normalization.
    """

    def __init__(self, count: int, statistics: Sequence[Any]) -> None:
        self.count = count
        self.statistics = statistics
        self._rows: tf.Variable | None = None
        """The statistics of each worker, (count, values)."""
        if count > 1:
            self._rows = tf.Variable(np.tile(flat(statistics), (count, 1)), trainable=False)

    def mean(self, compute: Callable[[Any], list[tf.Tensor]]) -> list[tf.Tensor]:
        """Return the means over the workers of the tensors that `compute` returns for the number of a worker.

        The shapes must not depend on the worker. To be called while a step is traced.
        """
        if self._rows is None:
            return compute(0)
        # A loop of TensorFlow, because a trace of 256 workers would take minutes.
        first = self._as_worker(tf.constant(0), compute)

        def body(worker: tf.Tensor, *sums: tf.Tensor) -> list[tf.Tensor]:
            return [worker + 1, *map(tf.add, sums, self._as_worker(worker, compute))]

        with tf.control_dependencies(first):
            start = tf.constant(1)
        _, *sums = tf.while_loop(lambda worker, *_: worker < self.count, body, [start, *first], parallel_iterations=1)
        return [each / self.count for each in sums]

    def _as_worker(self, worker: tf.Tensor, compute: Callable[[Any], list[tf.Tensor]]) -> list[tf.Tensor]:
        """Compute with the statistics of a worker, and keep the changed ones."""
        assert self._rows is not None
        sizes = [math.prod(variable.shape) for variable in self.statistics]
        for variable, values in zip(self.statistics, tf.split(self._rows[worker], sizes), strict=True):
            variable.assign(tf.reshape(values, variable.shape))
        results = [tf.convert_to_tensor(each) for each in compute(worker)]
        with tf.control_dependencies(results):
            changed = tf.concat([tf.reshape(variable.value, [-1]) for variable in self.statistics], axis=0)
            self._rows.scatter_nd_update(tf.reshape(worker, (1, 1)), changed[tf.newaxis])
        return results

    def rows(self) -> npt.NDArray[np.float32]:
        """Return the statistics of each worker, (count, values)."""
        return flat(self.statistics)[np.newaxis] if self._rows is None else self._rows.numpy()

    def set_rows(self, rows: npt.NDArray[np.float32]) -> None:
        """Set the statistics of each worker, and the variables of the networks to those of the last worker."""
        assign_flat(self.statistics, rows[-1])
        if self._rows is not None:
            self._rows.assign(rows)

    def join(self) -> None:
        """Set the variables of the networks to the means over the workers."""
        if self._rows is not None:
            assign_flat(self.statistics, self._rows.numpy().mean(axis=0))

    def divide(self) -> None:
        """Give every worker the statistics that the variables of the networks hold."""
        self.set_rows(np.tile(flat(self.statistics), (self.count, 1)))
