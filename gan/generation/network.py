"""Compute showers with a trained generator: load its weights, draw noise, and run one batch after another.

A shower depends only on the seed and the number of its event. Batch size and streams do not change the showers, except
for the rounding of sums. `production` decides which events are generated, and writes them to files.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Semaphore
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from gan.data.layout import CELL_CUT
from gan.data.writing import pack
from gan.errors import InputError
from gan.models.architecture import Architecture
from gan.models.generator import ShowerGenerator, generator_parts
from gan.models.latent import ENERGY_UNIT
from gan.models.registry import ARCHITECTURES
from gan.ops.draws import NUMBERS_PER_COUNT, PHILOX
from gan.physics.formulas import geant4_ecal, sampling_fraction
from gan.run.checkpoint import AVERAGED, GENERATOR, UNITS, read_checkpoint
from gan.settings import TrainingSettings

__all__ = ["Batch", "GeneratorWeights", "Showers", "build_generator", "read_generator"]

Energies = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneratorWeights:
    """The generator's part of a checkpoint."""

    path: Path
    """The checkpoint file."""
    epochs: int
    """Complete epochs of the training."""
    steps: int
    """Complete steps of the next epoch."""
    settings: Mapping[str, Any]
    """Settings of the training."""
    arrays: Sequence[np.ndarray]
    """Values in the order of the network's weights. They are averages if the training averaged its weights."""
    units: Sequence[np.ndarray] = ()
    """Unit of each cell in GeV, (X, Y, Z, 1). Empty if the unit of all cells is 1 GeV."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all values, as hexadecimal text."""
        return hashlib.sha256(b"".join(array.tobytes() for array in (*self.arrays, *self.units))).hexdigest()

    @property
    def architecture(self) -> Architecture:
        """Architecture of the trained network.

        Raises:
            InputError: this version does not know the architecture.
        """
        model = str(self.settings.get("model"))
        if model not in ARCHITECTURES:
            raise InputError(
                f"{self.path} is of the architecture {model!r}; expected one of {', '.join(ARCHITECTURES)}: use the "
                "version that wrote it"
            )
        return ARCHITECTURES[model]


def read_generator(path: Path) -> GeneratorWeights:
    """Read the generator's part of a checkpoint.

    Raises:
        InputError: the file is not a checkpoint, is damaged, or holds numbers that are not finite.
    """
    checkpoint = read_checkpoint(path, groups=(GENERATOR, AVERAGED, UNITS))
    arrays = checkpoint.group(AVERAGED) or checkpoint.group(GENERATOR)
    units = checkpoint.group(UNITS)
    settings = checkpoint.about.get("settings")
    if not isinstance(settings, Mapping):
        raise InputError(
            f"{path} holds no settings of a training; expected a checkpoint that a training wrote: use another file"
        )
    for name, array in (*arrays.items(), *units.items()):
        if not np.isfinite(array).all():
            raise InputError(f"{path}: {name} holds numbers that are not finite; use a checkpoint of an earlier epoch")
    return GeneratorWeights(
        path=path,
        epochs=checkpoint.epochs,
        steps=checkpoint.steps,
        # A checkpoint from before a setting existed used its default.
        settings={**TrainingSettings().as_dict(), **settings},
        # A packed generator holds kernels in half precision.
        arrays=[array.astype(np.float32, copy=False) for array in arrays.values()],
        units=list(units.values()),
    )


def build_generator(weights: GeneratorWeights, precision: str) -> ShowerGenerator:
    """Build the network and set its weights.

    Args:
        weights: from `read_generator`.
        precision: `fp32` or `bf16`.

    Raises:
        InputError: the weights belong to an unknown architecture, or do not match their architecture.
    """
    architecture = weights.architecture
    parts = generator_parts(architecture, weights.settings, precision=precision, visible=geant4_ecal)
    network = architecture.build_generator(parts)
    filters = weights.settings["filters"]
    variables = [*network.weights, *parts.scale.units]
    expected = [tuple(variable.shape) for variable in variables]
    seen = [array.shape for array in (*weights.arrays, *weights.units)]
    if seen != expected:
        wrong = [number for number, (s, e) in enumerate(zip(seen, expected, strict=False)) if s != e]
        what = f"the shape {seen[wrong[0]]} for {variables[wrong[0]].path}" if wrong else "other weights"
        raise InputError(
            f"{weights.path} holds {what}, {len(seen)} arrays in all; expected the {len(expected)} arrays of a "
            f"{architecture.name} generator with --filters {filters}. Another version wrote it: use that version"
        )
    network.set_weights(list(weights.arrays))
    for units in weights.units:
        parts.scale.set_units(units[..., 0])
    return ShowerGenerator(network, parts.scale, architecture.latent, weights.settings["latent"], CELL_CUT)


