"""Showers from a trained generator: finds and loads its weights, draws noise, computes batch after batch.

Everything about an event follows from the seed and its number, so neither the batch size nor the streams decide which
showers come out; sums may round differently. Of a checkpoint only the generator is read. The network is built in
`architectures`; which events are wanted and where they go is the business of `generate`.
"""

from __future__ import annotations

import hashlib
import json
import time
import zipfile
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Semaphore
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from gan.data.writing import pack
from gan.errors import InputError
from gan.models.conv3d import LATENT, conv3d_generator, filter_set
from gan.ops.blocks import BatchNorm
from gan.ops.draws import NUMBERS_PER_COUNT, PHILOX
from gan.physics.formulas import sampling_fraction
from gan.precision.formats import layer_policy
from gan.run.folder import RunFolder
from gan.training.losses import ENERGY_UNIT

__all__ = [
    "Batch",
    "GeneratorWeights",
    "Showers",
    "build_generator",
    "find_checkpoint",
    "read_generator",
]

BUILDERS = {"conv3d": conv3d_generator}
"""By the name of the architecture in a checkpoint's settings."""

Energies = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneratorWeights:
    """What a checkpoint holds of its generator."""

    path: Path
    epochs: int
    """Complete ones of the training."""
    steps: int
    """Of the next one."""
    settings: Mapping[str, Any]
    """Of the training."""
    arrays: Sequence[np.ndarray]
    """In the order of the network's weights."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all values, hexadecimal."""
        return hashlib.sha256(b"".join(array.tobytes() for array in self.arrays)).hexdigest()


def find_checkpoint(source: Path) -> Path:
    """The checkpoint itself, or of a run's that with the smallest validation error, else of the newest complete epoch.

    In a checkpoint of an interrupted epoch BatchNorm's statistics are those of rank 0.

    Raises:
        InputError: there is none.
    """
    if source.is_file():
        return source
    folder = source if any(source.glob("*.npz")) else RunFolder(source).checkpoints.folder
    whole = [path for path in folder.glob("epoch-*.npz") if "-step-" not in path.name]
    candidates = [folder / "best.npz", *sorted(whole, reverse=True)]
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        seen = "holds no checkpoint" if source.is_dir() else "does not exist"
        raise InputError(
            f"--from {source} {seen}; expected the --out of a training with at least one epoch behind it, or one of "
            "its files checkpoints/*.npz"
        )
    return found


def read_generator(path: Path) -> GeneratorWeights:
    """Read the generator's part of a checkpoint; the zip file's checksums show damage.

    Raises:
        InputError: it is no checkpoint, is damaged, or holds numbers that are not finite.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            about = json.loads(str(archive["about"]))
            names = sorted(name for name in archive.files if name.startswith("generator/"))
            arrays = [archive[name] for name in names]
        settings = about["about"]["settings"]
        weights = GeneratorWeights(
            path=path, epochs=about["epochs"], steps=about["steps"], settings=settings, arrays=arrays
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is no whole checkpoint ({error}); give another one") from error
    for name, array in zip(names, arrays, strict=True):
        if not np.isfinite(array).all():
            raise InputError(f"{path}: {name} holds numbers that are not finite; take a checkpoint of an earlier epoch")
    return weights


def build_generator(weights: GeneratorWeights, precision: str) -> keras.Model:
    """The network with these weights.

    Raises:
        InputError: they are of an architecture that is not known here, or do not fit it.
    """
    model, filters = weights.settings.get("model"), str(weights.settings.get("filters"))
    if model not in BUILDERS:
        raise InputError(f"{weights.path} is of the architecture {model!r}; expected one of {', '.join(BUILDERS)}")
    network = BUILDERS[model](filter_set(filters).generator, layer_policy(precision), BatchNorm())
    expected = [tuple(variable.shape) for variable in network.weights]
    found = [array.shape for array in weights.arrays]
    if found != expected:
        wrong = [n for n, (f, e) in enumerate(zip(found, expected, strict=False)) if f != e]
        differing = f"the shape {found[wrong[0]]} for {network.weights[wrong[0]].path}" if wrong else "other weights"
        raise InputError(
            f"{weights.path} holds {differing}, {len(found)} arrays in all; expected the {len(expected)} of a "
            f"{model} generator with --filters {filters}. It was written by another version: use that one"
        )
    network.set_weights(list(weights.arrays))
    return network


@dataclass(frozen=True, slots=True)
class Batch:
    """Showers of neighbouring events, ready to be written."""

    energies: Energies
    """GeV."""
    packed: list[bytes]
    sampling_fractions: npt.NDArray[np.floating[Any]]
    seconds: float
    """In the network."""


class Showers:
    """Computes showers, several batches at a time where there are several streams."""

    def __init__(self, generator: keras.Model, *, batch_size: int, seed: int, streams: int = 1) -> None:
        self._generator, self._batch, self._seed, self._streams = generator, batch_size, seed, streams
        self._network = Semaphore(streams)
        # One shape only: another one would be compiled again and could round otherwise.
        self._compiled = tf.function(
            self._compute,
            input_signature=[tf.TensorSpec((), tf.uint64), tf.TensorSpec((batch_size,), tf.float32)],
            autograph=False,
        )

    def compile(self) -> None:
        """Do the work that only a first batch needs."""
        self._compiled(np.uint64(0), np.ones(self._batch, np.float32))

    def cells(self, first: int, energies: Energies) -> tuple[npt.NDArray[np.float32], float]:
        """Cells in GeV, float32 (n, 25, 25, 25), and the seconds in the network.

        Args:
            first: number of the first event.
            energies: GeV, (n,), at most a batch.
        """
        whole = np.ones(self._batch, np.float32)
        whole[: len(energies)] = energies
        with self._network:
            began = time.perf_counter()
            cells = self._compiled(np.uint64(first), whole).numpy()
            seconds = time.perf_counter() - began
        return cells[: len(energies), ..., 0], seconds

    def batches(self, spans: Iterator[tuple[int, Energies]]) -> Generator[Batch, None, None]:
        """Compute spans, first event and energies as for `cells`, and yield them in their order.

        Raises InputError for cells that are not finite.
        """
        waiting: deque[Future[Batch]] = deque()
        # One worker more than streams compresses while they compute; zlib lets go of Python's lock.
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
                "GeV. The generator overflows: take a checkpoint of an earlier epoch, or --precision fp32"
            )
        return Batch(energies, pack(cells), fractions, seconds)

    def _compute(self, first: tf.Tensor, energies: tf.Tensor) -> tf.Tensor:
        """Noise of event n begins at count n * LATENT / 4 of Philox' counter, whichever batch it is in."""
        noise = tf.raw_ops.StatelessRandomNormalV2(
            shape=[self._batch, LATENT],
            key=tf.constant([self._seed], tf.uint64),
            counter=tf.stack([first * (LATENT // NUMBERS_PER_COUNT), tf.zeros([], tf.uint64)]),
            alg=PHILOX,
            dtype=tf.float32,
        )
        return self._generator(noise * (energies / ENERGY_UNIT)[:, tf.newaxis], training=False)
