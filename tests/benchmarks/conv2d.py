"""Measure `conv2d`: its training step beside the plain Keras loop and beside `conv3d`, and its generation."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from gan.settings import TrainingSettings
from tests.benchmarks.baseline import NumpyChance
from tests.benchmarks.figures import Figure
from tests.benchmarks.generation import per_shower
from tests.benchmarks.process import Job, Say, start_tensorflow
from tests.benchmarks.step import real_batch, step_of
from tests.benchmarks.timing import Case, Measurement, elapsed, interleave

__all__ = ["measure"]

BATCHES = (8, 32)


def measure(job: Job, say: Say) -> list[Figure]:
    """Return the seconds of steps and the milliseconds per shower.

    `ours` has the published recipe of `conv2d`, and `conv3d` the recipe `stampede2` with the original filters.
    """
    start_tensorflow()
    from tests.benchmarks.matmul import product_rate

    rate = "conv2d/matmul-fp32"
    cases = [Case(name=rate, prepare=lambda: product_rate("fp32"), unit="GFLOP/s")]
    for batch in BATCHES[:1] if job.quick else BATCHES:
        for precision in ("fp32", "bf16"):
            for name, options in (("ours", TWO), ("conv3d", THREE)):
                settings = TrainingSettings.of(**options, precision=precision, batch_size=batch)
                step = partial(step_of, settings)
                cases.append(Case(name=f"conv2d/{batch}/{name}-{precision}", prepare=step, reference=rate))
        loop = partial(_plain_loop, batch)
        cases.append(Case(name=f"conv2d/{batch}/keras-fp32", prepare=loop, reference=rate))
    for batch in (1, 16, 128):
        for precision in ("fp32", "bf16"):
            for name, options in (("ours", TWO), ("conv3d", THREE)):
                settings = TrainingSettings.of(**options, precision=precision)
                case = Case(
                    name=f"conv2d/generation/{batch}/{name}-{precision}",
                    prepare=partial(per_shower, settings, batch),
                    unit="ms/shower",
                    reference=rate,
                )
                cases.append(case)
    return interleave(cases, job.budget, say)


TWO: dict[str, Any] = {"model": "conv2d", "recipe": "rehm2021"}
THREE: dict[str, Any] = {"model": "conv3d", "recipe": "stampede2", "filters": "original"}


def _plain_loop(batch: int) -> Measurement:
    from tests.benchmarks.baseline2d import PlainLoop2D

    loop, chance = PlainLoop2D(batch, learning_rate=1e-6), NumpyChance(batch)
    cells, energies = real_batch(batch)
    return elapsed(lambda: np.sum(loop.step(cells, energies, chance)))
