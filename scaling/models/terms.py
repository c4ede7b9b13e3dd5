"""Terms of the time of a data-parallel step that depend on the number of ranks.

These are pure formulas without free parameters. `laws` combines them into models, `weights` fits their weights.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import scipy.integrate
from scipy.interpolate import CubicSpline
from scipy.stats import norm

__all__ = ["ALGORITHMS", "MOST_RANKS", "allreduce_seconds", "allreduce_terms", "expected_maximum"]

ALGORITHMS = ("ring", "tree")
MOST_RANKS = 2**24
"""Largest number of ranks in the table of `expected_maximum`."""


def expected_maximum(ranks: np.ndarray) -> np.ndarray:
    """Return the mean E(p) of the largest of p standard normal values, for each p in `ranks` (from 1 to 2^24).

    A synchronous step takes as long as its slowest rank. If the computing times of the ranks are c (1 + sigma z) with
    independent standard normal z, the step takes c (1 + sigma E(p)) on average. E(1) = 0, E(2) = 1 / sqrt(pi), and E
    grows like sqrt(2 ln p) (David and Nagaraja, Order Statistics, section 4.2). The values are interpolated with an
    error below 1e-6.
    """
    return np.asarray(_maximum_spline()(np.log2(np.asarray(ranks, dtype=float))))


@functools.cache
def _maximum_spline() -> CubicSpline:
    """Return a spline of E over log2 p.

    E(p) is the integral of 1 - F^p from 0 to infinity minus the integral of F^p from -infinity to 0, with the
    distribution function F of the standard normal distribution.
    """
    knots = np.linspace(0, np.log2(MOST_RANKS), 241)
    x = np.linspace(-9, 9, 4001)
    powers = np.exp(np.exp2(knots)[:, None] * norm.logcdf(x))
    # The integrand jumps by 1 at 0. The trapezoidal rule needs the mean of both sides there.
    return CubicSpline(knots, scipy.integrate.trapezoid(np.heaviside(x, 0.5) - powers, x, axis=1))


def allreduce_terms(ranks: np.ndarray, workers_per_node: float, algorithm: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of consecutive messages of an allreduce and the data volume through the link of a node.

    Ring: 2 (p - 1) messages, each with 1 / p of the buffer. Tree: Rabenseifner's algorithm, a reduce-scatter by
    recursive halving and an allgather by recursive doubling. It sends 2 ceil(log2 n) messages between n nodes, and
    2 (n - 1) / n of the buffer through the link of a node, because the ranks of a node first halve it among themselves
    (Thakur, Rabenseifner and Gropp, Int. J. High Perform. Comput. Appl. 19, 2005). The exchange inside a node, through
    memory, is not counted.

    Args:
        ranks: numbers of ranks, which fill one node after the other.
        workers_per_node: ranks on a full node.
        algorithm: one of `ALGORITHMS`.

    Returns:
        Messages and volumes (as a multiple of the buffer), both in the shape of `ranks`.

    Raises:
        ValueError: the algorithm is unknown.
    """
    p = np.asarray(ranks, dtype=float)
    nodes = np.ceil(p / workers_per_node)
    if algorithm == "ring":
        messages, volume = 2 * (p - 1), 2 * (p - 1) / p
    elif algorithm == "tree":
        messages, volume = 2 * np.ceil(np.log2(nodes)), 2 * (nodes - 1) / nodes
    else:
        raise ValueError(f"allreduce algorithm {algorithm!r} is unknown; expected one of {', '.join(ALGORITHMS)}")
    alone = nodes <= 1
    return np.where(alone, 0.0, messages), np.where(alone, 0.0, volume)


def allreduce_seconds(
    message_bytes: float,
    ranks: np.ndarray,
    *,
    latency: float,
    bandwidth: float,
    workers_per_node: float = 1,
    algorithm: str = "ring",
    memory_bandwidth: float = math.inf,
) -> np.ndarray:
    """Return the seconds of an allreduce, in the shape of `ranks`.

    In a tree the k ranks of a node first divide the buffer among themselves: (k - 1) / k of it in each direction, at
    `memory_bandwidth`. A ring does this while it waits for the link. `tests.simgrid` compares the result with a
    simulation.

    Args:
        message_bytes: size of the buffer.
        ranks, workers_per_node, algorithm: as for `allreduce_terms`.
        latency: seconds of a message between nodes.
        bandwidth: bytes/s of the link of a node.
        memory_bandwidth: bytes/s between the ranks of a node.
    """
    messages, volume = allreduce_terms(ranks, workers_per_node, algorithm)
    together = np.minimum(np.asarray(ranks, dtype=float), workers_per_node)
    within = 2 * (together - 1) / together if algorithm == "tree" else 0.0
    return latency * messages + message_bytes * (volume / bandwidth + within / memory_bandwidth)
