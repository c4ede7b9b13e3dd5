"""FPD and KPD: how far apart two samples are in the space of all features together.

Source: Kansal et al., "Evaluating generative models in high energy physics", arXiv:2211.10295. The package `jetnet` of
the authors needs PyTorch. So the formulas are written out here, and a test compares them with values of `jetnet`.

Batches are drawn without replacement, those of `jetnet` with replacement: of a few thousand events, repeated events
would make equal samples look different. The features are standardised by their width, those of `jetnet` by their
largest value, which a single event decides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Estimate", "fpd", "frechet", "kpd", "polynomial_mmd"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its standard error."""

    value: float
    error: float


def frechet(one: Floats, other: Floats) -> float:
    """Return the Frechet distance of Gaussians fitted to two samples: |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)).

    Args:
        one: features, (n, columns).
        other: features, (m, columns).
    """
    gap = one.mean(axis=0) - other.mean(axis=0)
    first, second = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    # S1 S2 has the same eigenvalues as R S2 R with R^2 = S1, which is symmetric. So the trace of its root is the sum of
    # their roots, also for singular matrices, where a matrix root fails.
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    product = np.linalg.eigvalsh(root @ second @ root)
    trace = np.sqrt(np.maximum(product, 0)).sum()
    return float(gap @ gap + np.trace(first) + np.trace(second) - 2 * trace)


def fpd(reference: Floats, sample: Floats, *, seed: int = 0, points: int = 8, batches: int = 8) -> Estimate:
    """Return the Frechet physics distance of standardised features, extrapolated to samples of infinite size.

    The distance of finite samples is too large by a term that falls as 1/N. So it is computed for sizes N from a
    quarter of the sample to the whole, and a line in 1/N is fitted. The result is the value of the line at 1/N = 0, and
    its error that of the fit. For equal distributions it may be slightly negative.

    Args:
        reference: standardised features, (n, columns).
        sample: standardised features, (m, columns).
        seed: seed of the random subsets.
        points: number of sizes.
        batches: number of subsets of each size.
    """
    rng = np.random.default_rng(seed)
    most = min(len(reference), len(sample))
    inverse = np.linspace(4 / most, 1 / most, points)
    means = []
    for size in np.round(1 / inverse).astype(int):
        pairs = ((rng.choice(len(each), size, replace=False) for each in (reference, sample)) for _ in range(batches))
        means.append(np.mean([frechet(reference[first], sample[second]) for first, second in pairs]))
    (_, value), covariance = np.polyfit(inverse, means, 1, cov=True)
    return Estimate(float(value), float(np.sqrt(covariance[1, 1])))


def polynomial_mmd(one: Floats, other: Floats) -> float:
    """Return the unbiased squared maximum mean discrepancy of two samples, with the kernel (x . y / columns + 1)^4.

    Args:
        one: features, (n, columns).
        other: features, (m, columns).
    """
    columns = one.shape[1]

    def kernel(a: Floats, b: Floats) -> Floats:
        values = a @ b.T
        values /= columns
        values += 1
        # Two squares are ten times faster than NumPy's fourth power.
        return np.square(np.square(values, out=values), out=values)

    n, m = len(one), len(other)
    within_one, within_other = kernel(one, one), kernel(other, other)
    return float(
        (within_one.sum() - np.trace(within_one)) / (n * (n - 1))
        + (within_other.sum() - np.trace(within_other)) / (m * (m - 1))
        - 2 * kernel(one, other).mean()
    )


def kpd(reference: Floats, sample: Floats, *, seed: int = 0, batches: int = 10, size: int = 5000) -> Estimate:
    """Return the kernel physics distance: the median over batches of the unbiased MMD^2 of standardised features.

    The error is half of the distance between the 16% and the 84% quantile of the batches.

    Args:
        reference: standardised features, (n, columns).
        sample: standardised features, (m, columns).
        seed: seed of the random batches.
        batches: number of batches.
        size: events of a batch, at most half of the smaller sample: batches of all events would have no spread.
    """
    rng = np.random.default_rng(seed)
    size = min(size, len(reference) // 2, len(sample) // 2)
    values = []
    for _ in range(batches):
        first, second = (rng.choice(len(each), size, replace=False) for each in (reference, sample))
        values.append(polynomial_mmd(reference[first], sample[second]))
    low, middle, high = np.quantile(values, (0.16, 0.5, 0.84))
    return Estimate(float(middle), float((high - low) / 2))
