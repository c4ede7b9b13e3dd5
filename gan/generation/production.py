"""Generate showers and write them to files: choose the energies, plan the files, and record their origin.

`network` computes the showers. It is imported inside functions, because it loads TensorFlow.
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
from gan.quiet import startup_messages_hidden
from gan.run.folder import find_checkpoint

if TYPE_CHECKING:
    from gan.generation.network import GeneratorWeights

__all__ = ["HIGHEST_ENERGY", "LOWEST_ENERGY", "GenerationRequest", "Summary", "generate"]

Energies = npt.NDArray[np.float64]

LOWEST_ENERGY, HIGHEST_ENERGY = (ENERGY_UNIT * limit for limit in DEFAULT.latent.energies)
"""Range in GeV of the energies that the training draws for generated showers."""
MOST_STREAMS = 4
"""Largest default number of streams. On 48 cores, 1, 2 and 4 streams take 1.25, 0.93 and 0.85 ms per shower. More
streams have no effect."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerationRequest:
    """What to generate, and where to write it.

    Raises:
        InputError: a value is outside its range.
    """

    source: Path
    """Folder of a run, or a checkpoint."""
    out: Path
    """Folder for the files."""
    events: int | None = None
    """Number of showers. None means one for each energy in `energies_from`, or else one full file."""
    energy_min: float = LOWEST_ENERGY
    """Lowest primary energy in GeV."""
    energy_max: float = HIGHEST_ENERGY
    """Highest primary energy in GeV. Energies are drawn uniformly."""
    energies_from: Path | None = None
    """File with the primary energies to use, in order: showers (HDF5), or text with one energy in GeV per line."""
    precision: str | None = None
    """`fp32` or `bf16`. None means the precision of the training."""
    batch_size: int = 128
    """Showers per call of the network."""
    seed: int = 1
    threads: int = 1
    """Number of threads that compute."""
    streams: int | None = None
    """Number of batches that are computed at the same time. None means one per thread, at most MOST_STREAMS."""
    events_per_file: int = EVENTS_PER_FILE
    """Showers per file. The last file may hold fewer."""

    def __post_init__(self) -> None:
        names = ("events", "batch_size", "threads", "streams", "events_per_file")
        check_counts({name: getattr(self, name) for name in names})
        check_seed(self.seed, largest=2**32 - 1)
        check_energy_range(self.energy_min, self.energy_max)

    @property
    def parallel(self) -> tuple[int, int]:
        """Number of streams, and threads per stream."""
        streams = min(self.threads, MOST_STREAMS) if self.streams is None else self.streams
        return streams, max(1, self.threads // streams)


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """Result of `generate`."""

    files: tuple[Path, ...]
    """Files in the order of their events."""
    events: int
    """Number of showers."""
    seconds: float
    """Seconds to generate and write the showers, without loading and compiling."""
    generator_seconds: float
    """Computing time of the network in seconds, divided by the number of streams."""
    sampling_fraction: float
    """Mean sampling fraction of the showers."""
    geant4_sampling_fraction: float
    """Mean sampling fraction of the Geant4 fit at the same energies."""
    checkpoint: Path
    """Path of the checkpoint."""
    precision: str
    """Precision of the network: `fp32` or `bf16`."""

    @property
    def milliseconds_per_shower(self) -> float:
        """Computing time of the network per shower in milliseconds."""
        return 1e3 * self.generator_seconds / self.events


def generate(request: GenerationRequest, report: Callable[[int], None] = lambda events: None) -> Summary:
    """Generate showers and write them. A file gets its name when it is complete.

    Args:
        request: what to generate.
        report: function that gets the number of new showers after each batch.

    Raises:
        InputError: there is no usable checkpoint or energy, the folder holds showers already, a cell is not finite, or
            a file cannot be written.
    """
    checkpoint = find_checkpoint(request.source)  # before TensorFlow is loaded, because that takes seconds
    with startup_messages_hidden():
        from gan.generation.network import Showers, build_generator, read_generator

    weights = read_generator(checkpoint)
    # `bf16-full` differs from `bf16` only in the updates of the weights, and there are no updates here.
    precision = request.precision or str(weights.settings.get("precision", "fp32")).removesuffix("-full")
    energies = _energies(request)
    files = plan_files(request.out, len(energies), request.events_per_file)
    prepare_folder(request.out, files)
    showers = Showers(
        build_generator(weights, precision),
        batch_size=request.batch_size,
        seed=request.seed,
        streams=request.parallel[0],
    )
    showers.compile()
    began = time.monotonic()
    in_network = fractions = 0.0
    spans = (
        (span.start, energies[span.start : span.stop])
        for events in files.values()
        for span in pieces(events, request.batch_size)
    )
    with closing(showers.batches(spans)) as batches:
        for path, events in files.items():
            with ShowerWriter(path, len(events), _attributes(request, weights, precision, events.start)) as writer:
                for _, batch in zip(pieces(events, request.batch_size), batches, strict=False):
                    writer.append(batch.packed, batch.energies)
                    in_network += batch.seconds
                    fractions += float(batch.sampling_fractions.sum())
                    report(len(batch.energies))
    return Summary(
        files=tuple(files),
        events=len(energies),
        seconds=time.monotonic() - began,
        generator_seconds=in_network / request.parallel[0],
        sampling_fraction=fractions / len(energies),
        geant4_sampling_fraction=float(np.mean(geant4_ecal(energies / ENERGY_UNIT) / energies)),
        checkpoint=weights.path,
        precision=precision,
    )


def _energies(request: GenerationRequest) -> Energies:
    """Return the primary energies of all events in GeV, (n,)."""
    if request.energies_from is None:
        return draw_energies(
            EVENTS_PER_FILE if request.events is None else request.events,
            seed=request.seed, first_event=0, energy_min=request.energy_min, energy_max=request.energy_max,
        )  # fmt: skip
    path = request.energies_from
    energies = _energies_in(path)
    wanted = len(energies) if request.events is None else request.events
    if not 1 <= wanted <= len(energies):
        raise InputError(
            f"--energies-from {path} holds {len(energies)} energies; expected at least {max(wanted, 1)}: "
            "reduce --events, or use another file"
        )
    outside = (energies < LOWEST_POSSIBLE) | (energies > ENERGY_LIMIT) | ~np.isfinite(energies)
    if outside[:wanted].any():
        raise InputError(
            f"--energies-from {path}: energy {int(np.argmax(outside))} (from 0) is {energies[np.argmax(outside)]:g}; "
            f"expected GeV, {LOWEST_POSSIBLE:g} to {ENERGY_LIMIT:g}: correct the file"
        )
    return energies[:wanted]


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
            "with one energy in GeV per line: use another file"
        ) from error


def _attributes(request: GenerationRequest, weights: GeneratorWeights, precision: str, first: int) -> dict[str, Any]:
    uniform = {"energy_min_GeV": request.energy_min, "energy_max_GeV": request.energy_max}
    from_file = {"energies_from": str(request.energies_from)}
    return {
        **provenance("generate", "generative adversarial network, 3DGAN"),
        "checkpoint": str(weights.path.absolute()),
        "checkpoint_epochs": weights.epochs,
        "checkpoint_steps": weights.steps,
        "weights_sha256": weights.fingerprint,
        "training": json.dumps(dict(weights.settings)),
        "precision": precision,
        "seed": request.seed,
        "first_event": first,
        **(uniform if request.energies_from is None else from_file),
    }
