"""Descriptions of the plots of a curve: time per epoch, speed-up, efficiency, and the parts of an epoch.

They are made from tables of `metrics` and `models`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from scaling.metrics.epochs import unquoted
from scaling.plots.describe import Bars, Line, Panel, Side
from scaling.published import Published
from scaling.records.wording import count

__all__ = ["LEFT_OUT", "breakdown_panels", "curve_panels", "series_of"]

_PARTS: Mapping[str, str] = {
    "compute": "computing",
    "slower": "slower computing than at the baseline",
    "imbalance": "waiting for slower ranks",
    "communication": "communication",
    "input": "waiting for input",
}
LEFT_OUT = "validation and checkpoints are not included if the logs record them separately"
"""Text for notes and captions: what the training time does not include."""
_MOST_LABELS = 8
"""Largest number of points whose values are printed beside them."""
_MOST_BREAKDOWNS = 4
"""Largest number of series with a plot of the parts of an epoch."""
_SIDES: Mapping[str, Side] = {"seconds": "above", "speedup": "right", "efficiency": "below"}
"""Side of a point with free space for a label, for each quantity."""


def series_of(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return the label and the rows of each series in a table. The label is empty if there is no column `series`."""
    if "series" not in table:
        return [("", table)]
    return [(str(name), part) for name, part in table.groupby("series", sort=False)]


def curve_panels(
    curve: pd.DataFrame,
    forecasts: Mapping[str, pd.DataFrame] | None = None,
    published: Sequence[Published] = (),
) -> list[Panel]:
    """Return panels of time per epoch, speed-up and efficiency over workers, each with the ideal line.

    Args:
        curve: result of `metrics.curve`, for one or several series.
        forecasts: results of `Fit.forecast` by series.
        published: published studies. Each is drawn in the panels whose quantity it gives, except the speed-up.
    """
    forecasts = forecasts or {}
    curves = series_of(curve)
    ticks = _ticks(curve, forecasts)
    baselines = sorted({int(b) for b in curve["baseline"]})
    if len(baselines) == 1:
        over = f"Speed-up over {count(baselines[0], 'worker')}"
    else:
        over = "Speed-up over the baseline of the curve"
    panels = []
    for name, title, label, scale, digits in (
        ("seconds", "Time per epoch", "Time per epoch (s)", "log", ".4g"),
        ("speedup", "Speed-up", over, "log", ".2f"),
        ("efficiency", "Parallel efficiency", "Parallel efficiency", "linear", ".1%"),
    ):
        ideals = list(_ideals(name, curves, ticks))
        measured = [_measured(name, label, table, i, len(curves)) for i, (label, table) in enumerate(curves)]
        expected = [
            _forecast(name, label, forecasts[label], i, len(curves))
            for i, (label, _) in enumerate(curves)
            if label in forecasts
        ]
        lines = [_published(name, one, len(curves) + i) for i, one in enumerate(published)]
        others = [line for line in lines if line is not None]
        sources = [one for one, line in zip(published, lines, strict=True) if line is not None]
        panels.append(
            Panel(
                name=name,
                title=title,
                x_label="Workers",
                y_label=label,
                lines=[*ideals, *measured, *expected, *others],
                x_ticks=sorted({*ticks, *(x for line in others for x in line.x)}),
                y_scale="log" if scale == "log" else "linear",
                percent=name == "efficiency",
                from_zero=name == "efficiency",
                digits=digits,
                caption=_caption(name, bool(forecasts), sources),
            )
        )
    return panels


def breakdown_panels(breakdown: pd.DataFrame) -> list[Panel]:
    """Return a panel for each series with the parts of an epoch as stacked bars, one bar for each size.

    Args:
        breakdown: result of `metrics.breakdown`. It may be empty.
    """
    return [
        _breakdown_panel(part, unquoted(series), number)
        for number, (series, part) in enumerate(series_of(breakdown)[:_MOST_BREAKDOWNS])
        if len(part)
    ]


def _breakdown_panel(part: pd.DataFrame, series: str, number: int) -> Panel:
    return Panel(
        name="breakdown" if number == 0 else f"breakdown-{number + 1}",
        title="Parts of the time of an epoch" + (f": {series}" if series else ""),
        x_label="Workers",
        y_label="Fraction of the epoch",
        bars=[
            Bars(label=text, y=part[name].fillna(0.0).astype(float).tolist(), style=i)
            for i, (name, text) in enumerate(_PARTS.items())
        ],
        categories=[str(int(workers)) for workers in part["workers"]],
        percent=True,
        from_zero=True,
        digits=".1%",
        caption="Medians over epochs, as fractions of the training time. Waiting for slower ranks is the part of the "
        "gradient exchange in which faster ranks wait for the slowest. Communication is the rest of the exchange.",
    )


