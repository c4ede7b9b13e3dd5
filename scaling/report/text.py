"""The tables of a report for people: lines for a terminal, Markdown, and cells for the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from scaling.plots.panels import LEFT_OUT, plain
from scaling.report.making import Report

__all__ = ["cells", "explained", "figures", "forecast_text", "markdown", "table_text"]


def table_text(report: Report) -> str:
    """The table and its notes as lines for a terminal; `-` is what the runs do not tell."""
    lines = [_lines(cells(report.curve)), "", explained(report.curve), *(f"Note: {note}" for note in report.notes)]
    return "\n".join(lines)


def markdown(report: Report) -> str:
    """The same as a Markdown document, with the forecast where there is one."""
    parts = [f"# Scaling: {report.title}" if report.title else "# Scaling", _markdown_table(cells(report.curve))]
    parts.append(explained(report.curve))
    for series, fit in report.fits.items():
        name = f" of {plain(series)}" if series else ""
        parts += [f"## Forecast{name}", fitted(report, series), _markdown_table(_forecast_cells(report, series))]
        parts.append(_markdown_table(parameter_cells(fit.parameters())))
    if report.notes:
        parts.append("\n".join(f"- {_one_line(note)}" for note in report.notes))
    return "\n\n".join(parts) + "\n"


def forecast_text(report: Report) -> str:
    """The forecasts of a report for a terminal, each with its model and what the parameters are."""
    said = []
    for series, fit in report.fits.items():
        if len(report.fits) > 1:
            said.append(f"{plain(series)}:")
        said += [fitted(report, series), "", _lines(_forecast_cells(report, series)), ""]
        said += [_lines(parameter_cells(fit.parameters())), ""]
    return "\n".join(said).rstrip()


def fitted(report: Report, series: str) -> str:
    """One paragraph on a fit: which model, how well it predicts, and where the forecast leaves what was measured."""
    fit = report.fits[series]
    said = [
        f"Model: {fit.model.name}, fitted to {len(fit.measured)} sizes from {fit.measured[0]} to {fit.measured[-1]}."
    ]
    if fit.errors:
        order = sorted(fit.errors.items(), key=lambda item: item[1])
        errors = ", ".join(f"{name} {error:.1%}" for name, error in order)
        said.append(f"Error of predicting sizes left out of the fit: {errors}.")
    beyond = [n for n in report.asked[series] if not fit.measured[0] <= n <= fit.measured[-1]]
    if beyond:
        said.append(
            f"Extrapolated at {', '.join(map(str, beyond))} workers: the band holds what the points leave open, not "
            "what no measured size shows."
        )
    return " ".join(said)


def cells(curve: pd.DataFrame) -> pd.DataFrame:
    """The table of a curve as text, with the columns that a reader needs."""
    columns: dict[str, Any] = {}
    if curve["series"].nunique() > 1 if "series" in curve else False:
        columns["series"] = curve["series"].map(plain)
    columns |= {
        "workers": curve["workers"].astype(str),
        "nodes": curve["nodes"].map(_count),
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
    """The parameters of a fit as text."""
    return pd.DataFrame(
        {
            "parameter": parameters["parameter"],
            "value": parameters["value"].map(_small),
            "95% interval": [
                "-" if pd.isna(low) else f"{_small(low)} .. {_small(high)}"
                for low, high in zip(parameters["low"], parameters["high"], strict=True)
            ],
        }
    )


def _forecast_cells(report: Report, series: str) -> pd.DataFrame:
    table = report.fits[series].forecast(report.asked[series])
    return pd.DataFrame(
        {
            "workers": table["workers"].astype(str),
            "nodes": table["nodes"].map(_count),
            "s/epoch": table["seconds"].map(figures),
            "95% interval": _interval(table, "seconds", figures),
            "speed-up": table["speedup"].map("{:.2f}".format),
            "efficiency": table["efficiency"].map("{:.1%}".format),
            "95% interval ": _interval(table, "efficiency", "{:.1%}".format),
            "": table["extrapolated"].map({True: "extrapolated", False: ""}),
        }
    )


def forecast_cells(report: Report) -> Mapping[str, pd.DataFrame]:
    """The forecasts as text, by series."""
    return {series: _forecast_cells(report, series) for series in report.fits}


def explained(curve: pd.DataFrame) -> str:
    """What the columns mean."""
    baselines = sorted({int(n) for n in curve["baseline"]})
    if len(baselines) == 1:
        base = f"{baselines[0]} {'worker' if baselines[0] == 1 else 'workers'}"
    else:
        base = f"{', '.join(map(str, baselines))} workers, of each curve its own"
    kept = {"strong": " The global batch is kept.", "weak": " Events per worker are kept."}
    return (
        f"Medians over n epochs of training time; {LEFT_OUT}. Baseline: {base}. Speed-up is "
        f"the ratio of events/s.{kept.get(str(curve['mode'].iloc[0]), '')}"
    )


def figures(value: float) -> str:
    """Four significant figures, without an exponent in the range of times and rates; `-` for what is not known."""
    if pd.isna(value):
        return "-"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _small(value: float) -> str:
    return "-" if pd.isna(value) else f"{value:.3g}"


def _count(value: Any) -> str:
    return "-" if pd.isna(value) else str(int(value))


def _interval(table: pd.DataFrame, name: str, text: Callable[[float], str]) -> list[str]:
    limits = zip(table[f"{name}_low"], table[f"{name}_high"], strict=True)
    return ["-" if pd.isna(low) or pd.isna(high) else f"{text(low)} .. {text(high)}" for low, high in limits]


def _lines(table: pd.DataFrame) -> str:
    return str(table.to_string(index=False))


def _markdown_table(table: pd.DataFrame) -> str:
    rows = [[_one_line(str(cell)).replace("|", "\\|") for cell in row] for row in table.to_numpy().tolist()]
    heads = [str(name).strip() for name in table.columns]
    marks = ["---:" if name not in ("series", "parameter", "") else "---" for name in heads]
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, marks, *rows))


def _one_line(text: str) -> str:
    return " ".join(text.split())
