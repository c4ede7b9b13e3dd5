"""The HTML page of a report: one file that opens from disk and asks nothing of a network.

The layout is in `page.html.jinja`; what is text comes escaped from there, and the content security policy of the page
forbids it to load anything.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from scaling.metrics import PARTS
from scaling.plots import Plot
from scaling.plots.interactive import config, interactive
from scaling.plots.panels import plain
from scaling.report.making import Report
from scaling.report.text import cells, explained, figures, fitted, forecast_cells, parameter_cells

__all__ = ["page"]

_WIDE = ("placement", "placement-2")
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
"""Column of the curve behind a column of the table."""
_MOST_RUNS = 300


def page(report: Report, plots: Sequence[Plot]) -> str:
    """The page, with all plots interactive and the library that draws them inside."""
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
        explained=explained(report.curve),
        forecasts=_forecasts(report),
        shares=_shares(report.breakdown),
        slow=_slow_ranks(report),
        notes=report.notes,
        warnings=_warnings(report),
        runs=[
            {
                "source": run.source,
                "series": plain(series),
                "format": run.format,
                "workers": run.workers,
                "nodes": "-" if run.nodes is None else run.nodes,
                "epochs": len(run.epochs),
                "status": run.status,
            }
            for run, series in list(zip(report.runs, report.labels or [""] * len(report.runs), strict=True))[
                :_MOST_RUNS
            ]
        ],
        more_runs=max(0, len(report.runs) - _MOST_RUNS),
        versions=_versions(report),
    )


def _summary(report: Report) -> str:
    sizes = report.curve["workers"]
    repeated = f"{len(report.runs)} run{'s' * (len(report.runs) != 1)} on " if report.runs else ""
    return f"{repeated}{sizes.min()} to {sizes.max()} workers"


def _tiles(report: Report) -> Iterator[Mapping[str, str]]:
    """The largest size of the first curve in four numbers."""
    first = report.curve["series"].iloc[0] if "series" in report.curve else None
    own = report.curve if first is None else report.curve[report.curve["series"] == first]
    row = own.loc[own["workers"].idxmax()]
    nodes = "" if pd.isna(row["nodes"]) else f" on {int(row['nodes'])} node{'s' * (int(row['nodes']) > 1)}"
    yield {"head": "Largest size", "value": f"{int(row['workers']):,}", "note": f"workers{nodes}"}
    yield {"head": "Time per epoch", "value": f"{figures(row['seconds'])} s", "note": _between(row, "seconds", figures)}
    yield {
        "head": "Speed-up",
        "value": f"{row['speedup']:.2f}",
        "note": f"over {_workers(int(row['baseline']))}, ideal {row['ideal_speedup']:.4g}",
    }
    yield {
        "head": "Parallel efficiency",
        "value": f"{row['efficiency']:.1%}",
        "note": _between(row, "efficiency", "{:.1%}".format),
    }
    if "node_hours" in row and pd.notna(row["node_hours"]):
        yield {"head": "Cost of an epoch", "value": figures(row["node_hours"]), "note": "node-hours"}


def _workers(number: int) -> str:
    return f"{number} worker{'s' * (number > 1)}"


def _between(row: pd.Series, name: str, text: Any) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return "no interval" if pd.isna(low) or pd.isna(high) else f"95%: {text(low)} .. {text(high)}"


def _table(curve: pd.DataFrame) -> Mapping[str, Any]:
    """Heads and rows; a cell has its text and, where it is a number of the curve, the number as the CSV holds it."""
    shown = cells(curve)
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
    tables = forecast_cells(report)
    return [
        {
            "series": plain(series),
            "said": fitted(report, series),
            "table": _plain_table(tables[series]),
            "parameters": _plain_table(parameter_cells(fit.parameters())),
        }
        for series, fit in report.fits.items()
    ]


def _shares(breakdown: pd.DataFrame) -> Mapping[str, Any] | None:
    """POP's efficiencies beside the rank that was slowest most often."""
    if breakdown.empty:
        return None
    shown = pd.DataFrame()
    if breakdown["series"].nunique() > 1:
        shown["series"] = breakdown["series"].map(plain)
    shown["workers"] = breakdown["workers"].astype(str)
    for name in ("parallel_efficiency", "load_balance", "communication_efficiency", "computation_scaling", *PARTS[2:]):
        shown[name.replace("_", " ")] = breakdown[name].map(lambda value: "-" if pd.isna(value) else f"{value:.1%}")
    shown["slowest rank"] = [
        "-" if pd.isna(rank) else f"{rank} on {host}"
        for rank, host in zip(breakdown["slowest_rank"], breakdown["slowest_host"], strict=True)
    ]
    return _plain_table(shown)


def _slow_ranks(report: Report) -> Mapping[str, Any] | None:
    """Ranks that computed 20% or more over the median in any epoch, worst first."""
    found: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for run in report.runs:
        for epoch in run.record.epochs if run.record else ():
            for slow in epoch.slow_ranks:
                ratio = slow.get("ratio")
                if isinstance(ratio, (int, float)):
                    found[str(slow.get("host", "?")), str(slow.get("rank", "?")), run.source].append(float(ratio))
    if not found:
        return None
    worst = sorted(found.items(), key=lambda item: -max(item[1]))[:20]
    return {
        "heads": ["host", "rank", "epochs", "worst ratio", "run"],
        "rows": [[host, rank, len(ratios), f"{max(ratios):.2f}", path] for (host, rank, path), ratios in worst],
    }


def _warnings(report: Report) -> list[str]:
    said = (w for run in report.runs if run.record for w in run.record.header.placement_warnings)
    return list(dict.fromkeys(map(str, said)))[:20]


def _versions(report: Report) -> list[str]:
    """What ran, each combination once."""
    found: dict[str, None] = {}
    for run in report.runs:
        if run.record is None:
            continue
        header = run.record.header
        parts = [f"{name} {version}" for name, version in header.versions.items()]
        parts += [f"commit {header.git_commit[:12]}"] if header.git_commit else []
        if parts:
            found[", ".join(parts)] = None
    return list(found)[:10]
