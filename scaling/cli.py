"""The command line `python -m scaling`.

Commands import the modules they need when they run: pandas and matplotlib take a second to load, and --help needs
neither. `options` holds the options that several commands share.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scaling.options import at_workers_option, folder_option, model_option, nodes_option, reading, runs_argument
from scaling.records import RecordError
from scaling.records.commands import UserErrorGroup

if TYPE_CHECKING:
    from scaling.study import StudyOptions

__all__ = ["main"]

_WORSE = 1
"""Exit status of `compare` if B is worse, and of `watch` if a run is not complete."""
_UNDECIDED = 2
"""Exit status of `compare` if some comparisons have too few epochs."""
_FILE_WIDTH = 140
"""Number of characters in a line of `watch` if the output is not a terminal."""


@click.group(cls=UserErrorGroup, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Compute time per epoch, speed-up and parallel efficiency from the logs of training runs."""


@main.command()
@runs_argument
@folder_option(
    Path("scaling-report"), "Folder for the page (HTML), the table (CSV, JSON, Markdown) and the plots (PNG, SVG)."
)
@nodes_option("--forecast")
@at_workers_option
@model_option
@click.option(
    "--published", is_flag=True, help="Add the results of published scaling studies to the plots.  [default: off]"
)
@reading()
def report(
    runs: tuple[Path, ...],
    out: Path,
    forecast: tuple[int, ...],
    at_workers: tuple[int, ...],
    model: str | None,
    published: bool,
    options: StudyOptions,
) -> None:
    """Print the scaling table and write a report.

    The report is a page with plots, and the table and all plots as files.

    RUN is the log of a training run, or a folder. In a folder with a run.jsonl, the command reads only this file,
    otherwise every log below the folder. Runs with the same number of workers are repeats: their epochs are pooled.
    """
    from scaling.report import forecast_text, make_report, table_text, write_report

    made = make_report(runs, options, forecast, at_workers, model, published)
    click.echo(table_text(made))
    if made.fits:
        click.echo(f"\n{forecast_text(made)}")
    click.echo()
    _print_files(write_report(made, out))


@main.command()
@runs_argument
@nodes_option("--nodes")
@at_workers_option
@click.option(
    "--target-efficiency",
    type=float,
    metavar="FRACTION",
    help="Also print the largest size with at least this parallel efficiency, a fraction such as 0.9.  [default: not "
    "printed]",
)
@model_option
@folder_option(None, "Folder for a report with the forecast.  [default: no report]")
@reading(without=("nodes", "baseline_from"))
def forecast(
    runs: tuple[Path, ...],
    nodes: tuple[int, ...],
    at_workers: tuple[int, ...],
    target_efficiency: float | None,
    model: str | None,
    out: Path | None,
    options: StudyOptions,
) -> None:
    """Forecast other numbers of nodes or workers.

    Fit a model to the scaling curve of the runs, and print its forecast. Give --nodes, --at-workers or both.
    """
    from scaling.models import plan as make_plan
    from scaling.report import forecast_text, make_report, write_report

    if not nodes and not at_workers:
        raise RecordError("no size to forecast was given; expected --nodes such as 256,512,1024, or --at-workers")
    made = make_report(runs, options, nodes, at_workers, model)
    click.echo(forecast_text(made))
    if target_efficiency is not None:
        for series, fit in made.fits.items():
            _print_sentences(series, make_plan(fit, target_efficiency=target_efficiency).sentences())
    _print_notes(made.notes)
    if out:
        _print_files(write_report(made, out))


@main.command()
@runs_argument
@click.option(
    "--target-epoch", type=float, metavar="SECONDS", help="Time per epoch to reach, in seconds.  [default: none]"
)
@click.option(
    "--target-efficiency",
    type=float,
    metavar="FRACTION",
    help="Parallel efficiency to keep, as a fraction such as 0.9.  [default: none]",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="NODES",
    help="Largest number of nodes to consider, or of workers if the runs do not record nodes.  [default: 32 times the "
    "largest run, but at least 1024]",
)
@model_option
@reading(without=("baseline_from",))
def plan(
    runs: tuple[Path, ...],
    target_epoch: float | None,
    target_efficiency: float | None,
    limit: int | None,
    model: str | None,
    options: StudyOptions,
) -> None:
    """Print how many nodes a target needs.

    Fit a model to the scaling curve of the runs. The target is a time per epoch to reach (--target-epoch), a parallel
    efficiency to keep (--target-efficiency), or both.
    """
    from scaling.models import plan as make_plan
    from scaling.study import fits_of, read_study

    study = read_study(runs, options)
    for series, fit in fits_of(study.curve, model).items():
        _print_sentences(series, make_plan(fit, target_epoch, target_efficiency, limit).sentences())
    _print_notes(study.notes)


