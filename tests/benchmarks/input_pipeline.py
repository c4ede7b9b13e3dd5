"""Measure the cost of reading events and a training's wait for them: `python -m tests.benchmarks.input_pipeline`.

The same simulated showers are written in several layouts. For each layout, a random batch of 8 is read with plain h5py
and with a prepared `ShowerSet`, from the page cache and from disk. Then several ranks, each bound to a core, run epochs
with steps that compute for a given time. Before every step the data are dropped from the page cache, as on a machine
without memory for them.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from gan.data.feeding import Feeder, Part
from gan.data.layout import CELLS, TARGET
from gan.data.showers import open_showers
from gan.simulation.production import SimulationRequest, write_files

__all__ = ["LAYOUTS", "epoch", "main", "milliseconds"]

BATCH = 8
EVENT = (1, 25, 25, 25)
LAYOUTS: dict[str, dict[str, Any]] = {
    "one event, gzip": {"chunks": EVENT, "compression": "gzip", "compression_opts": 1},
    "one event, shuffle, gzip": {"chunks": EVENT, "compression": "gzip", "shuffle": True},
    "contiguous": {},
    "contiguous, float64": {"dtype": "f8"},
    "8 events": {"chunks": (8, 25, 25, 25)},
    "part of an event, gzip": {"chunks": (1, 5, 5, 25), "compression": "gzip"},
    "100 events, gzip": {"chunks": (100, 25, 25, 25), "compression": "gzip"},
    "h5py's choice": {"chunks": True},
    "h5py's choice, gzip": {"compression": "gzip"},
    "h5py's choice, gzip, float64": {"compression": "gzip", "dtype": "f8"},
}
"""Options of `h5py.create_dataset`."""


def write_layouts(folder: Path, events: int, names: Iterable[str]) -> dict[str, Path]:
    """Simulate showers, write them in these layouts and return the files by layout."""
    request = SimulationRequest(out=folder / "source", events=events, seed=1, events_per_file=events)
    source = write_files(request).files[0]
    paths = {}
    with h5py.File(source) as file:
        cells, target = file[CELLS][:], file[TARGET][:]
    for number, name in enumerate(names):
        paths[name] = folder / f"{number}.h5"
        with h5py.File(paths[name], "w") as file:
            file.create_dataset(CELLS, data=cells, **LAYOUTS[name])
            file[TARGET] = target
    return paths


def milliseconds(
    read: Callable[[np.ndarray], object], events: int, before: Callable[[], object] = lambda: None, limit: float = 4.0
) -> tuple[float, float]:
    """Return the median time and the median CPU time of reading a random batch, in milliseconds.

    Args:
        read: function that reads a batch.
        events: number of events to draw from.
        before: function that is called before each read.
        limit: seconds after which the measurement ends.
    """
    random = np.random.default_rng(1)
    elapsed: list[float] = []
    worked: list[float] = []
    began = time.perf_counter()
    while len(elapsed) < 5 or (len(elapsed) < 100 and time.perf_counter() - began < limit):
        batch = random.choice(events, BATCH, replace=False)
        before()
        start, start_cpu = time.perf_counter(), time.thread_time()
        read(batch)
        elapsed.append(time.perf_counter() - start)
        worked.append(time.thread_time() - start_cpu)
    return float(np.median(elapsed)) * 1e3, float(np.median(worked)) * 1e3


def forget(folders: Sequence[Path]) -> None:
    """Drop the files below these folders from the page cache."""
    for path in (path for folder in folders for path in folder.rglob("*.h5")):
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def compare(path: Path, copies: Path) -> dict[str, float]:
    """Return the milliseconds per batch with plain h5py and with this project's reading."""
    with h5py.File(path) as file:
        cells, target = file[CELLS], file[TARGET]

        def read(batch: np.ndarray) -> object:
            events = batch.tolist()
            return np.stack([cells[event].astype(np.float32) for event in events]), [
                target[event, 1] for event in events
            ]

        plain = milliseconds(read, len(cells))
    with open_showers([path]) as showers:
        began = time.perf_counter()
        showers.prepare()
        prepared = time.perf_counter() - began
        os.sync()
        warm = milliseconds(showers.read, showers.events)
        cold = milliseconds(showers.read, showers.events, before=lambda: forget([path.parent, copies]))
    return {
        "plain_ms": plain[0],
        "plain_cpu_ms": plain[1],
        "ms": warm[0],
        "cpu_ms": warm[1],
        "from_disk_ms": cold[0],
        "prepare_s": prepared,
    }


