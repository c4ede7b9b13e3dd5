"""Write the files of a simulated data set: split the work into blocks of events and share them among processes.

Only the main process writes, and it writes the blocks in the order of the events. So any number of processes gives the
same files, byte for byte. `gflash` computes the showers, and `gan.data.writing` writes a file.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gan.data.energies import check_energy_range, draw_energies
from gan.data.layout import EVENTS_PER_FILE
from gan.data.production import check_counts, check_seed, pieces, plan_files, prepare_folder, provenance
from gan.data.writing import ShowerWriter, pack
from gan.errors import InputError
from gan.physics.formulas import sampling_fraction
from gan.simulation.gflash import CLIC_ECAL, simulate
from gan.simulation.processes import ProcessKilled, results_in_order

__all__ = ["SimulationRequest", "Summary", "write_files"]

BLOCK = 64
"""Events that a process computes at a time. This takes a tenth of a second, so the command reacts to Ctrl-C fast."""

_LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class SimulationRequest:
    """Number of showers to simulate, their energies, and the files to write.

    Raises:
        InputError: a value is outside its range.
    """

    out: Path
    """Folder of the files."""
    events: int = EVENTS_PER_FILE
    """Number of showers."""
    energy_min: float = 2.0
    """Lowest primary energy in GeV. Energies are uniform."""
    energy_max: float = 500.0
    """Highest primary energy in GeV."""
    seed: int = 1
    """Seed of all random numbers: the same seed gives the same showers."""
    events_per_file: int = EVENTS_PER_FILE
    """Showers per file. The last file holds the rest."""
    processes: int = 1
    """Number of processes that simulate. It does not change the showers."""
    overwrite: bool = False
    """Whether to replace the shower files in the folder."""

    def __post_init__(self) -> None:
        check_counts({name: getattr(self, name) for name in ("events", "events_per_file", "processes")})
        check_seed(self.seed, _LARGEST_SEED)
        check_energy_range(self.energy_min, self.energy_max)


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """Result of a simulation."""

    files: tuple[Path, ...]
    """Paths of the new files, in the order of the events."""
    events: int
    """Number of showers in all files."""
    seconds: float
    """Wall time of simulation and writing in seconds."""
    sampling_fraction: float
    """Visible energy divided by primary energy, mean over the showers."""


@dataclass(frozen=True, slots=True)
class _Block:
    """Simulated events, ready for writing."""

    energies: npt.NDArray[np.float64]
    """Primary energies in GeV, (events,)."""
    packed: list[bytes]
    """Compressed cells of each event."""
    sampling_fractions: float
    """Sum of the sampling fractions of the events."""


def write_files(request: SimulationRequest, report: Callable[[int], None] = lambda events: None) -> Summary:
    """Simulate showers and write all files. A file gets its name when it is complete.

    Args:
        request: the showers and files to make.
        report: function that gets the number of events written since its last call.

    Raises:
        InputError: the folder cannot be created, holds shower files that must not be replaced or that the new files
            would not replace, or a process was killed.
        WriteError: a file cannot be written.
    """
    started = time.monotonic()
    files = plan_files(request.out, request.events, request.events_per_file)
    prepare_folder(request.out, files, overwrite=request.overwrite)
    total = 0.0
    spans = [span for events in files.values() for span in pieces(events, BLOCK)]
    with closing(_simulated(request, spans)) as blocks:
        for path, events in files.items():
            with ShowerWriter(path, len(events), _attributes(request, events.start)) as writer:
                for _, block in zip(pieces(events, BLOCK), blocks, strict=False):
                    writer.append(block.packed, block.energies)
                    total += block.sampling_fractions
                    report(len(block.packed))
    return Summary(
        files=tuple(files),
        events=request.events,
        seconds=time.monotonic() - started,
        sampling_fraction=total / request.events,
    )


def _attributes(request: SimulationRequest, first_event: int) -> dict[str, Any]:
    """Return the attributes of a file: everything that is needed to simulate it again."""
    return {
        **provenance("simulate", "parametrised electron showers after Grindhammer and Peters, hep-ex/0001020 (GFlash)"),
        "seed": request.seed,
        "first_event": first_event,
        "energy_min_GeV": request.energy_min,
        "energy_max_GeV": request.energy_max,
        "calibration": CLIC_ECAL.calibration,
        "calibration_reason": CLIC_ECAL.calibration_reason,
        "parameters": json.dumps(dataclasses.asdict(CLIC_ECAL)),
    }


def _simulated(request: SimulationRequest, spans: Sequence[range]) -> Generator[_Block, None, None]:
    """Yield the simulated events of each span in order, computed in this process or in others."""
    if request.processes == 1:
        yield from (_simulate_block(request, span) for span in spans)
        return
    processes = min(request.processes, len(spans))
    try:
        yield from results_in_order(partial(_simulate_block, request), spans, processes)
    except ProcessKilled as error:
        raise InputError(
            f"One of {processes} processes was killed, perhaps because the memory was full; expected all of them to "
            "run to the end. No incomplete file is left. Start again with --overwrite, and with fewer --processes if "
            "it happens again."
        ) from error


def _simulate_block(request: SimulationRequest, span: range) -> _Block:
    """Simulate and compress the events with the numbers in `span`."""
    energies = draw_energies(
        len(span),
        seed=request.seed,
        first_event=span.start,
        energy_min=request.energy_min,
        energy_max=request.energy_max,
    )
    cells = simulate(energies, seed=request.seed, first_event=span.start)
    # Compress here, where processes run in parallel. Only the main process writes.
    return _Block(energies, pack(cells), float(sampling_fraction(cells, energies).sum()))
