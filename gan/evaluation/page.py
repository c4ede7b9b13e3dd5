"""The HTML page of a comparison: one file that opens from disk and loads nothing from a network.

The layout is in `page.html.jinja`, which escapes all texts. The content security policy of the page forbids loading.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from gan.evaluation.comparing import Comparison
from gan.evaluation.drawing.describe import Maps, Plot
from gan.evaluation.drawing.interactive import CONFIG, interactive
from gan.physics.metrics.bins import ALL

__all__ = ["page"]

_BINNED = ("visible energy", "hits", "profile L1, x", "profile L1, y", "profile L1, z", "moment error", "FPD")
"""Figures that the page shows in energy bins."""


def page(comparison: Comparison, plots: Sequence[Plot], summary: pd.DataFrame) -> str:
    """Return the page.

    Args:
        comparison: the comparison.
        plots: its plots.
        summary: table of texts.
    """
    environment = Environment(
        loader=PackageLoader("gan.evaluation", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.jinja").render(
        title=", ".join(sample.name for sample in comparison.samples),
        reference=comparison.reference,
        samples=comparison.samples,
        summary=_cells(summary),
        binned=_cells(_binned(comparison.table)),
        notes=comparison.notes,
        library=Markup(get_plotlyjs()),
        plots=[
            {
                "title": plot.title,
                "caption": plot.caption,
                "wide": isinstance(plot, Maps),
                "figure": Markup(
                    interactive(plot).to_html(
                        full_html=False, include_plotlyjs=False, div_id=f"plot-{plot.name}", config=CONFIG
                    )
                ),
            }
            for plot in plots
        ],
    )


def _cells(table: pd.DataFrame) -> dict[str, list]:
    return {"heads": [str(head) for head in table.columns], "rows": table.to_numpy().tolist()}


def _binned(table: pd.DataFrame) -> pd.DataFrame:
    """Return some figures in energy bins as texts: value, and times the floor in brackets."""
    rows = table[(table["bin"] != ALL) & table["figure"].isin(_BINNED)]
    if rows.empty:
        return pd.DataFrame()
    texts = rows.assign(
        text=[f"{value:.3g} ({ratio:.2g})" for value, ratio in zip(rows["value"], rows["ratio"], strict=True)]
    )
    wide = texts.pivot(index=["sample", "bin"], columns="figure", values="text").fillna("-")
    order = list(dict.fromkeys(zip(texts["sample"], texts["bin"], strict=True)))
    return wide.loc[order].reset_index()
