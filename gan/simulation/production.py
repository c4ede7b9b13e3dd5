"""Writes the files of a simulated data set: cuts the work into blocks and shares them among processes.

The blocks come back in the order of the events and this process alone writes, so the files are the same, byte
for byte, whatever the number of processes. The physics is left to `gan.simulation.gflash`, the format to
`gan.data.showers`.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Container, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gan.data.showers import ENERGY_LIMIT, EVENTS_PER_FILE, FILE_NAME, ShowerWriter, pack
from gan.errors import InputError
from gan.physics.formulas import sampling_fraction
from gan.simulation.gflash import CLIC_ECAL, draw_energies, simulate

__all__ = ["LOWEST_ENERGY", "Order", "Summary", "write_files"]

LOWEST_ENERGY = 1.0
"""GeV; below, the parametrisation's fits end."""

BLOCK = 64
"""Events a process computes at a time: a tenth of a second, so that an interrupt is obeyed at once."""

_LARGEST_SEED = 2**63 - 1
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What is to be simulated and where it goes. Raises InputError for values that cannot be used."""

    out: Path
    """Folder of the files."""
    events: int = EVENTS_PER_FILE
    energy_min: float = 2.0
    """GeV."""
    energy_max: float = 500.0
    """GeV; energies are uniform between the two."""
    seed: int = 1
    events_per_file: int = EVENTS_PER_FILE
    """The last file holds the rest."""
    processes: int = 1
    overwrite: bool = False
    """Replace files of the same names."""

    def __post_init__(self) -> None:
        for name in ("events", "events_per_file", "processes"):
            if getattr(self, name) < 1:
                option = name.replace("_", "-")
                raise InputError(f"--{option} is {getattr(self, name)}; expected a whole number: give 1 or more.")
        if not 0 <= self.seed <= _LARGEST_SEED:
            raise InputError(f"--seed is {self.seed}; expected a whole number from 0 to {_LARGEST_SEED}: give another.")
        if not LOWEST_ENERGY <= self.energy_min <= self.energy_max <= ENERGY_LIMIT:
            raise InputError(
                f"--energy-min is {self.energy_min:g} and --energy-max {self.energy_max:g}; expected GeV, "
                f"{LOWEST_ENERGY:g} to {ENERGY_LIMIT:g} and the minimum not above the maximum: give others."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """What was written."""

    files: tuple[Path, ...]
    events: int
    seconds: float
    """Wall time."""
    sampling_fraction: float
    """Mean over the events."""


@dataclass(frozen=True, slots=True)
class _Span:
    """The events of a file, or some of them."""

    first: int
    """Global number of the first event."""
    events: int

    def blocks(self) -> Iterator[_Span]:
        """Cut this into what a process computes at a time."""
        for start in range(0, self.events, BLOCK):
            yield _Span(self.first + start, min(BLOCK, self.events - start))


@dataclass(frozen=True, slots=True)
class _Block:
    """Simulated events, ready to be written."""

    energies: npt.NDArray[np.float64]
    """GeV."""
    packed: list[bytes]
    sampling_fractions: float
    """Their sum."""


def write_files(order: Order, report: Callable[[int], None] = lambda events: None) -> Summary:
    """Simulate and write all files; `report` is told of every further number of events that is done.

    A file appears under its name when it is complete. Raises InputError before anything is computed if the
    folder holds files that may not be replaced or would remain among the new ones, and later if the file
    system refuses or a process is killed.
    """
    started = time.monotonic()
    files = _plan(order)
    _prepare_folder(order, files)
    total = 0.0
    spans = (block for file in files.values() for block in file.blocks())
    with closing(_simulated(order, spans)) as blocks:
        for path, file in files.items():
            with ShowerWriter(path, file.events, _attributes(order, file.first)) as writer:
                for _, block in zip(file.blocks(), blocks, strict=False):
                    writer.append(block.packed, block.energies)
                    total += block.sampling_fractions
                    report(len(block.packed))
    return Summary(
        files=tuple(files),
        events=order.events,
        seconds=time.monotonic() - started,
        sampling_fraction=total / order.events,
    )


def _plan(order: Order) -> dict[Path, _Span]:
    """Return the files with their events, in order."""
    starts = range(0, order.events, order.events_per_file)
    return {
        order.out / FILE_NAME.format(k=1, n=n): _Span(start, min(order.events_per_file, order.events - start))
        for n, start in enumerate(starts, start=1)
    }


def _prepare_folder(order: Order, files: Container[Path]) -> None:
    try:
        order.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"The folder {order.out} cannot be made ({error}). Give another --out, or mend its rights."
        ) from error
    present = sorted(order.out.glob(FILE_NAME.format(k="*", n="*")))
    if present and not order.overwrite:
        raise InputError(
            f"{present[0]} exists already ({len(present)} such files in all); expected a folder without "
            f"showers. Give another --out, or --overwrite to replace them."
        )
    # Files of two productions in one folder would be read as one data set.
    foreign = [path for path in present if path not in files]
    if foreign:
        raise InputError(
            f"{foreign[0]} would stay among the new files ({len(foreign)} such files in all); expected only "
            f"files that are written anew. Remove it, or give another --out."
        )


def _attributes(order: Order, first_event: int) -> dict[str, Any]:
    try:
        version = importlib.metadata.version("3dgan-scaling")
    except importlib.metadata.PackageNotFoundError:
        version = "unknown"
    return {
        "generator": "3dgan-scaling, python -m gan simulate",
        "method": "parametrised electron showers after Grindhammer and Peters, hep-ex/0001020 (GFlash)",
        "version": version,
        "seed": order.seed,
        "first_event": first_event,
        "energy_min_GeV": order.energy_min,
        "energy_max_GeV": order.energy_max,
        "calibration": CLIC_ECAL.calibration,
        "calibration_reason": CLIC_ECAL.calibration_reason,
        "parameters": json.dumps(dataclasses.asdict(CLIC_ECAL)),
    }


def _simulated(order: Order, spans: Iterable[_Span]) -> Generator[_Block, None, None]:
    """Simulate the events span by span, here or in other processes, and yield them in order."""
    if order.processes == 1:
        return (_simulate_block(order, span) for span in spans)
    return _shared(order, spans)


def _simulate_block(order: Order, span: _Span) -> _Block:
    energies = draw_energies(
        span.events,
        seed=order.seed,
        first_event=span.first,
        energy_min=order.energy_min,
        energy_max=order.energy_max,
    )
    cells = simulate(energies, seed=order.seed, first_event=span.first)
    # Compressed here, by the many, rather than by the one that writes.
    return _Block(energies, pack(cells), float(sampling_fraction(cells, energies).sum()))


def _shared(order: Order, spans: Iterable[_Span]) -> Generator[_Block, None, None]:
    """Share the work among processes; few blocks are under way at a time, so that memory stays small."""
    waiting: deque[Future[_Block]] = deque()
    with _one_thread_a_process():
        pool = ProcessPoolExecutor(
            order.processes, mp_context=multiprocessing.get_context("spawn"), initializer=_start_process
        )
        try:
            for span in spans:
                with _interrupts_wait():
                    waiting.append(pool.submit(_simulate_block, order, span))
                if len(waiting) > 3 * order.processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise InputError(
                f"One of {order.processes} processes was killed, perhaps for want of memory; no half file is "
                f"left. Start again with --overwrite, and with fewer --processes if it happens again."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Put off Ctrl-C; processes started meanwhile inherit that, and so import without being interrupted in it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _one_thread_a_process() -> Iterator[None]:
    """Let processes started meanwhile use one thread each in NumPy's libraries, which look when loaded."""
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _start_process() -> None:
    # Ctrl-C reaches all processes of the terminal; the one that writes ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when its parent is killed; it would wait for work forever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)
