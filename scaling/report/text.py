"""The tables of a report as text: lines for a terminal, Markdown, and cells for the page."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pandas as pd

from scaling.metrics.epochs import unquoted
from scaling.models.laws import PARAMETERS
from scaling.plots.panels import LEFT_OUT
from scaling.records.wording import count, markdown_text
from scaling.report.contents import Report

__all__ = [
    "column_notes",
    "curve_cells",
    "figures",
    "fit_text",
    "forecast_cells",
    "forecast_text",
    "interval_text",
    "markdown",
    "parameter_cells",
    "table_text",
]


def table_text(report: Report) -> str:
    """Return the table and its notes as text for a terminal. `-` means not known."""
    notes = [column_notes(report.curve), *(f"Note: {note}" for note in report.notes)]
    return "\n".join([_lines(curve_cells(report.curve)), "", *notes])


def markdown(report: Report) -> str:
    """Return the table, the notes and any forecasts as a Markdown document."""
    title = f"# Scaling: {markdown_text(report.title)}" if report.title else "# Scaling"
    parts = [title, _markdown_table(curve_cells(report.curve))]
    parts.append(column_notes(report.curve))
    for series, fit in report.fits.items():
        name = f" of {markdown_text(unquoted(series))}" if series else ""
        parts += [f"## Forecast{name}", fit_text(report, series), _markdown_table(forecast_cells(report, series))]
        parts.append(_markdown_table(parameter_cells(fit.parameters())))
    if report.notes:
        parts.append("\n".join(f"- {markdown_text(note)}" for note in report.notes))
    return "\n\n".join(parts) + "\n"


def forecast_text(report: Report) -> str:
    """Return the forecasts as text for a terminal, each with its model and the model's parameters."""
    parts = []
    for series, fit in report.fits.items():
        if len(report.fits) > 1:
            parts.append(f"{unquoted(series)}:")
        parts += [fit_text(report, series), "", _lines(forecast_cells(report, series)), ""]
        parts += [_lines(parameter_cells(fit.parameters())), ""]
    return "\n".join(parts).rstrip()


def fit_text(report: Report, series: str) -> str:
    """Return a paragraph on a fit: its model, its prediction error, and which forecasts are extrapolated."""
    fit = report.fits[series]
    sentences = [
        f"Model: {fit.model.name} ({fit.model.label}), fitted to {len(fit.measured)} sizes from {fit.measured[0]} to "
        f"{count(int(fit.measured[-1]), 'worker')}."
    ]
    if fit.errors:
        order = sorted(fit.errors.items(), key=lambda item: item[1])
        errors = ", ".join(f"{name} {error:.1%}" for name, error in order)
        sentences.append(f"Error when predicting sizes outside the fit: {errors}.")
    beyond = [n for n in report.forecast_workers[series] if not fit.measured[0] <= n <= fit.measured[-1]]
    if beyond:
        sentences.append(
            f"Extrapolated at {', '.join(map(str, beyond))} workers: the intervals include the uncertainty of the fit, "
            "but not effects that no measured size shows."
        )
    return " ".join(sentences)


def curve_cells(curve: pd.DataFrame) -> pd.DataFrame:
    """Return the main columns of a curve as text."""
    columns: dict[str, Any] = {}
    if curve["series"].nunique() > 1 if "series" in curve else False:
        columns["series"] = curve["series"].map(unquoted)
    columns |= {
        "workers": curve["workers"].astype(str),
        "nodes": curve["nodes"].map(_whole),
        "runs": curve["runs"].astype(str),
        "n": curve["n"].astype(str),
        "s/epoch": curve["seconds"].map(figures),
        "95% interval": _interval(curve, "seconds", figures),
        "events/s": curve["events_per_second"].map(figures),
        "speed-up": curve["speedup"].map("{:.2f}".format),
        "efficiency": curve["efficiency"].map("{:.1%}".format),
        "95% interval ": _interval(curve, "efficiency", "{:.1%}".format),
    }
    for name, heading in (("node_hours", "node-h/epoch"), ("core_hours", "core-h/epoch")):
        if name in curve and curve[name].notna().any():
            columns[heading] = curve[name].map(figures)
    return pd.DataFrame(columns)


def parameter_cells(parameters: pd.DataFrame) -> pd.DataFrame:
    """Return the result of `Fit.parameters` as text, with the meaning of each parameter."""
    return pd.DataFrame(
        {
            "parameter": parameters["parameter"],
            "value": parameters["value"].map(_small),
            "95% interval": interval_text(parameters["low"], parameters["high"], _small),
            "meaning": parameters["parameter"].map(PARAMETERS),
        }
    )


def forecast_cells(report: Report, series: str) -> pd.DataFrame:
    """Return the forecast of a series as text."""
    table = report.fits[series].forecast(report.forecast_workers[series])
    return pd.DataFrame(
        {
            "workers": table["workers"].astype(str),
            "nodes": table["nodes"].map(_whole),
            "s/epoch": table["seconds"].map(figures),
            "95% interval": _interval(table, "seconds", figures),
            "speed-up": table["speedup"].map("{:.2f}".format),
            "efficiency": table["efficiency"].map("{:.1%}".format),
            "95% interval ": _interval(table, "efficiency", "{:.1%}".format),
            "": table["extrapolated"].map({True: "extrapolated", False: ""}),
        }
    )


def column_notes(curve: pd.DataFrame) -> str:
    """Return sentences that define the columns of the table."""
    baselines = sorted({int(n) for n in curve["baseline"]})
    if len(baselines) == 1:
        base = count(baselines[0], "worker")
    else:
        base = f"{', '.join(map(str, baselines))} workers, one for each curve"
    kept = {
        "strong": " Strong scaling: the global batch is the same for all sizes.",
        "weak": " Weak scaling: the events per worker are the same for all sizes.",
    }
    return (
        f"Times are medians of the training time over n epochs; {LEFT_OUT}. Speed-up is the ratio of events/s to "
        f"those of the baseline. Baseline: {base}.{kept.get(str(curve['mode'].iloc[0]), '')}"
    )


def figures(value: float) -> str:
    """Return a time or rate with four significant figures and no exponent, or `-` if it is missing."""
    if pd.isna(value):
        return "-"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def interval_text(lows: Iterable[float], highs: Iterable[float], text: Callable[[float], str]) -> list[str]:
    """Return intervals such as `1.5 .. 2`, or `-` if a limit is missing.

    Args:
        lows, highs: the limits.
        text: function that formats a limit.
    """
    limits = zip(lows, highs, strict=True)
    return ["-" if pd.isna(low) or pd.isna(high) else f"{text(low)} .. {text(high)}" for low, high in limits]


def _small(value: float) -> str:
    return "-" if pd.isna(value) else f"{value:.3g}"


def _whole(value: Any) -> str:
    return "-" if pd.isna(value) else str(int(value))


def _interval(table: pd.DataFrame, name: str, text: Callable[[float], str]) -> list[str]:
    return interval_text(table[f"{name}_low"], table[f"{name}_high"], text)


def _lines(table: pd.DataFrame) -> str:
    return str(table.to_string(index=False))


def _markdown_table(table: pd.DataFrame) -> str:
    rows = [[markdown_text(str(cell)) for cell in row] for row in table.to_numpy().tolist()]
    heads = [str(name).strip() for name in table.columns]
    marks = ["---:" if name not in ("series", "parameter", "meaning", "") else "---" for name in heads]
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, marks, *rows))
