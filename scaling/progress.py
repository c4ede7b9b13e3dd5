"""The state of a running training, and its form in `watch`: a row of a table or a line of text."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

__all__ = ["State", "state_line", "state_table"]

_WIDE = 118
"""Smallest width of a terminal for all columns, in characters."""
_OPTIONAL = ("epochs", "slowest rank")
"""Columns that are left out on a narrower terminal."""
_BARS = "▁▂▃▄▅▆▇█"
_MOST_BARS = 12
_COLUMNS: Mapping[str, str] = {
    "run": "left",
    "workers": "right",
    "status": "left",
    "epoch": "right",
    "s/epoch": "right",
    "epochs": "left",
    "events/s": "right",
    "efficiency": "right",
    "slowest rank": "left",
    "left": "right",
}
"""Headings of the columns, with their alignment."""
_COLOURS = {"complete": "green", "running": "cyan", "interrupted": "yellow", "failed": "red", "unreadable": "red"}


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """The state of one run."""

    name: str
    """Folder of the run, relative to the watched folder."""
    workers: int | None = None
    """Number of ranks. None if the run has not begun."""
    status: str = "waiting"
    """Status: waiting, running, complete, interrupted, failed or unreadable."""
    epochs: int = 0
    """Number of finished epochs."""
    total_epochs: int | None = None
    """Number of epochs to train, if known."""
    seconds: float = math.nan
    """Seconds of the last epoch."""
    events_per_second: float = math.nan
    """Events per second: median over the epochs after the last resume, without the first of them if there are others.
    Epochs before the resume may have run on other workers."""
    efficiency: float = math.nan
    """Current parallel efficiency, relative to the median of the smallest runs below the watched folder."""
    slowest: str = ""
    """Slowest rank of the last epoch, as text: ratio of its time to the median, number and host."""
    history: Sequence[float] = ()
    """Seconds of the epochs after the last resume that were trained without an interruption."""
    message: str = ""
    """Reason why the run failed or cannot be read."""

    @property
    def settled(self) -> bool:
        """True if the run has ended and cannot continue. An interrupted run may continue."""
        return self.status in ("complete", "failed", "unreadable")

    @property
    def left(self) -> float:
        """Estimated seconds until the end, or not-a-number."""
        if self.total_epochs is None or not self.history or self.settled:
            return math.nan
        return (self.total_epochs - self.epochs) * statistics.median(self.history[1:] or self.history)


def state_line(state: State) -> str:
    """Return the state as a line of text, with the time of day."""
    total = f" of {state.total_epochs}" if state.total_epochs else ""
    parts = [state.status if state.workers is None else f"{state.status}, epoch {state.epochs}{total}"]
    if math.isfinite(state.seconds):
        parts += [f"{state.seconds:.4g} s", f"{state.events_per_second:,.0f} events/s"]
    if math.isfinite(state.efficiency):
        parts.append(f"efficiency {state.efficiency:.1%}")
    parts += [state.message] if state.message else []
    return f"{time.strftime('%H:%M:%S')} {state.name}: {', '.join(parts)}"


def state_table(states: Sequence[State], width: int) -> Table:
    """Return a table with a row for each state. A narrow terminal gets fewer columns.

    Args:
        states: the runs to show.
        width: width of the terminal in characters.
    """
    table = Table(header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    heads = [head for head in _COLUMNS if width >= _WIDE or head not in _OPTIONAL]
    for head in heads:
        table.add_column(head, justify="right" if _COLUMNS[head] == "right" else "left", no_wrap=True)
    for state in states:
        cells = _cells(state)
        table.add_row(*(cells[head] for head in heads))
    if not states:
        table.add_row("no runs yet")
    return table


def _cells(state: State) -> Mapping[str, str]:
    """Return the cells of a row, by the headings in `_COLUMNS`."""
    total = f"/{state.total_epochs}" if state.total_epochs else ""
    return {
        "run": escape(state.name),
        "workers": "" if state.workers is None else str(state.workers),
        "status": f"[{_COLOURS.get(state.status, 'white')}]{state.status}[/]",
        "epoch": f"{state.epochs}{total}" if state.workers is not None else "",
        "s/epoch": _number(state.seconds, "{:.4g}"),
        "epochs": _bars(state.history),
        "events/s": _number(state.events_per_second, "{:,.0f}"),
        "efficiency": _number(state.efficiency, "{:.1%}"),
        "slowest rank": escape(state.slowest),
        "left": _duration(state.left),
    }


def _number(value: float, text: str) -> str:
    return text.format(value) if math.isfinite(value) else ""


def _duration(seconds: float) -> str:
    """Return a time as `h:mm:ss`."""
    if not math.isfinite(seconds):
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def _bars(history: Sequence[float]) -> str:
    """Return the seconds of the last epochs as bar characters. The longest epoch has a full bar."""
    last = history[-_MOST_BARS:]
    longest = max(last, default=0.0)
    return "".join(_BARS[min(7, int(8 * value / longest))] for value in last) if longest > 0 else ""