@dataclass(frozen=True, slots=True)
class Batch:
    """Showers of consecutive events, ready for writing."""

    energies: Energies
    """Primary energies in GeV, (n,)."""
    packed: list[bytes]
    """Compressed cells of each event, see `data.writing.pack`."""
    sampling_fractions: npt.NDArray[np.floating[Any]]
    """Visible energy divided by primary energy of each event, (n,)."""
    seconds: float
    """Computing time of the network in seconds."""


class Showers:
    """Computation of showers. With several streams, several batches are computed at the same time."""

    def __init__(self, generator: ShowerGenerator, *, batch_size: int, seed: int, streams: int = 1) -> None:
        """Prepare the generation.

        Args:
            generator: the trained generator, see `build_generator`.
            batch_size: events per call of the network.
            seed: seed of the noise.
            streams: number of batches that are computed at the same time.
        """
        self._generator = generator
        self._batch, self._seed, self._streams = batch_size, seed, streams
        self._network = Semaphore(streams)
        # Use a single shape: another shape would be compiled again and could round differently.
        self._compiled = tf.function(
            self._compute,
            input_signature=[tf.TensorSpec((), tf.uint64), tf.TensorSpec((batch_size,), tf.float32)],
            autograph=False,
        )

    def compile(self) -> None:
        """Compile the network by computing one batch."""
        self._compiled(np.uint64(0), np.ones(self._batch, np.float32))

    def cells(self, first: int, energies: Energies) -> tuple[npt.NDArray[np.float32], float]:
        """Return cells in GeV, float32 (n, X, Y, Z), and the computing time of the network in seconds.

        Args:
            first: number of the first event.
            energies: primary energies in GeV, (n,), at most one batch.
        """
        whole = np.ones(self._batch, np.float32)
        whole[: len(energies)] = energies
        with self._network:
            began = time.perf_counter()
            cells = self._compiled(np.uint64(first), whole).numpy()
            seconds = time.perf_counter() - began
        return cells[: len(energies), ..., 0], seconds

    def batches(self, spans: Iterator[tuple[int, Energies]]) -> Generator[Batch, None, None]:
        """Compute batches and yield them in order.

        Args:
            spans: first event and energies of each batch, as for `cells`.

        Raises:
            InputError: a cell is not finite.
        """
        waiting: deque[Future[Batch]] = deque()
        # Start one thread more than streams: it compresses while the others compute. zlib releases the GIL.
        with ThreadPoolExecutor(self._streams + 1, thread_name_prefix="stream") as pool:
            try:
                for span in spans:
                    waiting.append(pool.submit(self._batch_of, *span))
                    if len(waiting) > self._streams + 1:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _batch_of(self, first: int, energies: Energies) -> Batch:
        cells, seconds = self.cells(first, energies)
        fractions = sampling_fraction(cells, energies)
        finite = np.isfinite(fractions)
        if not finite.all():
            event = int(np.argmin(finite))
            raise InputError(
                f"event {first + event} of {energies[event]:g} GeV has cells that are not finite; expected energies in "
                "GeV. The generator overflows: use a checkpoint of an earlier epoch, or --precision fp32"
            )
        return Batch(energies, pack(cells), fractions, seconds)

    def _compute(self, first: tf.Tensor, energies: tf.Tensor) -> tf.Tensor:
        """Draw the noise and run the network.

        In every batch, the noise of event n begins at count n * size / 4 of the Philox counter.
        """
        size = self._generator.latent.size
        noise = tf.raw_ops.StatelessRandomNormalV2(
            shape=[self._batch, size],
            key=tf.constant([self._seed], tf.uint64),
            counter=tf.stack([first * (size // NUMBERS_PER_COUNT), tf.zeros([], tf.uint64)]),
            alg=PHILOX,
            dtype=tf.float32,
        )
        return self._generator.cells(self._generator.input(noise, (energies / ENERGY_UNIT)[:, tf.newaxis]))
