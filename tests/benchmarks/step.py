"""Compare the training step with the plain Keras loop, the sum of its convolutions and the matrix product rate.

One job measures one filter set with one batch size. All its cases run in the same rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import numpy as np

from gan.parallel import Alone
from gan.precision.formats import native_bf16
from gan.settings import TrainingSettings
from gan.simulation.gflash import simulate
from tests.benchmarks.figures import Figure
from tests.benchmarks.process import Job, Say, start_tensorflow
from tests.benchmarks.timing import Case, Measurement, elapsed, interleave

__all__ = ["measure", "our_step", "real_batch", "step_of"]

LEARNING_RATE = 1e-4
"""Learning rate of all steps. It is small, so that no run diverges."""
NOT_NATIVE = "not native: this processor has no BF16 instructions"
OVERHEAD_SHARE = 32
"""Events per timed call. Passes with fewer events run several times per call, so that the cost of the call is small."""


def measure(job: Job, say: Say) -> list[Figure]:
    """Return the seconds of our step and of the cases for comparison, by precision."""
    start_tensorflow()
    from gan.models.conv3d import CONV3D
    from tests.benchmarks.limit import limit
    from tests.benchmarks.matmul import product_rate

    filters = CONV3D.filter_set(job.filters)
    repeats = max(1, OVERHEAD_SHARE // (2 * job.batch))
    place = f"step/{job.filters}/{job.batch}"
    native = native_bf16() is not None
    rate_fp32, rate_bf16 = f"{place}/matmul-fp32", f"{place}/matmul-bf16"

    def case(name: str, prepare: Callable[[], Measurement], share: float, reference: str, note: str = "") -> Case:
        expected = share * job.expected * job.batch  # 0 (unknown) for the smallest batch
        return Case(name=f"{place}/{name}", prepare=prepare, expected=expected, reference=reference, note=note)

    reference_bf16 = rate_bf16 if native else rate_fp32
    cases = [
        Case(name=rate_fp32, prepare=lambda: product_rate("fp32"), unit="GFLOP/s"),
        case("ours-fp32", lambda: our_step(job.filters, "fp32", job.batch), 1.0, rate_fp32),
        case("keras-fp32", lambda: plain_loop(job.filters, job.batch), 1.3, rate_fp32),
        case("limit-fp32", lambda: limit(filters, job.batch, "fp32", repeats), 0.4 * repeats, rate_fp32),
    ]
    bf16 = [
        case("ours-bf16", lambda: our_step(job.filters, "bf16", job.batch), 1.0, reference_bf16, _remark(native)),
    ]
    if native:
        bf16 = [
            Case(name=rate_bf16, prepare=lambda: product_rate("bf16"), unit="GFLOP/s"),
            *bf16,
            case("limit-bf16", lambda: limit(filters, job.batch, "bf16", repeats), 0.4 * repeats, rate_bf16),
        ]
    figures = interleave([*cases, *bf16], job.budget, say)
    missing = [] if native else [Figure(name=f"{place}/limit-bf16", unit="s", note=NOT_NATIVE)]
    return [*figures, *missing]


def _remark(native: bool) -> str:
    return "" if native else f"{NOT_NATIVE} and emulates them"


def real_batch(events: int) -> tuple[np.ndarray, np.ndarray]:
    """Return eight different simulated showers, repeated: cells (events, 25, 25, 25) and energies (events,) in GeV."""
    energies = np.linspace(20, 480, 8, dtype=np.float32)
    different = simulate(energies, seed=1)
    chosen = np.arange(events) % len(energies)
    return different[chosen], energies[chosen]


def our_step(filters: str, precision: str, batch: int) -> Measurement:
    """Return a measurement of a step of the recipe `stampede2` on one rank, in seconds."""
    return step_of(TrainingSettings(filters=filters, precision=precision, batch_size=batch))


def step_of(settings: TrainingSettings) -> Measurement:
    """Return a measurement of one of our steps on one rank, in seconds."""
    import tensorflow as tf

    from gan.ops.draws import position
    from gan.training.networks import Networks
    from gan.training.step import TrainingStep

    step = TrainingStep(Networks(settings, Alone()), settings, Alone())
    cells, energies = real_batch(settings.batch_size)
    positions = count()
    seconds = elapsed(lambda: step(cells, energies, position(0, next(positions)), LEARNING_RATE))

    def measure() -> float:
        # Our step needs the remapper off. The plain loop in the same process needs TensorFlow's default.
        tf.config.optimizer.set_experimental_options({"remapping": False})
        try:
            return seconds()
        finally:
            tf.config.optimizer.set_experimental_options({"remapping": True})

    return measure


def plain_loop(filters: str, batch: int) -> Measurement:
    """Return a measurement of a step of the plain Keras loop, in seconds."""
    from tests.benchmarks.baseline import NumpyChance, PlainLoop

    loop = PlainLoop(filters, batch, learning_rate=LEARNING_RATE)
    cells, energies = real_batch(batch)
    chance = NumpyChance(batch)
    return elapsed(lambda: loop.step(cells, energies, chance))


def shower_file(folder: Path, events: int = 64) -> Path:
    """Write a file of simulated showers for a section and return its path."""
    from gan.data.writing import write_showers

    path = folder / "EleEscan_1_1.h5"
    write_showers(path, *real_batch(events), {})
    return path


def batches(events: int, batch: int, number: int, seed: int = 1) -> np.ndarray:
    """Return random indices of events, (number, batch). Every event comes once before any comes again."""
    orders: Iterator[np.ndarray] = (np.random.default_rng([seed, turn]).permutation(events) for turn in count())
    drawn: list[np.ndarray] = []
    while sum(map(len, drawn)) < number * batch:
        drawn.append(next(orders))
    return np.concatenate(drawn)[: number * batch].reshape(number, batch)
