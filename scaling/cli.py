"""The command line `python -m scaling`: options in, text out. What is said comes from the modules it calls.

They are imported by the commands, since pandas and matplotlib take a second to load and --help needs neither. The
options that many commands share are in `options`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from scaling.options import Numbers, Options, reading
from scaling.records import RecordError

__all__ = ["main"]

_WORSE = 1
_UNTOLD = 2
_FILE_WIDTH = 140


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Time per epoch, speed-up and parallel efficiency from the logs of training runs."""


_runs = click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
_model = click.option(
    "--model",
    metavar="NAME",
    help="Model to fit: amdahl, gustafson, usl, training-ring or training-tree.  [default: the one that predicts best]",
)
_at_workers = click.option(
    "--at-workers",
    type=Numbers(),
    default=(),
    metavar="N,N,...",
    help="Workers to forecast.",
)


def _folder(default: Path | None, text: str) -> Any:
    return click.option(
        "--out",
        type=click.Path(file_okay=False, path_type=Path),
        default=default,
        show_default=default is not None,
        help=text,
    )


@main.command()
@_runs
@_folder(Path("scaling-report"), "Folder for the page, the table (CSV, JSON, Markdown) and the plots (PNG, SVG).")
@click.option("--forecast", type=Numbers(), default=(), metavar="NODES", help="Nodes to forecast, such as 256,512.")
@_at_workers
@_model
@click.option("--published", is_flag=True, help="Draw what others have published beside the curves.")
@reading()
def report(
    runs: tuple[Path, ...],
    out: Path,
    forecast: tuple[int, ...],
    at_workers: tuple[int, ...],
    model: str | None,
    published: bool,
    options: Options,
) -> None:
    """Print the scaling table of the runs, and write a page with plots.

    RUN is a log of a training, or a folder: the run.jsonl in it, or else every log below it. Runs with as many
    workers are repeats: their epochs are pooled.
    """
    from scaling.report import forecast_text, make_report, table_text, write_report

    made = make_report(runs, options.study(), forecast, at_workers, model, published)
    click.echo(table_text(made))
    if made.fits:
        click.echo(f"\n{forecast_text(made)}")
    click.echo()
    _wrote(write_report(made, out))


@main.command()
@_runs
@click.option("--nodes", type=Numbers(), default=(), metavar="N,N,...", help="Nodes to forecast, such as 256,512,1024.")
@_at_workers
@click.option("--target-efficiency", type=float, metavar="FRACTION", help="Say up to which size it holds, such as 0.9.")
@_model
@_folder(None, "Also write the report with the forecast into this folder.")
@reading(without=("nodes", "baseline_from"))
def forecast(
    runs: tuple[Path, ...],
    nodes: tuple[int, ...],
    at_workers: tuple[int, ...],
    target_efficiency: float | None,
    model: str | None,
    out: Path | None,
    options: Options,
) -> None:
    """Fit a model to the curve and tell what it expects at other sizes."""
    from scaling.models import plan as make_plan
    from scaling.report import forecast_text, make_report, write_report

    if not nodes and not at_workers:
        raise RecordError("no size to forecast was given; expected --nodes such as 256,512,1024, or --at-workers")
    made = make_report(runs, options.study(), nodes, at_workers, model)
    click.echo(forecast_text(made))
    if target_efficiency is not None:
        for series, fit in made.fits.items():
            _say(series, make_plan(fit, target_efficiency=target_efficiency).sentences())
    for note in made.notes:
        click.echo(f"Note: {note}")
    if out:
        _wrote(write_report(made, out))


@main.command()
@_runs
@click.option("--target-epoch", type=float, metavar="SECONDS", help="Time per epoch that is wanted.")
@click.option("--target-efficiency", type=float, metavar="FRACTION", help="Efficiency to keep, such as 0.9.")
@click.option("--limit", type=click.IntRange(min=1), metavar="NODES", help="The largest size to look at.")
@_model
@reading(without=("baseline_from",))
def plan(
    runs: tuple[Path, ...],
    target_epoch: float | None,
    target_efficiency: float | None,
    limit: int | None,
    model: str | None,
    options: Options,
) -> None:
    """Tell how many nodes a target needs."""
    from scaling.models import plan as make_plan
    from scaling.study import fits_of, read_study

    study = read_study(runs, options.study())
    for series, fit in fits_of(study.curve, model).items():
        _say(series, make_plan(fit, target_epoch, target_efficiency, limit).sentences())
    for note in study.notes:
        click.echo(f"Note: {note}")


@main.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option(
    "--threshold",
    type=click.FloatRange(min=0, max=1, max_open=True),
    default=0.01,
    show_default=True,
    metavar="FRACTION",
    help="The smallest loss that counts.",
)
@reading(without=("baseline_from",))
def compare(a: Path, b: Path, threshold: float, options: Options) -> None:
    """Tell whether B is slower than A or scales worse, beyond the noise of both.

    A and B are two arguments, each one log or one folder with all runs of a study. Compared are events/s at every
    number of workers that both have, and the efficiency against the fewest of these. Exit status 1 if B is worse in
    any, else 2 if any of these cannot be told.
    """
    from scaling.comparing import compare_studies

    outcome = compare_studies(a, b, options.study(), threshold)
    click.echo(outcome.text)
    if outcome.worse or not outcome.told:
        raise SystemExit(_WORSE if outcome.worse else _UNTOLD)


@main.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--once", is_flag=True, help="Show how far the runs are now, and end.")
@click.option(
    "--every",
    type=click.FloatRange(min=0.1),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="Between looks.",
)
def watch(folder: Path, once: bool, every: float) -> None:
    """Follow the runs below a folder until all have ended: epochs, events/s, efficiency so far, the slowest rank.

    A table on a terminal, a line for every epoch elsewhere. Exit status 1 if a run did not complete; with --once, if
    one has not completed yet.
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
@_runs
@click.option("--format", "kind", type=click.Choice(["extra-p"]), default="extra-p", show_default=True)
@click.option("--extra-p", "kind", flag_value="extra-p", help="The same as --format extra-p.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path, allow_dash=True),
    default="-",
    help="File to write.  [default: standard output]",
)
@reading(without=("baseline", "baseline_from"))
def export(runs: tuple[Path, ...], kind: str, out: Path, options: Options) -> None:
    """Write the epochs for another program: Extra-P's JSON Lines, one epoch a line."""
    from scaling.models import extrap_lines
    from scaling.report.files import write_text
    from scaling.study import read_study

    text = "".join(f"{line}\n" for line in extrap_lines(read_study(runs, options.study()).epochs))
    if str(out) == "-":
        click.echo(text, nl=False)
    else:
        write_text(out, text)
        click.echo(f"Wrote {out}")


def _wrote(files: list[Path]) -> None:
    click.echo(f"Wrote {files[0]} and {len(files) - 1} files beside it: the table as CSV, JSON and Markdown, the plots")


def _say(series: str, sentences: list[str]) -> None:
    for sentence in sentences:
        click.echo(f"{series}: {sentence}" if series else sentence)