def _ticks(curve: pd.DataFrame, forecasts: Mapping[str, pd.DataFrame]) -> list[float]:
    """Return the measured sizes, and beyond them doubled sizes up to the end of the forecasts."""
    sizes = sorted({float(n) for n in curve["workers"]})
    last = max((float(table["workers"].max()) for table in forecasts.values()), default=0.0)
    while 2 * sizes[-1] <= last:
        sizes.append(2 * sizes[-1])
    return [*sizes, last] if last > sizes[-1] else sizes


def _measured(name: str, series: str, table: pd.DataFrame, style: int, curves: int) -> Line:
    return Line(
        label=unquoted(series) if curves > 1 and series else "median, 95% interval",
        x=table["workers"].astype(float).tolist(),
        y=table[name].astype(float).tolist(),
        low=table[f"{name}_low"].astype(float).tolist(),
        high=table[f"{name}_high"].astype(float).tolist(),
        style=style,
        hover=[_hover(row) for _, row in table.iterrows()],
        values=_SIDES[name] if curves == 1 and len(table) <= _MOST_LABELS else None,
    )


def _forecast(name: str, series: str, table: pd.DataFrame, style: int, curves: int) -> Line:
    extrapolated = table["extrapolated"] if "extrapolated" in table else pd.Series(True, index=table.index)
    return Line(
        label=f"{unquoted(series)}: forecast" if curves > 1 and series else "forecast, 95% interval",
        x=table["workers"].astype(float).tolist(),
        y=table[name].astype(float).tolist(),
        low=table[f"{name}_low"].astype(float).tolist(),
        high=table[f"{name}_high"].astype(float).tolist(),
        style=style,
        role="forecast",
        hover=["extrapolated" if beyond else "within the measured sizes" for beyond in extrapolated],
    )


def _ideals(name: str, curves: Sequence[tuple[str, pd.DataFrame]], sizes: Sequence[float]) -> Iterator[Line]:
    """Yield the ideal line of each curve over the ascending `sizes`. Equal lines are drawn once."""
    seen: set[tuple[float, ...]] = set()
    for _, table in curves:
        baseline = float(table["baseline"].iloc[0])
        if name == "efficiency":
            values = [1.0] * len(sizes)
        elif name == "speedup":
            values = [n / baseline for n in sizes]
        else:
            # Use the ideal time of measured sizes: the number of events in an epoch changes a little with the size.
            own = dict(zip(table["workers"].astype(float), table["ideal_seconds"].astype(float), strict=True))
            first = min(own)
            # In weak scaling the work grows with the workers, so the ideal time is the same at every size.
            weak = "mode" in table and table["mode"].iloc[0] == "weak"
            values = [own.get(n, own[first] * (1 if weak else first / n)) for n in sizes]
        if tuple(values) not in seen:
            label = "ideal" if not seen else f"ideal from {count(int(baseline), 'worker')}"
            yield Line(label=label, x=sizes, y=values, role="ideal", named=not seen or name == "speedup")
        seen.add(tuple(values))


def _published(name: str, one: Published, style: int) -> Line | None:
    # Do not draw a published speed-up: its baseline is not the baseline of the ideal line.
    if name == "speedup":
        return None
    known = [point for point in one.points if getattr(point, name) is not None]
    if not known:
        return None
    return Line(
        label=one.name,
        x=[float(point.workers) for point in known],
        y=[getattr(point, name) for point in known],
        style=style,
        role="published",
        hover=[f"{one.relation(point)}<br>{one.source}" for point in known],
    )


def _caption(name: str, forecast: bool, published: Sequence[Published]) -> str:
    sentences = []
    if name == "seconds":
        sentences.append(f"Median training time over epochs; {LEFT_OUT}.")
    if name == "speedup":
        sentences.append("Ratio of the events processed per second to those of the baseline.")
    if name == "efficiency":
        sentences.append("Speed-up divided by the ratio of workers; 100% is ideal.")
    if forecast:
        sentences.append("Dotted: forecast of the fitted model, with its 95% interval.")
    sentences += [f"{one.name}: {one.source}." for one in published]
    return " ".join(sentences)


def _hover(row: pd.Series) -> str:
    parts = [count(int(row["n"]), "epoch")] if "n" in row else []
    if "nodes" in row and pd.notna(row["nodes"]):
        parts.insert(0, count(int(row["nodes"]), "node"))
    if "events_per_second" in row and pd.notna(row["events_per_second"]):
        parts.append(f"{row['events_per_second']:,.0f} events/s")
    return ", ".join(parts)
