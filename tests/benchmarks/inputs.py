"""Measure the events per second of the input pipeline for several file layouts, and the times of a checkpoint."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from gan.data.feeding import Feeder
from gan.data.showers import open_showers
from gan.data.writing import write_showers
from gan.parallel import Alone
from gan.settings import TrainingSettings
from tests.benchmarks.figures import Figure
from tests.benchmarks.process import Job, Say, start_tensorflow
from tests.benchmarks.step import batches, real_batch
from tests.benchmarks.timing import Case, Measurement, elapsed, interleave

__all__ = ["forget", "measure"]

EVENTS = 1024
BATCH = 8
PER_CHUNK = 64
LAYOUTS: dict[str, dict[str, Any]] = {
    "gzip-one-a-chunk": {},
    "gzip-many-a-chunk": {"chunks": (PER_CHUNK, 25, 25, 25), "compression": "gzip", "compression_opts": 1},
    "uncompressed": {"chunks": None},
    "float64-one-a-chunk": {"chunks": (1, 25, 25, 25), "dtype": "<f8", "compression": "gzip", "compression_opts": 1},
}


def measure(job: Job, say: Say) -> list[Figure]:
    """Return events/s of every layout, from page cache and disk, and the seconds to write and read a checkpoint."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = []
        for layout, options in LAYOUTS.items():
            path = _write(folder / f"{layout}.h5", options)
            note = f"{path.stat().st_size / EVENTS / 1000:.0f} kB per event, random order"
            cases.append(_case(f"input/{layout}", partial(_reading, path, lambda: None), note))
            # A file with many events per chunk is read from its unpacked copy.
            if not job.quick and "many" not in layout:
                cases.append(_case(f"input/{layout}/cold", partial(_reading, path, partial(forget, path)), note))
        cases += _checkpoint_cases(folder)
        return interleave(cases, job.budget, say)


def _case(name: str, prepare: Callable[[], Measurement], note: str) -> Case:
    return Case(name=name, prepare=prepare, unit="events/s", rounds=5, note=note)


def _write(path: Path, options: dict[str, Any]) -> Path:
    """Write our own layout with our own writer, or another layout with h5py."""
    cells, energies = real_batch(EVENTS)
    if not options:
        write_showers(path, cells, energies, {})
        return path
    with h5py.File(path, "w") as file:
        file.create_dataset("ECAL", data=cells.astype(options.get("dtype", "<f4")), **options)
        targets = np.full((EVENTS, 2), 11.0)
        targets[:, 1] = energies
        file.create_dataset("target", data=targets)
    return path


def _reading(path: Path, before: Callable[[], None]) -> Measurement:
    showers = open_showers([path])
    # Unpacking happens once per training, so it is not part of the rate.
    showers.prepare(lambda text: None)
    feeder = Feeder(showers)
    chosen = batches(EVENTS, BATCH, EVENTS // BATCH)

    def read() -> None:
        for _ in feeder.feed(chosen):
            pass

    seconds = elapsed(read)

    def rate() -> float:
        before()
        return EVENTS / seconds()

    return rate


def forget(path: Path) -> None:
    """Ask the kernel to drop a file from its page cache."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def _checkpoint_cases(folder: Path) -> list[Case]:
    """Return the cases of a checkpoint: copy the variables, write and sync; read, verify and set the variables."""
    start_tensorflow()
    from gan.run.checkpoint import Checkpoint, Checkpoints, restore, snapshot
    from gan.training.networks import Networks

    networks = Networks(TrainingSettings(filters="16"), Alone())
    checkpoints = Checkpoints(folder / "checkpoints", keep=1)

    def write() -> None:
        checkpoints.save(Checkpoint(epochs=1, arrays=snapshot(networks.groups())), best=True)

    def read() -> None:
        latest = checkpoints.latest()
        if latest is None:
            raise RuntimeError("the checkpoint just written is missing")
        restore(networks.groups(), latest)

    write()
    size = (folder / "checkpoints" / "epoch-0001.npz").stat().st_size
    return [
        Case(name="checkpoint/write", prepare=lambda: elapsed(write), rounds=5, note=f"{size / 1e6:.1f} MB, synced"),
        Case(name="checkpoint/read", prepare=lambda: elapsed(read), rounds=5),
    ]