def epoch(
    path: Path, *, rank: int, ranks: int, steps: int, compute: float, forgotten: Sequence[Path]
) -> dict[str, float]:
    """Run two epochs of a rank on one core. Each step multiplies matrices for `compute` seconds."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[rank % len(cores)]})
    matrix = np.ones((256, 256), dtype=np.float32)
    memory = most_memory()
    with open_showers([path]) as showers:
        showers.prepare()
        events = np.arange(showers.events)[: steps * ranks * BATCH]
        part = Part(train=events, batch_size=BATCH, rank=rank, size=ranks, seed=1)
        feeder = Feeder(showers)
        waited, began = 0.0, time.perf_counter()
        for number in range(2):
            feeder.reset()
            for _ in feeder.feed(part.batches(number), part.batches(number + 1)):
                forget(forgotten)
                # Measure CPU time: reading on the same core makes the step longer, as in a training.
                until = time.thread_time() + compute
                while time.thread_time() < until:
                    np.dot(matrix, matrix)
            waited += feeder.waited
        seconds = time.perf_counter() - began
        grown = most_memory() - memory
    return {"seconds": seconds, "waited_percent": 100 * waited / seconds, "memory_mb": grown}


def most_memory() -> float:
    """Return the largest memory of this process up to now in MB. (`getrusage` would include its parent's memory.)"""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) / 1024


def on_ranks(ranks: int, **options: Any) -> dict[str, float]:
    """Return the worst values of several ranks."""
    with multiprocessing.get_context("spawn").Pool(ranks) as pool:
        jobs = [pool.apply_async(epoch, kwds={"rank": rank, "ranks": ranks, **options}) for rank in range(ranks)]
        figures = [job.get() for job in jobs]
    return {name: max(each[name] for each in figures) for name in figures[0]}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.input_pipeline", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--events", type=int, default=2000, help="events of the data set (default: %(default)s)")
    parser.add_argument("--ranks", type=int, default=2, help="ranks that run the epochs (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=10, help="steps of an epoch (default: %(default)s)")
    parser.add_argument("--compute", type=float, default=0.5, help="seconds per step (default: %(default)s)")
    parser.add_argument(
        "--only", choices=LAYOUTS, action="append", help="layout to measure; repeat for several (default: all)"
    )
    parser.add_argument("--json", type=Path, help="JSON file for the figures (default: none)")
    options = parser.parse_args(arguments)
    # Use one thread per rank for matrices, because a rank has one core.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        data, copies = Path(folder, "data"), Path(folder, "copies")
        data.mkdir()
        copies.mkdir()
        # Set the folder of unpacked copies for this process and for the ranks.
        tempfile.tempdir = os.environ["TMPDIR"] = str(copies)
        print(f"{'chunks of':30} {'h5py':>8} {'cpu':>8} {'here':>8} {'cpu':>8} {'disk':>8} {'waited':>8} {'memory':>8}")
        for name, path in write_layouts(data, options.events, options.only or LAYOUTS).items():
            row = compare(path, copies)
            row |= on_ranks(
                options.ranks, path=path, steps=options.steps, compute=options.compute,
                forgotten=(data, copies),
            )  # fmt: skip
            figures[name] = {key: round(value, 3) for key, value in row.items()}
            times = [row[key] for key in ("plain_ms", "plain_cpu_ms", "ms", "cpu_ms", "from_disk_ms")]
            cells = "".join(f" {value:5.1f} ms" for value in times)
            print(f"{name:30}{cells} {row['waited_percent']:6.2f} % {row['memory_mb']:5.0f} MB", flush=True)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
