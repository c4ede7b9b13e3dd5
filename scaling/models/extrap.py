"""Epoch times as the JSON Lines that Extra-P reads, one measurement a line."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pandas as pd

__all__ = ["extrap_lines"]


def extrap_lines(table: pd.DataFrame) -> Iterator[str]:
    """Lines such as `{"params": {"p": 4}, "metric": "time", "value": 12.3}`, without their newlines.

    Args:
        table: epochs as `metrics.epochs_table` gives them (those that are `used`; Extra-P takes lines of equal `p` as
            repeats), or points or a curve with one median each. With several series the metric bears their names.
    """
    rows = table[table["used"]] if "used" in table else table
    several = "series" in rows and rows["series"].nunique() > 1
    for _, row in rows.iterrows():
        metric = f"time ({row['series']})" if several else "time"
        yield json.dumps({"params": {"p": int(row["workers"])}, "metric": metric, "value": float(row["seconds"])})
