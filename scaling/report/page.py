"""The HTML page of a report: one file that opens from disk and needs no network.

The layout is in `page.html.jinja`. The template escapes all text, and the content security policy of the page forbids
loading anything.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from scaling.metrics import PARTS
from scaling.metrics.epochs import unquoted
from scaling.plots import Plot
from scaling.plots.interactive import config, interactive
from scaling.records.wording import count
from scaling.report.contents import Report
from scaling.report.text import (
    column_notes,
    curve_cells,
    figures,
    fit_text,
    forecast_cells,
    interval_text,
    parameter_cells,
)

__all__ = ["page"]

_WIDE = ("placement", "placement-2")
"""Names of the plots that take the full width of the page."""
_NUMBERS = {
    "workers": "workers",
    "nodes": "nodes",
    "runs": "runs",
    "n": "n",
    "s/epoch": "seconds",
    "events/s": "events_per_second",
    "speed-up": "speedup",
    "efficiency": "efficiency",
    "node-h/epoch": "node_hours",
    "core-h/epoch": "core_hours",
}
"""Numeric columns of the table, with the column of the curve that each one shows."""
_MOST_RUNS = 300
"""Largest number of runs in the list of runs."""
_MOST_SLOW = 20
"""Largest number of rows in the table of slow ranks."""
_MOST_WARNINGS = 20
_MOST_VERSIONS = 10


def page(report: Report, plots: Sequence[Plot]) -> str:
    """Return the page as HTML, with interactive plots and the library that draws them."""
    environment = Environment(
        loader=PackageLoader("scaling.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    template = environment.get_template("page.html.jinja")
    return template.render(
        title=report.title or "Scaling study",
        summary=_summary(report),
        tiles=list(_tiles(report)),
        library=Markup(get_plotlyjs()),
        plots=[
            {
                "name": plot.name,
                "title": plot.title,
                "caption": plot.caption,
                "wide": plot.name in _WIDE,
                "figure": Markup(
                    interactive(plot).to_html(
                        full_html=False, include_plotlyjs=False, div_id=f"plot-{plot.name}", config=config(plot)
                    )
                ),
            }
            for plot in plots
        ],
        table=_table(report.curve),
        column_notes=column_notes(report.curve),
        forecasts=_forecasts(report),
        efficiencies=_efficiencies(report.breakdown),
        slow=_slow_ranks(report),
        notes=report.notes,
        warnings=_warnings(report),
        runs=[
            {
                "source": run.source,
                "series": unquoted(series),
                "format": run.format,
                "workers": run.workers,
                "nodes": "-" if run.nodes is None else run.nodes,
                "epochs": len(run.epochs),
                "status": run.status,
            }
            for run, series in list(zip(report.runs, report.labels, strict=True))[:_MOST_RUNS]
        ],
        more_runs=max(0, len(report.runs) - _MOST_RUNS),
        versions=_versions(report),
    )


def _summary(report: Report) -> str:
    sizes = report.curve["workers"]
    runs = f"{count(len(report.runs), 'run')} on " if report.runs else ""
    smallest = f"{sizes.min()} to " if sizes.min() < sizes.max() else ""
    return f"{runs}{smallest}{count(int(sizes.max()), 'worker')}"


def _tiles(report: Report) -> Iterator[Mapping[str, str]]:
    """Yield the main numbers of the largest size of the first curve."""
    first = report.curve["series"].iloc[0] if "series" in report.curve else None
    own = report.curve if first is None else report.curve[report.curve["series"] == first]
    row = own.loc[own["workers"].idxmax()]
    number, _, unit = count(int(row["workers"]), "worker").partition(" ")
    nodes = "" if pd.isna(row["nodes"]) else f" on {count(int(row['nodes']), 'node')}"
    curve = f", {unquoted(str(first))}" if first else ""
    yield {"head": "Largest size", "value": number, "note": f"{unit}{nodes}{curve}"}
    seconds = _interval(row, "seconds", figures)
    yield {"head": "Time per epoch", "value": f"{figures(row['seconds'])} s", "note": seconds}
    yield {
        "head": "Speed-up",
        "value": f"{row['speedup']:.2f}",
        "note": f"over {count(int(row['baseline']), 'worker')}, ideal {row['ideal_speedup']:.4g}",
    }
    yield {
        "head": "Parallel efficiency",
        "value": f"{row['efficiency']:.1%}",
        "note": _interval(row, "efficiency", "{:.1%}".format),
    }
    if "node_hours" in row and pd.notna(row["node_hours"]):
        yield {"head": "Cost of an epoch", "value": figures(row["node_hours"]), "note": "node-hours"}


def _interval(row: pd.Series, name: str, text: Callable[[float], str]) -> str:
    [interval] = interval_text([row[f"{name}_low"]], [row[f"{name}_high"]], text)
    return "no interval" if interval == "-" else f"95% interval {interval}"


def _table(curve: pd.DataFrame) -> Mapping[str, Any]:
    """Return the headings and rows of the table. A numeric cell also has its column and value in the CSV file."""
    shown = curve_cells(curve)
    rows = []
    for number, texts in enumerate(shown.to_numpy().tolist()):
        row = curve.iloc[number]
        rows.append(
            [
                {"text": text, "column": _NUMBERS.get(head, ""), "value": _exact(row, _NUMBERS.get(head))}
                for head, text in zip(shown.columns, texts, strict=True)
            ]
        )
    return {"heads": [str(head).strip() for head in shown.columns], "rows": rows}


def _exact(row: pd.Series, column: str | None) -> str:
    if column is None or pd.isna(row[column]):
        return ""
    return repr(row[column].item() if hasattr(row[column], "item") else row[column])


def _plain_table(table: pd.DataFrame) -> Mapping[str, Any]:
    return {"heads": [str(head).strip() for head in table.columns], "rows": table.to_numpy().tolist()}


def _forecasts(report: Report) -> list[Mapping[str, Any]]:
    return [
        {
            "series": unquoted(series),
            "text": fit_text(report, series),
            "table": _plain_table(forecast_cells(report, series)),
            "parameters": _plain_table(parameter_cells(fit.parameters())),
        }
        for series, fit in report.fits.items()
    ]


def _efficiencies(breakdown: pd.DataFrame) -> Mapping[str, Any] | None:
    """Return a table with the efficiencies of POP, the parts of an epoch and the rank that was slowest most often."""
    if breakdown.empty:
        return None
    shown = pd.DataFrame()
    if breakdown["series"].nunique() > 1:
        shown["series"] = breakdown["series"].map(unquoted)
    shown["workers"] = breakdown["workers"].astype(str)
    for name in ("parallel_efficiency", "load_balance", "communication_efficiency", "computation_scaling", *PARTS[2:]):
        shown[name.replace("_", " ")] = breakdown[name].map(lambda value: "-" if pd.isna(value) else f"{value:.1%}")
    shown["slowest rank"] = [
        "-" if pd.isna(rank) else f"{rank} on {host}"
        for rank, host in zip(breakdown["slowest_rank"], breakdown["slowest_host"], strict=True)
    ]
    return _plain_table(shown)


def _slow_ranks(report: Report) -> Mapping[str, Any] | None:
    """Return a table of the ranks that were marked as slow in any epoch, or None. The slowest rank is first."""
    ratios: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for run in report.runs:
        for epoch in run.record.epochs if run.record else ():
            for slow in epoch.slow_ranks:
                ratio = slow.get("ratio")
                if isinstance(ratio, (int, float)):
                    ratios[str(slow.get("host", "?")), str(slow.get("rank", "?")), run.source].append(float(ratio))
    if not ratios:
        return None
    worst = sorted(ratios.items(), key=lambda item: -max(item[1]))[:_MOST_SLOW]
    return {
        "heads": ["host", "rank", "slow epochs", "largest ratio", "run"],
        "rows": [[host, rank, len(own), f"{max(own):.2f}", path] for (host, rank, path), own in worst],
    }


def _warnings(report: Report) -> list[str]:
    """Return the warnings about placement of all runs, each once."""
    warnings = (w for run in report.runs if run.record for w in run.record.header.placement_warnings)
    return list(dict.fromkeys(map(str, warnings)))[:_MOST_WARNINGS]


def _versions(report: Report) -> list[str]:
    """Return the versions of the software of all runs, each combination once."""
    versions: dict[str, None] = {}
    for run in report.runs:
        if run.record is None:
            continue
        header = run.record.header
        parts = [f"{name} {version}" for name, version in header.versions.items()]
        parts += [f"commit {header.git_commit[:12]}"] if header.git_commit else []
        if parts:
            versions[", ".join(parts)] = None
    return list(versions)[:_MOST_VERSIONS]
