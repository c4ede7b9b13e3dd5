"""Epoch times in the JSON Lines format of Extra-P, with one measurement in each line."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pandas as pd

__all__ = ["extrap_lines"]


def extrap_lines(table: pd.DataFrame) -> Iterator[str]:
    """Yield lines such as `{"params": {"p": 4}, "metric": "time", "value": 12.3}`, without newlines.

    Each series becomes a metric, named after it if there are several. The value is in seconds per epoch.

    Args:
        table: result of `metrics.epochs_table`, of which only `used` epochs count, because Extra-P treats lines with
            equal `p` as repeats; or result of `metrics.points` or `metrics.curve`, with one median for each size.
    """
    rows = table[table["used"]] if "used" in table else table
    several = "series" in rows and rows["series"].nunique() > 1
    for _, row in rows.iterrows():
        metric = f"time ({row['series']})" if several else "time"
        yield json.dumps({"params": {"p": int(row["workers"])}, "metric": metric, "value": float(row["seconds"])})
