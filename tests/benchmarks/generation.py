"""Measure the generation of showers for several filters, batch sizes and precisions, without writing files."""

from __future__ import annotations

import numpy as np

from gan.parallel import Alone
from gan.precision.formats import native_bf16
from gan.settings import TrainingSettings
from tests.benchmarks.figures import Figure
from tests.benchmarks.process import Job, Say, start_tensorflow
from tests.benchmarks.timing import Case, Measurement, elapsed, interleave

__all__ = ["measure", "per_shower"]

BATCHES = (1, 16, 128)


def measure(job: Job, say: Say) -> list[Figure]:
    """Return the milliseconds per shower."""
    start_tensorflow()
    from tests.benchmarks.matmul import product_rate

    rate = "generation/matmul-fp32"
    native = native_bf16() is not None
    cases = [
        Case(
            name=f"generation/{filters}/{batch}/{precision}",
            prepare=lambda f=filters, p=precision, b=batch: per_shower(  # type: ignore[misc]
                TrainingSettings(filters=f, precision=p), b
            ),
            unit="ms/shower",
            reference=rate,
            note="" if native or precision == "fp32" else "not native: this processor has no BF16 instructions",
        )
        for filters in (("original",) if job.quick else ("original", "16"))
        for precision in ("fp32", "bf16")
        for batch in BATCHES
    ]
    first = Case(name=rate, prepare=lambda: product_rate("fp32"), unit="GFLOP/s")
    return interleave([first, *cases], job.budget, say)


def per_shower(settings: TrainingSettings, batch: int) -> Measurement:
    """Return a measurement of the generation with untrained weights, in milliseconds per shower."""
    from gan.generation.network import Showers
    from gan.training.networks import Networks

    # Untrained weights take the same time as trained ones.
    networks = Networks(settings, Alone())
    showers = Showers(networks.shower_generator, batch_size=batch, seed=1)
    energies = np.linspace(20.0, 480.0, batch)
    seconds = elapsed(lambda: showers.cells(0, energies))
    return lambda: 1000 * seconds() / batch
