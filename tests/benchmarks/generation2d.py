"""Measure the generation of showers with `conv2d` beside `conv3d`."""

from __future__ import annotations

from functools import partial

from gan.precision.formats import native_bf16
from gan.settings import TrainingSettings
from tests.benchmarks.conv2d import THREE, TWO
from tests.benchmarks.figures import Figure
from tests.benchmarks.generation import per_shower
from tests.benchmarks.process import Job, Say, start_tensorflow
from tests.benchmarks.timing import Case, interleave

__all__ = ["measure"]


def measure(job: Job, say: Say) -> list[Figure]:
    """Return the milliseconds per shower for batches of 1, 16 and 128."""
    start_tensorflow()
    from tests.benchmarks.matmul import product_rate

    rate = "generation2d/matmul-fp32"
    cases = [Case(name=rate, prepare=lambda: product_rate("fp32"), unit="GFLOP/s")]
    for batch in (1, 16, 128):
        for precision in ("fp32", "bf16") if native_bf16() else ("fp32",):
            for name, options in (("conv2d", TWO), ("conv3d", THREE)):
                prepare = partial(per_shower, TrainingSettings.of(**options, precision=precision), batch)
                title = f"generation2d/{batch}/{name}-{precision}"
                cases.append(Case(name=title, prepare=prepare, unit="ms/shower", reference=rate))
    return interleave(cases, job.budget, say)
