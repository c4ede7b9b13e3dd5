"""The terms of a data-parallel step that grow with the number of ranks, as functions of it.

Pure formulas without free parameters; `laws` combines them, `fitting` finds their weights.
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
"""Up to which the terms are known."""


def expected_maximum(ranks: np.ndarray) -> np.ndarray:
    """Mean of the largest of p standard normal values, for each p in `ranks` (from 1 to 2^24).

    A synchronous step takes as long as its slowest rank: if the ranks' computing times are c (1 + sigma z) with
    independent standard normal z, it takes c (1 + sigma E(p)) on average. E(1) = 0, E(2) = 1 / sqrt(pi), and E grows
    like sqrt(2 ln p) (David and Nagaraja, Order Statistics, section 4.2). Interpolated to 1e-6.
    """
    return np.asarray(_maximum_spline()(np.log2(np.asarray(ranks, dtype=float))))


@functools.cache
def _maximum_spline() -> CubicSpline:
    """E(p) = int_0^inf (1 - F^p) dx - int_-inf^0 F^p dx with the normal distribution function F, over log2 p."""
    knots = np.linspace(0, np.log2(MOST_RANKS), 241)
    x = np.linspace(-9, 9, 4001)
    powers = np.exp(np.exp2(knots)[:, None] * norm.logcdf(x))
    # The integrand jumps by 1 at 0, where the trapezoidal rule takes the mean of both sides.
    return CubicSpline(knots, scipy.integrate.trapezoid(np.heaviside(x, 0.5) - powers, x, axis=1))


def allreduce_terms(ranks: np.ndarray, workers_per_node: float, algorithm: str) -> tuple[np.ndarray, np.ndarray]:
    """How many messages follow one another in an allreduce, and how often the whole buffer goes through a node's link.

    Ring: 2 (p - 1) messages of 1 / p of the buffer. Tree, which is Rabenseifner's reduce-scatter by recursive halving
    and allgather by recursive doubling: 2 ceil(log2 n) messages between n nodes, and 2 (n - 1) / n of the buffer
    through the link of a node, whose ranks have halved it among themselves before (Thakur, Rabenseifner and Gropp, Int.
    J. High Perform. Comput. Appl. 19, 2005). What is exchanged within a node, over memory, is not counted here.

    Returns:
        Messages and volumes, like `ranks` (counts of ranks, placed node by node).
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
    """Seconds of an allreduce of `message_bytes` with a link of `latency` seconds and `bandwidth` bytes/s.

    In a tree the k ranks of a node first halve the buffer among themselves, (k - 1) / k of it each way, at
    `memory_bandwidth`; a ring does so while it waits for the link. `tests.simgrid` compares this with a simulation.
    """
    messages, volume = allreduce_terms(ranks, workers_per_node, algorithm)
    together = np.minimum(np.asarray(ranks, dtype=float), workers_per_node)
    within = 2 * (together - 1) / together if algorithm == "tree" else 0.0
    return latency * messages + message_bytes * (volume / bandwidth + within / memory_bandwidth)
