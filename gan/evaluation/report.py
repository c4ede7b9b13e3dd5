"""Writes a comparison as text, JSON, CSV, Markdown, an HTML page, and every plot as PNG and SVG.

`evaluation.json` has a version, SCHEMA. Its fields: `schema`, `reference` and `samples` (`name`, `source`, `events`,
`negative_cells`, `empty_events`), `figures` (the rows of `Comparison.table`; null is what is not known) and `notes`.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd

from gan.errors import InputError
from gan.evaluation.comparing import Comparison
from gan.evaluation.drawing.describe import Plot
from gan.evaluation.drawing.plots import plots
from gan.evaluation.drawing.static import draw
from gan.evaluation.page import page
from gan.evaluation.samples import Sample
from gan.physics.metrics.bins import ALL
from gan.physics.observables import AXES
from scaling.records.saving import replacing, save_text
from scaling.records.wording import count, markdown_text

__all__ = ["SCHEMA", "SUMMARY", "as_json", "markdown", "summary_table", "text", "write_report"]

SCHEMA = 1
"""Version of `evaluation.json`. It grows when a field changes its meaning, not when a field is added."""
SUMMARY = (
    "visible energy",
    "sampling fraction error",
    "resolution error",
    "hits",
    "active cells",
    *(f"profile L1, {axis}" for axis in AXES),
    *(f"position, {axis}" for axis in AXES),
    *(f"width, {axis}" for axis in AXES),
    "moment error",
    "profile error",
    "shape MSE",
    "separation, mean",
    "Wasserstein, mean",
    "FPD",
    "KPD",
    "precision",
    "recall",
    "density",
    "coverage",
    "classifier AUC, features",
    "classifier AUC, cells",
    "memorisation",
)
"""Figures of the summary, in order. All others are in the JSON and CSV files."""
DPI = 160


def write_report(comparison: Comparison, out: Path) -> list[Path]:
    """Write all files into a folder, which is created if missing, and return their paths.

    Raises:
        InputError: the folder cannot be created or written.
    """
    drawn = plots(comparison)
    files = {
        "evaluation.html": page(comparison, drawn, summary_table(comparison)),
        "evaluation.json": json.dumps(as_json(comparison), indent=1, allow_nan=False) + "\n",
        "evaluation.csv": comparison.table.to_csv(index=False),
        "evaluation.md": markdown(comparison),
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            save_text(out / name, content)
        written = [out / name for name in files]
        for plot in drawn:
            written += _save(plot, out)
    except OSError as error:
        raise InputError(f"the report cannot be written to {out} ({error}); give another folder with --out") from error
    return written


def _save(plot: Plot, out: Path) -> Sequence[Path]:
    # SVG ids are random without a salt: the same comparison gives the same bytes.
    with matplotlib.rc_context({"svg.hashsalt": "evaluation", "text.parse_math": False}):
        figure = draw(plot)
        paths = []
        for kind, options in (("png", {"dpi": DPI}), ("svg", {"metadata": {"Date": None}})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, **options)
            paths.append(out / f"{plot.name}.{kind}")
            with replacing(paths[-1]) as file:
                file.write(buffer.getvalue())
    return paths


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Return the content of `evaluation.json`."""
    return {
        "schema": SCHEMA,
        "reference": _origin(comparison.reference),
        "samples": [_origin(sample) for sample in comparison.samples],
        "figures": [
            {name: _value(value) for name, value in row.items()} for row in comparison.table.to_dict("records")
        ],
        "notes": list(comparison.notes),
    }


def _origin(sample: Sample) -> dict[str, Any]:
    return {
        "name": sample.name,
        "source": sample.source,
        "events": len(sample),
        "negative_cells": sample.negative_cells,
        "empty_events": sample.empty_events,
    }


def _value(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def summary_table(comparison: Comparison) -> pd.DataFrame:
    """Return the figures of SUMMARY over all events as texts: one row per figure and sample."""
    table = comparison.table[comparison.table["bin"] == ALL]
    rows = []
    for figure in SUMMARY:
        for _, row in table[table["figure"] == figure].iterrows():
            rows.append(
                {
                    "figure": figure,
                    "sample": row["sample"],
                    "value": _number(row["value"]),
                    "95% interval": _interval(row["low"], row["high"]),
                    "floor": _number(row["floor"]),
                    "floor's interval": _interval(row["floor_low"], row["floor_high"]),
                    "times the floor": _number(row["ratio"], digits=3),
                }
            )
    return pd.DataFrame(rows)


def _number(value: float, digits: int = 4) -> str:
    return f"{value:.{digits}g}" if math.isfinite(value) else "-"


def _interval(low: float, high: float) -> str:
    return f"{low:.3g} to {high:.3g}" if math.isfinite(low) and math.isfinite(high) else "-"


def text(comparison: Comparison) -> str:
    """Return the summary for a terminal."""
    table = summary_table(comparison)
    if len(comparison.samples) == 1:
        table = table.drop(columns="sample")
    lines = [_head(comparison), "", table.to_string(index=False), ""]
    return "\n".join([*lines, *(f"Note: {note}" for note in comparison.notes)]).rstrip()


def markdown(comparison: Comparison) -> str:
    """Return the summary in Markdown."""
    table = summary_table(comparison)
    rows = [tuple(table.columns), ("---",) * len(table.columns), *table.itertuples(index=False, name=None)]
    lines = ["| " + " | ".join(markdown_text(str(cell)) for cell in row) + " |" for row in rows]
    notes = [f"- {markdown_text(note)}" for note in comparison.notes]
    return "\n".join([markdown_text(_head(comparison)), "", *lines, "", *notes]).rstrip() + "\n"


def _head(comparison: Comparison) -> str:
    names = ", ".join(f"{sample.name} ({count(len(sample), 'event')})" for sample in comparison.samples)
    reference = comparison.reference
    return (
        f"{names} against {reference.name} ({count(len(reference), 'event')}). Figures are of all energies. The "
        "floor is the same figure between two halves of the reference."
    )
