"""Samples of showers to compare: read from HDF5 files, or generated for the energies of other showers.

A sample keeps the observables of all events, and the cells of a few thousand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gan.data.showers import open_showers
from gan.errors import InputError
from gan.physics.observables import HIT, Observables, Observer
from gan.pretrained import is_pretrained
from gan.quiet import startup_messages_hidden
from gan.run.folder import find_checkpoint

if TYPE_CHECKING:
    from gan.generation.network import GeneratorWeights

__all__ = [
    "BATCH",
    "KEPT_CELLS",
    "Sample",
    "collect_sample",
    "generate_sample",
    "is_pattern",
    "is_shower_file",
    "read_sample",
]

Floats = npt.NDArray[np.float64]
Report = Callable[[int], None]

KEPT_CELLS = 4000
"""Events whose cells are kept, for the classifier on cells and for event displays: 62 kB each."""
BATCH = 128
"""Events that are read, generated and observed at a time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """Showers of one origin, ordered by primary energy."""

    name: str
    """Short name for tables and legends."""
    source: str
    """Files, or checkpoint with its precision."""
    observables: Observables
    spectrum: Floats
    """Cells per event in each bin of `observables.SPECTRUM_EDGES`."""
    kept: npt.NDArray[np.int64]
    """Events of `observables` whose cells are kept, ascending."""
    cells: npt.NDArray[np.float32]
    """Cells of these events in GeV, (len(kept), X, Y, Z)."""
    negative_cells: int = 0
    empty_events: int = 0

    def __len__(self) -> int:
        return len(self.observables)


def is_pattern(source: str) -> bool:
    """Return True if a source is a pattern for several files."""
    return any(mark in source for mark in "*?[")


def is_shower_file(source: str) -> bool:
    """Return True if a source names HDF5 files, not a run or a checkpoint."""
    return source.endswith((".h5", ".hdf5")) or is_pattern(source)


def read_sample(
    name: str, sources: Sequence[str], *, hit: float = HIT, events: int | None = None, report: Report = lambda _: None
) -> Sample:
    """Read the showers of HDF5 files.

    Args:
        name: name for tables and legends.
        sources: paths or patterns of files.
        hit: threshold of a hit, GeV.
        events: number of events to read, spread over all files. By default all.
        report: called with the number of events after each batch.

    Raises:
        InputError: the files cannot be read, have other cells, or hold cells that are not finite.
    """
    with open_showers(sources) as showers:
        showers.prepare()
        energies = showers.energies().astype(np.float64)
        chosen = np.arange(len(energies))
        if events is not None and events < len(energies):
            chosen = np.sort(np.random.default_rng(0).choice(len(energies), events, replace=False))
        order = chosen[np.argsort(energies[chosen], kind="stable")]

        def batches() -> Iterator[tuple[npt.NDArray[np.float32], Floats]]:
            for start in range(0, len(order), BATCH):
                cells, of_cells = showers.read(order[start : start + BATCH])
                yield cells, of_cells.astype(np.float64)

        return collect_sample(name, ", ".join(sources), batches(), len(order), hit, report)


def generate_sample(
    name: str,
    source: Path,
    energies: npt.NDArray[np.float64],
    *,
    precision: str | None = None,
    seed: int = 1,
    hit: float = HIT,
    report: Report = lambda _: None,
) -> Sample:
    """Generate showers with a trained network.

    Args:
        name: name for tables and legends.
        source: a run's folder or a checkpoint.
        energies: primary energies in GeV, (n,), ascending.
        precision: `fp32` or `bf16`. By default that of the training.
        seed: seed of the noise.
        hit: threshold of a hit, GeV.
        report: called with the number of events after each batch.

    Raises:
        InputError: there is no usable checkpoint, or a cell is not finite.
    """
    checkpoint = find_checkpoint(source)  # before TensorFlow is loaded, because that takes seconds
    with startup_messages_hidden():
        from gan.generation.network import Showers, build_generator, read_generator

    weights = read_generator(checkpoint)
    precision = precision or _precision(weights)
    showers = Showers(build_generator(weights, precision), batch_size=BATCH, seed=seed)

    def batches() -> Iterator[tuple[npt.NDArray[np.float32], Floats]]:
        for start in range(0, len(energies), BATCH):
            part = energies[start : start + BATCH]
            yield showers.cells(start, part)[0], part

    origin = source if is_pretrained(source) else weights.path
    return collect_sample(name, f"{origin} ({precision})", batches(), len(energies), hit, report)


def _precision(weights: GeneratorWeights) -> str:
    # `bf16-full` differs from `bf16` only in the updates of the weights, which the training has done.
    return str(weights.settings.get("precision", "fp32")).removesuffix("-full")


def collect_sample(
    name: str,
    source: str,
    batches: Iterable[tuple[npt.NDArray[np.float32], Floats]],
    events: int,
    hit: float = HIT,
    report: Report = lambda _: None,
) -> Sample:
    """Make a sample of showers that come in batches, ordered by primary energy.

    Args:
        name: name for tables and legends.
        source: origin of the showers, for tables and errors.
        batches: cells in GeV, (n, X, Y, Z), and primary energies in GeV, (n,), of each batch.
        events: number of events in all batches.
        hit: threshold of a hit, GeV.
        report: called with the number of events after each batch.

    Raises:
        InputError: a cell is not finite.
    """
    observer = Observer(hit)
    # In pairs of neighbours: both halves of the comparison need cells.
    kept = np.arange(events)
    if events > KEPT_CELLS:
        pairs = np.linspace(0, events // 2 - 1, KEPT_CELLS // 2).astype(np.int64)
        kept = np.sort(np.concatenate([2 * pairs, 2 * pairs + 1]))
    cells, done = [], 0
    for batch, energies in batches:
        try:
            observer.add(batch, energies)
        except ValueError as error:
            raise InputError(f"{source}: {error}, after {done} events; expected energies in GeV") from error
        inside = kept[(kept >= done) & (kept < done + len(batch))] - done
        cells.append(np.asarray(batch[inside], dtype=np.float32))
        done += len(batch)
        report(len(batch))
    return Sample(
        name=name,
        source=source,
        observables=observer.observables(),
        spectrum=observer.spectrum / events,
        kept=kept,
        cells=np.concatenate(cells),
        negative_cells=observer.negative_cells,
        empty_events=observer.empty_events,
    )
