"""The command line `python -m scaling`: options in, text out. All else is left to `report`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from scaling.records import RecordError

__all__ = ["main"]


class _Failure(click.ClickException):
    exit_code = 2


class _Group(click.Group):
    """Turns the package's own errors into one line on stderr and exit status 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except RecordError as error:
            raise _Failure(str(error)) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Time per epoch, speed-up and parallel efficiency from the records of training runs."""


@main.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("scaling-report"),
    show_default=True,
    help="Folder for scaling.csv, scaling.png and scaling.svg.",
)
@click.option(
    "--skip-epochs",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Epochs to leave out at the start of each run, or after its last resume: they hold start-up work.",
)
@click.option(
    "--baseline",
    type=click.IntRange(min=1),
    metavar="WORKERS",
    help="Number of workers to compare with.  [default: the fewest]",
)
@click.option("--allow-different", is_flag=True, help="Compare runs even if they differ in more than size.")
def report(runs: tuple[Path, ...], out: Path, skip_epochs: int, baseline: int | None, allow_different: bool) -> None:
    """Print the scaling table of the runs and plot it.

    RUN is the run.jsonl of a training run, or the folder that holds it. Runs with as many workers are
    repeats: their epochs are pooled.
    """
    # Here, since pandas and matplotlib take a second to load and --help needs neither.
    from scaling.report import make_report, table_text, write_report

    made = make_report(runs, skip_epochs, baseline, allow_different)
    click.echo(table_text(made))
    click.echo()
    for path in write_report(made, out):
        click.echo(f"Wrote {path}")
