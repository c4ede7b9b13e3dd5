"""The command line `python -m gan`: turns options into calls and errors of the user's into one line.

Only data are made here; trainings are started by `python -m launcher`. TensorFlow is never imported.
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

from gan.errors import InputError
from gan.showers import ENERGY_LIMIT, EVENTS_PER_FILE
from gan.simulate import LOWEST_ENERGY, Order, write_files

__all__ = ["main"]

SECONDS_BETWEEN_LINES = 10.0
"""How often a log file is told of the progress."""


class _Failure(click.ClickException):
    exit_code = 2


class _Group(click.Group):
    """A group whose commands end with `Error: ...` and status 2 where the user can mend something."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except InputError as error:
            raise _Failure(str(error)) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
def main() -> None:
    """Data for 3DGAN, which learns to imitate electron showers in a calorimeter.

    To train on the data, use `python -m launcher`.
    """


@main.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder for the files EleEscan_1_1.h5, EleEscan_1_2.h5, ...; made if need be.",
)
@click.option("--events", type=int, default=EVENTS_PER_FILE, help="Showers in all.")
@click.option(
    "--energy-min",
    type=float,
    default=2.0,
    metavar="GEV",
    help=f"Lowest energy of an electron, {LOWEST_ENERGY:g} or more. Energies are uniform.",
)
@click.option(
    "--energy-max",
    type=float,
    default=500.0,
    metavar="GEV",
    help=f"Highest energy of an electron, {ENERGY_LIMIT:g} or less.",
)
@click.option("--seed", type=int, default=1, help="Another seed gives other showers, the same one the same.")
@click.option(
    "--processes",
    type=int,
    default=None,
    show_default="one for each core that this command may use",
    help="Processes that share the work. The showers are the same, however many.",
)
@click.option("--events-per-file", type=int, default=EVENTS_PER_FILE, help="Showers in a file; the last has the rest.")
@click.option("--overwrite/--no-overwrite", default=False, help="Whether files of an earlier simulation are replaced.")
def simulate(*, processes: int | None, **options: Any) -> None:
    """Simulate electron showers in the CLIC calorimeter and write them to HDF5 files.

    The showers come from a parametrised simulation, thousands of times faster than GEANT4 and close to it in
    shape and energy. The files have the layout of CERN's data for 3DGAN: 'ECAL' holds the energies in
    25 x 25 x 25 cells in GeV, 'target' the particle's id and energy. 10,000 showers take about 50 MB.
    """
    if processes is None:
        processes = len(os.sched_getaffinity(0))
    order = Order(processes=processes, **options)
    with _progress(order.events) as report:
        summary = write_files(order, report)
    click.echo(
        f"Wrote {summary.events:,} events to {len(summary.files)} file(s) in {order.out}: "
        f"{summary.seconds:.1f} s, {summary.events / summary.seconds:,.0f} events/s, "
        f"mean sampling fraction {summary.sampling_fraction:.5f}."
    )


@contextmanager
def _progress(events: int) -> Iterator[Callable[[int], None]]:
    """Show the progress on stderr: a bar on a terminal, a line now and then in a log file."""
    if sys.stderr.isatty():
        with tqdm(total=events, unit=" events", desc="Simulating") as bar:
            yield lambda further: bar.update(further) and None
        return

    started = last = time.monotonic()
    done = 0

    def report(further: int) -> None:
        nonlocal last, done
        done += further
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES:
            last = now
            rate = done / (now - started)
            click.echo(f"Simulated {done:,} of {events:,} events, {rate:,.0f} events/s.", err=True)

    yield report
