"""What the plots of a curve show: time per epoch, speed-up, efficiency, and where the time of an epoch goes.

From tables of `metrics` and `models` to descriptions; nothing is computed here but positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from scaling.plots.describe import Bars, Line, Panel, Side
from scaling.published import Published

__all__ = ["LEFT_OUT", "breakdown_panels", "curve_panels", "plain", "series_of"]

_PARTS: Mapping[str, str] = {
    "compute": "computing",
    "slower": "slower computing than at the baseline",
    "imbalance": "waiting for slower ranks",
    "communication": "communication",
    "input": "waiting for input",
}
LEFT_OUT = "validation and checkpoints are left out where the logs tell them apart"
_MOST_LABELS = 8
_MOST_BREAKDOWNS = 4
_SIDES: Mapping[str, Side] = {"seconds": "above", "speedup": "right", "efficiency": "below"}
"""Of a point, that the curve leaves free."""


def series_of(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The curves in a table with their labels; one without a label where there is no column `series`."""
    if "series" not in table:
        return [("", table)]
    return [(str(name), part) for name, part in table.groupby("series", sort=False)]


def curve_panels(
    curve: pd.DataFrame,
    forecasts: Mapping[str, pd.DataFrame] | None = None,
    published: Sequence[Published] = (),
) -> list[Panel]:
    """Time per epoch, speed-up and efficiency over workers, each with its ideal.

    Args:
        curve: as `metrics.curve` gives it, one row or more, of one or several series.
        forecasts: by series, as `Fit.forecast` gives them.
        published: what others measured; drawn where they tell the value.
    """
    forecasts = forecasts or {}
    curves = series_of(curve)
    ticks = _ticks(curve, forecasts)
    baselines = sorted({int(b) for b in curve["baseline"]})
    over = f"Speed-up over {_workers(baselines[0])}" if len(baselines) == 1 else "Speed-up over the curve's baseline"
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
        known = [_published(name, one, len(curves) + i) for i, one in enumerate(published)]
        others = [line for line in known if line is not None]
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
                caption=_caption(name, bool(forecasts), published if others else ()),
            )
        )
    return panels


def breakdown_panels(breakdown: pd.DataFrame) -> list[Panel]:
    """Stacked parts of the epoch for every size, a plot for each series; none where no run tells them."""
    return [
        _breakdown_panel(part, plain(series), number)
        for number, (series, part) in enumerate(series_of(breakdown)[:_MOST_BREAKDOWNS])
        if len(part)
    ]


def _breakdown_panel(part: pd.DataFrame, series: str, number: int) -> Panel:
    return Panel(
        name="breakdown" if number == 0 else f"breakdown-{number + 1}",
        title="Where the time of an epoch goes" + (f": {series}" if series else ""),
        x_label="Workers",
        y_label="Share of the epoch",
        bars=[
            Bars(label=text, y=part[name].fillna(0.0).astype(float).tolist(), style=i)
            for i, (name, text) in enumerate(_PARTS.items())
        ],
        categories=[str(int(workers)) for workers in part["workers"]],
        percent=True,
        from_zero=True,
        digits=".1%",
        caption="Medians over epochs of training time. Waiting for slower ranks is the part of the gradient exchange "
        "in which faster ranks wait for it to begin; communication is the rest of it.",
    )


def plain(series: str) -> str:
    """A series for people: `precision bf16`, where records hold settings in quotes."""
    return series.replace("'", "")


def _ticks(curve: pd.DataFrame, forecasts: Mapping[str, pd.DataFrame]) -> list[float]:
    """The sizes measured and, where a forecast goes on, powers of two times the largest until it ends."""
    sizes = sorted({float(n) for n in curve["workers"]})
    last = max((float(table["workers"].max()) for table in forecasts.values()), default=0.0)
    while 2 * sizes[-1] <= last:
        sizes.append(2 * sizes[-1])
    return [*sizes, last] if last > sizes[-1] else sizes


def _measured(name: str, series: str, table: pd.DataFrame, style: int, curves: int) -> Line:
    return Line(
        label=plain(series) if curves > 1 and series else "median, 95% interval",
        x=table["workers"].astype(float).tolist(),
        y=table[name].astype(float).tolist(),
        low=table[f"{name}_low"].astype(float).tolist(),
        high=table[f"{name}_high"].astype(float).tolist(),
        style=style,
        hover=[_hover(row) for _, row in table.iterrows()],
        values=_SIDES[name] if curves == 1 and len(table) <= _MOST_LABELS else None,
    )


def _forecast(name: str, series: str, table: pd.DataFrame, style: int, curves: int) -> Line:
    ahead = table["extrapolated"] if "extrapolated" in table else pd.Series(True, index=table.index)
    return Line(
        label=f"{plain(series)}: forecast" if curves > 1 and series else "forecast, 95% band",
        x=table["workers"].astype(float).tolist(),
        y=table[name].astype(float).tolist(),
        low=table[f"{name}_low"].astype(float).tolist(),
        high=table[f"{name}_high"].astype(float).tolist(),
        style=style,
        role="forecast",
        hover=["extrapolated" if beyond else "within what was measured" for beyond in ahead],
    )


def _ideals(name: str, curves: Sequence[tuple[str, pd.DataFrame]], sizes: Sequence[float]) -> Iterator[Line]:
    """One ideal line over all `sizes`, ascending, for every baseline (and for time, every curve) that differs."""
    seen: set[tuple[float, ...]] = set()
    for _, table in curves:
        baseline = float(table["baseline"].iloc[0])
        if name == "efficiency":
            values = [1.0] * len(sizes)
        elif name == "speedup":
            values = [n / baseline for n in sizes]
        else:
            # Where a size was measured its own ideal counts: the events of an epoch change a little with the size.
            own = dict(zip(table["workers"].astype(float), table["ideal_seconds"].astype(float), strict=True))
            first = min(own)
            # In weak scaling the work grows with the workers: ideal is the same time at every size.
            weak = "mode" in table and table["mode"].iloc[0] == "weak"
            values = [own.get(n, own[first] * (1 if weak else first / n)) for n in sizes]
        if tuple(values) not in seen:
            label = "ideal" if not seen else f"ideal from {_workers(int(baseline))}"
            yield Line(label=label, x=sizes, y=values, role="ideal", named=not seen or name == "speedup")
        seen.add(tuple(values))


def _published(name: str, one: Published, style: int) -> Line | None:
    # A speed-up over another baseline does not belong beside this one's ideal line.
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
    said = []
    if name == "seconds":
        said.append(f"Median over epochs of training time; {LEFT_OUT}.")
    if name == "speedup":
        said.append("Ratio of events per second, over events really processed.")
    if name == "efficiency":
        said.append("Speed-up over the ratio of workers; 100% is ideal.")
    if forecast:
        said.append("Dotted: forecast of the fitted model with its 95% band.")
    said += [f"{one.name}: {one.source}." for one in published]
    return " ".join(said)


def _hover(row: pd.Series) -> str:
    said = [f"n = {int(row['n'])}"] if "n" in row else []
    if "nodes" in row and pd.notna(row["nodes"]):
        said.insert(0, f"{int(row['nodes'])} nodes")
    if "events_per_second" in row and pd.notna(row["events_per_second"]):
        said.append(f"{row['events_per_second']:,.0f} events/s")
    return ", ".join(said)


def _workers(number: int) -> str:
    return f"{number} worker" if number == 1 else f"{number} workers"
