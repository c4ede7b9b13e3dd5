"""The command line `python -m gan`: simulate, generate and repack showers.

To train, use `python -m launcher`. Only `generate` loads TensorFlow.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from gan.data.energies import ENERGY_LIMIT, LOWEST_ENERGY
from gan.data.layout import EVENTS_PER_FILE
from gan.data.repacking import repack_files
from gan.data.showers import open_showers
from gan.evaluation.cli import evaluate
from gan.generation.production import HIGHEST_ENERGY, GenerationRequest, generate
from gan.generation.production import LOWEST_ENERGY as LOWEST_TRAINED
from gan.pretrained import pretrained_names
from gan.quiet import prepare_tensorflow
from gan.simulation.production import SimulationRequest, write_files
from scaling.records.commands import UserErrorGroup
from scaling.records.wording import count

__all__ = ["main"]

SECONDS_BETWEEN_LINES = 10.0
"""Seconds between two lines of progress in a log file."""


@click.group(cls=UserErrorGroup, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
def main() -> None:
    """Make showers for 3DGAN, a network that learns to imitate electron showers in a calorimeter.

    'simulate' makes training data, and 'generate' makes showers with a trained network. 'python -m launcher' trains.
    """


@main.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder for the files EleEscan_1_1.h5, EleEscan_1_2.h5, ... It is created if missing.",
)
@click.option("--events", type=int, default=EVENTS_PER_FILE, help="Number of showers, all files together.")
@click.option(
    "--energy-min",
    type=float,
    default=2.0,
    metavar="GEV",
    help=f"Lowest primary energy in GeV, at least {LOWEST_ENERGY:g}. Energies are drawn uniformly.",
)
@click.option(
    "--energy-max",
    type=float,
    default=500.0,
    metavar="GEV",
    help=f"Highest primary energy in GeV, at most {ENERGY_LIMIT:g}.",
)
@click.option("--seed", type=int, default=1, help="Seed of the random numbers. The same seed gives the same showers.")
@click.option(
    "--processes",
    type=int,
    default=None,
    show_default="one per core that this command may use",
    help="Number of processes that share the work. It does not change the showers.",
)
@click.option(
    "--events-per-file", type=int, default=EVENTS_PER_FILE, help="Showers per file. The last file may hold fewer."
)
@click.option("--overwrite/--no-overwrite", default=False, help="Replace shower files that are already in the folder.")
def simulate(*, processes: int | None, **options: Any) -> None:
    """Simulate electron showers in the CLIC calorimeter and write them to HDF5 files.

    A parametrised simulation makes the showers. It is thousands of times faster than Geant4 and close to it in shape
    and energy. The files have the layout of CERN's data for 3DGAN: 'ECAL' holds the energies of 25 x 25 x 25 cells in
    GeV, 'target' holds the id and the energy of the particle. 10,000 showers take about 50 MB.
    """
    if processes is None:
        processes = len(os.sched_getaffinity(0))
    request = SimulationRequest(processes=processes, **options)
    with _progress(request.events, "Simulated") as report:
        summary = write_files(request, report)
    click.echo(
        f"Wrote {summary.events:,} events to {len(summary.files)} file(s) in {request.out}: "
        f"{summary.seconds:.1f} s, {summary.events / summary.seconds:,.0f} events/s, "
        f"mean sampling fraction {summary.sampling_fraction:.5f}."
    )


@main.command("generate")
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path),
    required=True,
    help="The --out folder of a training, whose best checkpoint is used, a checkpoint file, or a trained generator "
    f"that ships: {', '.join(f'pretrained:{name}' for name in pretrained_names()) or 'none in this version'}.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder for the files EleEscan_1_1.h5, EleEscan_1_2.h5, ... It is created if missing.",
)
@click.option(
    "--events", type=int, default=None, show_default=f"{EVENTS_PER_FILE:,}, or all of --energies-from",
    help="Number of showers, all files together.",
)  # fmt: skip
@click.option(
    "--energy-min",
    type=float,
    default=LOWEST_TRAINED,
    metavar="GEV",
    help="Lowest primary energy in GeV. Energies are drawn uniformly.",
)
@click.option("--energy-max", type=float, default=HIGHEST_ENERGY, metavar="GEV", help="Highest primary energy in GeV.")
@click.option(
    "--energies-from",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    default=None,
    help="File with the primary energies: showers (HDF5), or text with one energy in GeV per line.  [default: random "
    "energies]",
)
@click.option(
    "--precision", type=click.Choice(("fp32", "bf16")), default=None, show_default="as in the training",
    help="Number format of the network.",
)  # fmt: skip
@click.option(
    "--batch-size",
    type=int,
    default=128,
    help="Showers per call of the network. It does not change the showers, except for rounding.",
)
@click.option("--seed", type=int, default=1, help="Seed of the random numbers. The same seed gives the same showers.")
@click.option(
    "--threads",
    type=int,
    default=None,
    show_default="one per core that this command may use",
    help="Number of threads that compute.",
)
@click.option(
    "--streams", type=int, default=None, show_default="one per thread, at most 4",
    help="Number of batches that are computed at the same time. They share the threads.",
)  # fmt: skip
@click.option(
    "--events-per-file", type=int, default=EVENTS_PER_FILE, help="Showers per file. The last file may hold fewer."
)
def generate_(*, threads: int | None, **options: Any) -> None:
    """Generate showers with a trained network and write them to HDF5 files in the layout of simulate.

    A shower depends only on the seed and the number of its event, so any batch size gives the same showers, except for
    rounding. Attributes of the files name the checkpoint, the seed and the precision.
    """
    request = GenerationRequest(threads=threads or len(os.sched_getaffinity(0)), **options)
    prepare_tensorflow(*request.parallel)
    events = request.events if request.events is not None or request.energies_from else EVENTS_PER_FILE
    with _progress(events, "Generated") as report:
        summary = generate(request, report)
    fraction, fit = summary.sampling_fraction, summary.geant4_sampling_fraction
    click.echo(
        f"Wrote {summary.events:,} events to {len(summary.files)} file(s) in {request.out}, from {summary.checkpoint} "
        f"({summary.precision}): {summary.seconds:.1f} s, {summary.milliseconds_per_shower:.2f} ms/shower in the "
        f"network; mean sampling fraction {fraction:.5f}, {fraction / fit - 1:+.1%} from Geant4's fit ({fit:.5f})."
    )


@main.command()
@click.argument("data", nargs=-1, required=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder for the new files, which keep their names. It is created if missing.",
)
@click.option("--overwrite/--no-overwrite", default=False, help="Replace files in the folder that have the same names.")
def repack(*, data: tuple[str, ...], out: Path, overwrite: bool) -> None:
    """Rewrite the showers of HDF5 files DATA (paths or globs) in the form that is fastest to read at random.

    Use this for files with many events per chunk, because HDF5 decodes a whole chunk to read one event. The new files
    have one event per chunk, float32, compressed. Of the data sets, only 'ECAL' and columns 0 and 1 of 'target' are
    copied.
    """
    with open_showers(data) as showers, _progress(showers.events, "Repacked") as report:
        files = repack_files(showers.files, out, overwrite=overwrite, report=report)
    click.echo(f"Wrote {showers.events:,} events to {len(files)} file(s) in {out}.")


@main.command()
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path),
    required=True,
    help="The --out folder of a training, whose best checkpoint is used, or a checkpoint file.",
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The new file, NAME.npz.")
@click.option("--overwrite/--no-overwrite", default=False, help="Replace the file if it exists.")
def pack(source: Path, out: Path, overwrite: bool) -> None:
    """Write the generator of a training to a small file, which 'generate' and 'evaluate' can use.

    The file has neither discriminator nor optimizer, and kernels in half precision.
    """
    prepare_tensorflow(1, 1)
    from gan.generation.packing import pack_generator

    packed = pack_generator(source, out, overwrite=overwrite)
    click.echo(
        f"Wrote {out}: the generator of {packed.settings['model']} after {count(packed.epochs, 'epoch')}, "
        f"{out.stat().st_size / 1e6:.1f} MB."
    )


@contextmanager
def _progress(events: int | None, verb: str) -> Iterator[Callable[[int], None]]:
    """Show the progress on stderr: a bar on a terminal, otherwise a line every SECONDS_BETWEEN_LINES seconds."""
    if sys.stderr.isatty():
        with tqdm(total=events, unit=" events", desc=verb) as bar:
            yield lambda further: bar.update(further) and None
        return

    last = time.monotonic()
    shown = done = 0

    def report(further: int) -> None:
        nonlocal last, shown, done
        done += further
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES:
            of = f" of {events:,}" if events else ""
            # Print the rate since the last line. A rate since the start would include the loading of TensorFlow.
            click.echo(f"{verb} {done:,}{of} events, {(done - shown) / (now - last):,.0f} events/s.", err=True)
            last, shown = now, done

    yield report


main.add_command(evaluate)
