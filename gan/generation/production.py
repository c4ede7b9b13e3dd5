"""Writes the files of a production of generated showers: which events, with which energies, where, and what they tell.

How a shower is computed is told in `generation`, which is loaded, with TensorFlow, when there is something to compute;
the format in `writing`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import numpy.typing as npt

from gan.data.energies import ENERGY_LIMIT, check_energy_range, draw_energies
from gan.data.energies import LOWEST_ENERGY as LOWEST_POSSIBLE
from gan.data.layout import EVENTS_PER_FILE
from gan.data.production import check_counts, check_seed, pieces, plan_files, prepare_folder, provenance
from gan.data.showers import open_showers
from gan.data.writing import ShowerWriter
from gan.errors import InputError
from gan.models.latent import ENERGY_UNIT
from gan.models.registry import DEFAULT
from gan.physics.formulas import geant4_ecal
from gan.quiet import remarks_held_back
from gan.run.folder import find_checkpoint

if TYPE_CHECKING:
    from gan.generation.network import GeneratorWeights

__all__ = ["HIGHEST_ENERGY", "LOWEST_ENERGY", "Order", "Summary", "generate"]

Energies = npt.NDArray[np.float64]

LOWEST_ENERGY, HIGHEST_ENERGY = (ENERGY_UNIT * limit for limit in DEFAULT.latent.energies)
"""GeV. Range of the energies that the training draws for generated showers."""
MOST_STREAMS = 4
"""More have not been seen to pay, on 48 cores either (1.25, 0.93, 0.85 ms a shower with 1, 2, 4)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What is to be generated and where it goes. Raises InputError for values that cannot be used."""

    source: Path
    """A run's folder or a checkpoint."""
    out: Path
    """Folder of the files."""
    events: int | None = None
    """All energies of the file where there is one, else those of one file."""
    energy_min: float = LOWEST_ENERGY
    """GeV."""
    energy_max: float = HIGHEST_ENERGY
    """GeV; energies are uniform between the two."""
    energies_from: Path | None = None
    """Showers (HDF5) whose energies are taken in their order, or a text file with an energy in GeV a line."""
    precision: str | None = None
    """fp32 or bf16; as in the training where it is None."""
    batch_size: int = 128
    seed: int = 1
    threads: int = 1
    """Cores that are computed on."""
    streams: int | None = None
    """Batches computed at the same time."""
    events_per_file: int = EVENTS_PER_FILE

    def __post_init__(self) -> None:
        names = ("events", "batch_size", "threads", "streams", "events_per_file")
        check_counts({name: getattr(self, name) for name in names})
        check_seed(self.seed, largest=2**32 - 1)
        check_energy_range(self.energy_min, self.energy_max)

    @property
    def parallel(self) -> tuple[int, int]:
        """Streams, and threads for each."""
        streams = min(self.threads, MOST_STREAMS) if self.streams is None else self.streams
        return streams, max(1, self.threads // streams)


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """What was written."""

    files: tuple[Path, ...]
    events: int
    seconds: float
    """Wall time of generating and writing, without loading and compiling."""
    generator_seconds: float
    """Spent in the network, over the number of streams."""
    sampling_fraction: float
    """Mean over the events."""
    geant4_sampling_fraction: float
    """What the fit to Geant4 gives for the same energies."""
    checkpoint: Path
    precision: str

    @property
    def milliseconds_per_shower(self) -> float:
        return 1e3 * self.generator_seconds / self.events


def generate(order: Order, report: Callable[[int], None] = lambda events: None) -> Summary:
    """Generate and write all files; `report` is told of every further number of events that is done.

    A file appears under its name when it is complete.

    Raises:
        InputError: no usable checkpoint or energies, files in the way, showers that are not finite, or a file system
            that refuses.
    """
    with remarks_held_back():
        from gan.generation.network import Showers, build_generator, read_generator

    weights = read_generator(find_checkpoint(order.source))
    # The full form differs in how weights are updated, which is behind them.
    precision = order.precision or str(weights.settings.get("precision", "fp32")).removesuffix("-full")
    energies = _energies(order)
    files = plan_files(order.out, len(energies), order.events_per_file)
    prepare_folder(order.out, files)
    showers = Showers(
        build_generator(weights, precision),
        weights.architecture.latent,
        batch_size=order.batch_size,
        seed=order.seed,
        streams=order.parallel[0],
    )
    showers.compile()
    began = time.monotonic()
    in_network = fractions = 0.0
    spans = (
        (span.start, energies[span.start : span.stop])
        for events in files.values()
        for span in pieces(events, order.batch_size)
    )
    with closing(showers.batches(spans)) as batches:
        for path, events in files.items():
            with ShowerWriter(path, len(events), _attributes(order, weights, precision, events.start)) as writer:
                for _, batch in zip(pieces(events, order.batch_size), batches, strict=False):
                    writer.append(batch.packed, batch.energies)
                    in_network += batch.seconds
                    fractions += float(batch.sampling_fractions.sum())
                    report(len(batch.energies))
    return Summary(
        files=tuple(files),
        events=len(energies),
        seconds=time.monotonic() - began,
        generator_seconds=in_network / order.parallel[0],
        sampling_fraction=fractions / len(energies),
        geant4_sampling_fraction=float(np.mean(geant4_ecal(energies / ENERGY_UNIT) / energies)),
        checkpoint=weights.path,
        precision=precision,
    )


def _energies(order: Order) -> Energies:
    """Primary energies of all events, GeV."""
    if order.energies_from is None:
        return draw_energies(
            EVENTS_PER_FILE if order.events is None else order.events,
            seed=order.seed, first_event=0, energy_min=order.energy_min, energy_max=order.energy_max,
        )  # fmt: skip
    path = order.energies_from
    found = _energies_in(path)
    wanted = len(found) if order.events is None else order.events
    if not 1 <= wanted <= len(found):
        raise InputError(f"--energies-from {path} holds {len(found)} energies; expected at least {max(wanted, 1)}")
    outside = (found < LOWEST_POSSIBLE) | (found > ENERGY_LIMIT) | ~np.isfinite(found)
    if outside[:wanted].any():
        raise InputError(
            f"--energies-from {path}: energy {int(np.argmax(outside))} (from 0) is {found[np.argmax(outside)]:g}; "
            f"expected GeV, {LOWEST_POSSIBLE:g} to {ENERGY_LIMIT:g}"
        )
    return found[:wanted]


def _energies_in(path: Path) -> Energies:
    try:
        if h5py.is_hdf5(path):
            with open_showers([path]) as showers:
                return showers.energies().astype(np.float64)
        return np.loadtxt(path, dtype=np.float64, ndmin=1).reshape(-1)
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"--energies-from {path} cannot be read ({error}); expected a file of showers, or a text file "
            "with an energy in GeV a line"
        ) from error


def _attributes(order: Order, weights: GeneratorWeights, precision: str, first: int) -> dict[str, Any]:
    drawn = {"energy_min_GeV": order.energy_min, "energy_max_GeV": order.energy_max}
    taken = {"energies_from": str(order.energies_from)}
    return {
        **provenance("generate", "generative adversarial network, 3DGAN"),
        "checkpoint": str(weights.path.absolute()),
        "checkpoint_epochs": weights.epochs,
        "checkpoint_steps": weights.steps,
        "weights_sha256": weights.fingerprint,
        "training": json.dumps(dict(weights.settings)),
        "precision": precision,
        "seed": order.seed,
        "first_event": first,
        **(drawn if order.energies_from is None else taken),
    }
