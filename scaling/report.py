"""The report on a scaling study: reads runs, refuses unlike ones, and writes a table and plots.

The numbers come from `metrics` and the drawing from `plots`; this module is the only one that writes files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import pandas as pd

from scaling import metrics
from scaling.plots import scaling_figure
from scaling.records import RecordError, Run, read_run

__all__ = ["Report", "make_report", "table_text", "write_report"]

_TITLE_SETTINGS = ("model", "filters", "precision", "optimizer")


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """A scaling study, computed."""

    curve: pd.DataFrame
    """One row per number of workers, as `metrics.curve` gives it."""
    notes: Sequence[str]
    """Sentences that belong under the table."""
    title: str
    """What was run, for the head of the plot."""


def make_report(
    paths: Sequence[Path], skip_epochs: int = 1, baseline: int | None = None, allow_different: bool = False
) -> Report:
    """Read the runs at `paths` (files or their folders; one named twice counts once) and compute their curve.

    Raises:
        RecordError: a file is no record, no run has an epoch, the runs differ in more than size and
            `allow_different` is not set, or no run has `baseline` workers.
    """
    runs = list({run.path.resolve(): run for run in map(read_run, paths)}.values())
    unlike = metrics.differences(runs)
    if unlike and not allow_different:
        raise RecordError(
            f"the runs differ in more than size, so that their times do not compare:\n{_listed(unlike)}\n"
            "Leave out the runs that do not belong, or give --allow-different to compare them all the same"
        )
    epochs = metrics.epochs_table(runs, skip_epochs)
    notes = metrics.notes(runs, epochs, skip_epochs)
    if unlike:
        notes.insert(0, f"The runs differ in more than size:\n{_listed(unlike)}")
    curve = metrics.curve(metrics.points(epochs), baseline)
    return Report(curve=curve, notes=notes, title=_title(runs[0], without=unlike))


def table_text(report: Report) -> str:
    """The table and its notes as lines for a terminal; `-` is an interval that n < 3 does not give."""
    curve = report.curve
    table = pd.DataFrame(
        {
            "workers": curve["workers"].astype(str),
            "nodes": curve["nodes"].astype(str),
            "runs": curve["runs"].astype(str),
            "n": curve["n"].astype(str),
            "s/epoch": curve["seconds"].map(_figures),
            "95% interval": _interval(curve, "seconds", _figures),
            "events/s": curve["events_per_second"].map(_figures),
            "speed-up": curve["speedup"].map("{:.2f}".format),
            "efficiency": curve["efficiency"].map("{:.1%}".format),
            "95% interval ": _interval(curve, "efficiency", "{:.1%}".format),
        }
    )
    baseline = int(curve["baseline"].iloc[0])
    explained = (
        f"Medians over n epochs of training time, without validation and checkpoints. Baseline: {baseline} "
        f"{'worker' if baseline == 1 else 'workers'}. Speed-up is the ratio of events/s."
    )
    return "\n".join([table.to_string(index=False), "", explained, *(f"Note: {note}" for note in report.notes)])


def write_report(report: Report, out: Path) -> list[Path]:
    """Write scaling.csv, scaling.png and scaling.svg into the folder `out` (made if missing); their paths.

    Every file appears whole or not at all. The same runs give the same bytes.

    Raises:
        RecordError: the folder cannot be made or written.
    """
    figure = scaling_figure(report.curve, report.title)
    writers: dict[str, Callable[[Path], None]] = {
        "scaling.csv": lambda path: report.curve.to_csv(path, index=False),
        "scaling.png": lambda path: figure.savefig(path, format="png", dpi=160),
        "scaling.svg": lambda path: figure.savefig(path, format="svg", metadata={"Date": None}),
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        # SVG ids are random unless salted.
        with matplotlib.rc_context({"svg.hashsalt": "scaling"}):
            return [_write_whole(out / name, write) for name, write in writers.items()]
    except OSError as error:
        raise RecordError(f"{out}: the report cannot be written ({error}); choose a folder with --out") from error


def _write_whole(path: Path, write: Callable[[Path], None]) -> Path:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    return path


def _listed(unlike: dict[str, dict[str, list[str]]]) -> str:
    """One line per setting and value: `  batch_size: 8 in a/run.jsonl, b/run.jsonl`."""
    return "\n".join(
        f"  {name}: {value} in {', '.join(paths)}" for name, values in unlike.items() for value, paths in values.items()
    )


def _title(run: Run, without: dict[str, dict[str, list[str]]]) -> str:
    """What the runs have in common, for the head of the plot."""
    settings = run.header.settings
    parts = [f"{name} {settings[name]}" for name in _TITLE_SETTINGS if name in settings and name not in without]
    if "batch_size" not in without:
        parts.append(f"batch size {run.header.batch_size} per worker")
    return ", ".join(parts)


def _figures(value: float) -> str:
    """Four significant figures, without an exponent in the range of times and rates."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _interval(curve: pd.DataFrame, name: str, text: Callable[[float], str]) -> list[str]:
    limits = zip(curve[f"{name}_low"], curve[f"{name}_high"], strict=True)
    return ["-" if pd.isna(low) or pd.isna(high) else f"{text(low)} .. {text(high)}" for low, high in limits]