@main.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option(
    "--threshold",
    type=click.FloatRange(min=0, max=1, max_open=True),
    default=0.01,
    show_default=True,
    metavar="FRACTION",
    help="Smallest relative loss that counts as worse, as a fraction.",
)
@reading(without=("baseline_from",))
def compare(a: Path, b: Path, threshold: float, options: StudyOptions) -> None:
    """Check whether study B is worse than A.

    B is worse if it is slower than A or scales worse, by more than the noise of both. A and B are each one log, or one
    folder with all runs of a study. The command compares events/s at every number of workers that both have, and the
    efficiency relative to the smallest of these numbers or to --baseline.

    Exit status: 1 if B is worse in at least one comparison; otherwise 2 if a comparison has too few epochs; otherwise
    0. An error gives 2.
    """
    from scaling.comparison import compare_studies

    comparison = compare_studies(a, b, options, threshold)
    click.echo(comparison.text)
    if comparison.worse or not comparison.decided:
        raise SystemExit(_WORSE if comparison.worse else _UNDECIDED)


@main.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--once", is_flag=True, help="Show the current state and exit.  [default: off]")
@click.option(
    "--every",
    type=click.FloatRange(min=0.1),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="Seconds between two reads of the files.",
)
def watch(folder: Path, once: bool, every: float) -> None:
    """Show the progress of running trainings.

    Show the runs below the folder DIR until all have ended: epochs, events/s, current efficiency and the slowest rank.
    On a terminal this is a table, otherwise a line for each epoch.

    Exit status: 1 if a run did not complete; with --once, if a run is not complete yet; otherwise 0.
    """
    from rich.console import Console

    from scaling.watch import watch as follow

    console = Console()
    if not console.is_terminal:
        console = Console(width=_FILE_WIDTH)
    try:
        complete = follow(folder, console, once=once, every=every)
    except KeyboardInterrupt:
        complete = True
    if not complete:
        raise SystemExit(_WORSE)


@main.command()
@runs_argument
@click.option(
    "--format",
    "kind",
    type=click.Choice(["extra-p"]),
    default="extra-p",
    show_default=True,
    help="Format to write. extra-p: JSON Lines of Extra-P, with one line and the seconds for each epoch.",
)
@click.option(
    "--extra-p",
    "kind",
    flag_value="extra-p",
    help="Same as --format extra-p, the default.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path, allow_dash=True),
    default="-",
    help="File to write.  [default: standard output]",
)
@reading(without=("baseline", "baseline_from"))
def export(runs: tuple[Path, ...], kind: str, out: Path, options: StudyOptions) -> None:
    """Write the times of the epochs in the format of another program."""
    from scaling.models import extrap_lines
    from scaling.report.files import write_text
    from scaling.study import read_study

    text = "".join(f"{line}\n" for line in extrap_lines(read_study(runs, options).epochs))
    if str(out) == "-":
        click.echo(text, nl=False)
    else:
        write_text(out, text)
        click.echo(f"Wrote {out}")


def _print_files(files: list[Path]) -> None:
    click.echo(
        f"Wrote {files[0]} and {len(files) - 1} files beside it: the table (CSV, JSON, Markdown) and the plots "
        "(PNG, SVG)"
    )


def _print_sentences(series: str, sentences: list[str]) -> None:
    from scaling.metrics.epochs import unquoted

    for sentence in sentences:
        click.echo(f"{unquoted(series)}: {sentence}" if series else sentence)


def _print_notes(notes: Iterable[str]) -> None:
    for note in notes:
        click.echo(f"Note: {note}")
