"""Write the files of a report: the page, the table in three formats, and every plot as PNG and SVG.

A file is written completely or not at all.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from scaling.plots import Panel, as_text, draw, scaling_figure
from scaling.records import RecordError
from scaling.records.saving import replacing, save_text
from scaling.report.contents import Report
from scaling.report.page import page
from scaling.report.text import markdown

__all__ = ["as_json", "write_report", "write_text"]

_DPI = 160
"""Resolution of the PNG files in dots per inch."""


def write_report(report: Report, out: Path) -> list[Path]:
    """Write a report to the folder `out`, which is created if missing.

    The files are scaling.html, .csv, .json and .md, the curve as scaling.png and .svg, and each plot as NAME.png and
    NAME.svg. The same runs give the same bytes.

    Returns:
        The paths of the files, scaling.html first.

    Raises:
        RecordError: the folder cannot be created or written.
    """
    plots = report.plots()
    three = [plot for plot in plots[:3] if isinstance(plot, Panel)]
    try:
        out.mkdir(parents=True, exist_ok=True)
        written = [
            _text(out / "scaling.html", page(report, plots)),
            _text(out / "scaling.csv", _by_size(report.curve).to_csv(index=False)),
            _text(out / "scaling.json", json.dumps(as_json(report), indent=1, allow_nan=False) + "\n"),
            _text(out / "scaling.md", markdown(report)),
            *_figure(out, "scaling", scaling_figure(report.curve, report.title, three)),
        ]
        for plot in plots:
            written += _figure(out, plot.name, draw(plot))
    except OSError as error:
        raise RecordError(
            f"{out}: the report cannot be written ({error}); expected a folder that can be written. Change --out"
        ) from error
    return written


def as_json(report: Report) -> dict[str, Any]:
    """Return all numbers of a report as JSON values. Unknown numbers are None."""
    return {
        "title": report.title,
        "notes": list(report.notes),
        "curve": _rows(report.curve),
        "breakdown": _rows(report.breakdown),
        "models": {
            series: {
                "model": fit.model.name,
                "parameters": _rows(fit.parameters()),
                "errors": dict(fit.errors),
                "forecast": _rows(fit.forecast(report.forecast_workers[series])),
            }
            for series, fit in report.fits.items()
        },
        "published": [
            {"name": one.name, "source": one.source, "points": [_point(point) for point in one.points]}
            for one in report.published
        ],
        "runs": [
            {
                "source": run.source,
                "format": run.format,
                "series": series,
                "workers": run.workers,
                "nodes": run.nodes,
                "epochs": len(run.epochs),
                "status": run.status,
                "settings": dict(run.settings),
            }
            for run, series in zip(report.runs, report.labels, strict=True)
        ],
    }


def _by_size(curve: pd.DataFrame) -> pd.DataFrame:
    """Return the curve with the column series last. Scripts that read columns by position expect the sizes first."""
    return curve[[*(name for name in curve.columns if name != "series"), *(["series"] if "series" in curve else [])]]


def _point(point: Any) -> dict[str, Any]:
    return {name: getattr(point, name) for name in ("workers", "nodes", "seconds", "efficiency", "relation")}


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): _value(value) for name, value in row.items()} for row in table.to_dict("records")]


def _value(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    if value is None or value is pd.NA or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value


def _figure(out: Path, name: str, figure: Figure) -> Sequence[Path]:
    options: Mapping[str, Mapping[str, Any]] = {"png": {"dpi": _DPI}, "svg": {"metadata": {"Date": None}}}
    written = []
    # Without a fixed salt, the ids in an SVG file are random.
    with matplotlib.rc_context({"svg.hashsalt": "scaling"}), as_text():
        # Compute the layout once for both formats: it takes as long as drawing.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        for kind, settings in options.items():
            path = out / f"{name}.{kind}"
            with replacing(path) as file:
                figure.savefig(file, format=kind, **settings)
            written.append(path)
    return written


def write_text(path: Path, text: str) -> None:
    """Write a text file completely or not at all. Raise RecordError if it cannot be written."""
    try:
        save_text(path, text)
    except OSError as error:
        raise RecordError(
            f"{path} cannot be written ({error}); expected a file that can be written. Change --out"
        ) from error


def _text(path: Path, text: str) -> Path:
    save_text(path, text)
    return path
