"""Measure the training step of `conv2d` beside the plain Keras loop and beside `conv3d`."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from gan.precision.formats import native_bf16
from gan.settings import TrainingSettings
from tests.benchmarks.baseline import NumpyChance
from tests.benchmarks.figures import Figure
from tests.benchmarks.process import Job, Say, start_tensorflow
from tests.benchmarks.step import real_batch, step_of
from tests.benchmarks.timing import Case, Measurement, elapsed, interleave

__all__ = ["THREE", "TWO", "measure"]

TWO: dict[str, Any] = {"model": "conv2d", "recipe": "rehm2021"}
THREE: dict[str, Any] = {"model": "conv3d", "recipe": "stampede2", "filters": "original"}
"""Settings of the networks that are compared, also in `generation2d`."""


def measure(job: Job, say: Say) -> list[Figure]:
    """Return the seconds of a step with the batch of the job.

    `ours` has the published recipe of `conv2d`, and `conv3d` the recipe `stampede2` with the original filters.
    """
    start_tensorflow()
    from tests.benchmarks.matmul import product_rate

    prefix = f"conv2d/{job.batch}"
    rate = f"{prefix}/matmul-fp32"
    cases = [Case(name=rate, prepare=lambda: product_rate("fp32"), unit="GFLOP/s")]
    loop = partial(_plain_loop, job.batch)
    for precision in ("fp32", "bf16") if native_bf16() else ("fp32",):
        for name, options in (("ours", TWO), ("conv3d", THREE)):
            settings = TrainingSettings.of(**options, precision=precision, batch_size=job.batch)
            cases.append(Case(name=f"{prefix}/{name}-{precision}", prepare=partial(step_of, settings), reference=rate))
        if precision == "fp32":
            cases.append(Case(name=f"{prefix}/keras-fp32", prepare=loop, reference=rate))
    return interleave(cases, job.budget, say)


def _plain_loop(batch: int) -> Measurement:
    from tests.benchmarks.baseline2d import PlainLoop2D

    loop, chance = PlainLoop2D(batch, learning_rate=1e-6), NumpyChance(batch)
    cells, energies = real_batch(batch)
    return elapsed(lambda: np.sum(loop.step(cells, energies, chance)))
