"""Follows running trainings in a terminal: how far each run is, how fast, and how it scales so far.

Reads record files below a folder again when they have grown. On a terminal a table is kept up to date, elsewhere every
epoch is a line, as logs want it. Points that a study's `study.json` names and that have not begun are waited for.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from scaling.records import RecordError, Run, read_run
from scaling.records.studies import read_study_file

__all__ = ["State", "look", "watch"]

_WIDE = 118
"""Characters that all columns take."""
_SPARK = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """How far a run is."""

    name: str
    """Its folder, relative to the one that is watched."""
    workers: int | None = None
    """None where it has not begun."""
    status: str = "waiting"
    """waiting, running, complete, interrupted, failed, or unreadable."""
    epochs: int = 0
    of: int | None = None
    """Epochs that it is to train."""
    seconds: float = math.nan
    """Of the last epoch."""
    events_per_second: float = math.nan
    """Median over epochs after the first since the last resume: before it there may have been other workers."""
    efficiency: float = math.nan
    """Against the median of the smallest runs below the same folder, so far."""
    slowest: str = ""
    """The slowest rank of the last epoch."""
    history: Sequence[float] = ()
    """Seconds of the epochs since the last resume that were trained in one piece."""
    message: str = ""

    @property
    def settled(self) -> bool:
        """Whether nothing more is to come; what was interrupted is to go on."""
        return self.status in ("complete", "failed", "unreadable")

    @property
    def left(self) -> float:
        """Seconds until it ends, at the pace of its epochs so far."""
        if self.of is None or not self.history or self.settled:
            return math.nan
        return (self.of - self.epochs) * statistics.median(self.history[1:] or self.history)


class _Reader:
    """Runs below a folder, each read anew only when its file has changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: dict[Path, tuple[tuple[int, int], Run | str]] = {}

    def runs(self) -> dict[str, Run | str]:
        """By name: the run, or why it cannot be read."""
        return {str(path.parent.relative_to(self.folder)): self._read(path) for path in _records(self.folder)}

    def _read(self, path: Path) -> Run | str:
        try:
            status = path.stat()
            stamp = (status.st_mtime_ns, status.st_size)
            if path not in self._known or self._known[path][0] != stamp:
                self._known[path] = (stamp, read_run(path))
        except OSError as error:
            return str(error)
        except RecordError as error:
            # A file is empty until its writer has its first line.
            self._known[path] = (stamp, "" if stamp[1] == 0 else str(error))
        return self._known[path][1]


def watch(
    folder: Path,
    console: Console,
    once: bool = False,
    every: float = 2.0,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Show the runs below `folder` until all have ended, or once; whether all are complete.

    Args:
        every: seconds between two looks.

    Raises:
        RecordError: the folder does not exist, or holds a `study.json` that cannot be read, or `once` is set and it
            holds no run.
    """
    if not folder.is_dir():
        raise RecordError(f"{folder} is no folder; expected that of a study or of a run")
    reader = _Reader(folder)
    states = _states(reader)
    if once:
        if not states:
            raise RecordError(f"{folder} holds no run.jsonl yet; expected the folder of a study or of a run")
        console.print(_table(states, console.width))
        return all(state.status == "complete" for state in states)
    if console.is_terminal:
        with Live(_table(states, console.width), console=console, refresh_per_second=4) as live:
            while not _over(states):
                sleep(every)
                states = _states(reader)
                live.update(_table(states, console.width))
    else:
        said: dict[str, tuple[str, int]] = {}
        while True:
            for line in _news(states, said):
                console.print(line, markup=False, highlight=False, soft_wrap=True)
            if _over(states):
                break
            sleep(every)
            states = _states(reader)
    return all(state.status == "complete" for state in states)


def look(folder: Path) -> list[State]:
    """How far the runs below a folder are now, small ones first."""
    return _states(_Reader(folder))


def _states(reader: _Reader) -> list[State]:
    found = reader.runs()
    states = [_state(name, run) for name, run in found.items()]
    begun = {state.name for state in states}
    states += [State(name=name) for name in _points(reader.folder) if name not in begun]
    paces = {s.workers: s.events_per_second for s in states if s.workers and math.isfinite(s.events_per_second)}
    least = min(paces, default=None)
    if least is not None:
        smallest = (s.events_per_second for s in states if s.workers == least and math.isfinite(s.events_per_second))
        base = statistics.median(smallest)
        states = [_with_efficiency(state, base / least) for state in states]
    return sorted(states, key=lambda state: (state.workers or math.inf, state.name))


def _state(name: str, run: Run | str) -> State:
    if isinstance(run, str):
        return State(name=name, status="unreadable" if run else "waiting", message=run)
    newest = (epoch for epoch in run.epochs if epoch.epoch > run.header.resumed_epochs and epoch.resumed_steps == 0)
    epochs = [epoch for epoch in newest if math.isfinite(epoch.seconds) and epoch.seconds > 0]
    total = run.header.settings.get("epochs")
    last = epochs[-1] if epochs else None
    paces = [epoch.events / epoch.seconds for epoch in epochs[1:] or epochs]
    return State(
        name=name,
        workers=run.header.workers,
        status=run.end.status if run.end else "running",
        epochs=run.epochs[-1].epoch if run.epochs else 0,
        of=total if isinstance(total, int) and not isinstance(total, bool) and total > 0 else None,
        seconds=last.seconds if last else math.nan,
        events_per_second=statistics.median(paces) if paces else math.nan,
        slowest=f"{last.slowest_ratio:.2f} rank {last.slowest_rank} on {last.slowest_host}" if last else "",
        history=tuple(epoch.seconds for epoch in epochs),
        message=run.end.message if run.end else "",
    )


def _with_efficiency(state: State, per_worker: float) -> State:
    if state.workers is None or per_worker <= 0:
        return state
    return replace(state, efficiency=state.events_per_second / (state.workers * per_worker))


def _records(folder: Path) -> Iterator[Path]:
    """Every run.jsonl below a folder; what a run keeps in folders of its own, such as earlier attempts, is its own."""
    for place, folders, files in os.walk(folder):
        if "run.jsonl" in files:
            folders.clear()
            yield Path(place, "run.jsonl")


def _points(folder: Path) -> list[str]:
    """Return the names of a study's points, or an empty list if the folder holds no study."""
    study = read_study_file(folder)
    return list(study.points) if study else []


def _over(states: Sequence[State]) -> bool:
    return bool(states) and all(state.settled for state in states)


def _news(states: Sequence[State], said: dict[str, tuple[str, int]]) -> Iterator[str]:
    """A line for every run that has changed since it was `said`."""
    for state in states:
        if said.get(state.name) == (state.status, state.epochs):
            continue
        said[state.name] = (state.status, state.epochs)
        of = f" of {state.of}" if state.of else ""
        parts = [state.status if state.workers is None else f"{state.status}, epoch {state.epochs}{of}"]
        if math.isfinite(state.seconds):
            parts += [f"{state.seconds:.4g} s", f"{state.events_per_second:,.0f} events/s"]
        if math.isfinite(state.efficiency):
            parts.append(f"efficiency {state.efficiency:.1%}")
        parts += [state.message] if state.message else []
        yield f"{time.strftime('%H:%M:%S')} {state.name}: {', '.join(parts)}"


def _table(states: Sequence[State], width: int) -> Table:
    """The states as a table; what there is no room for on a narrow terminal is left out."""
    table = Table(header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    shown = [head for head in _COLUMNS if width >= _WIDE or head not in ("epochs", "slowest rank")]
    for head in shown:
        table.add_column(head, justify="right" if _COLUMNS[head] == "right" else "left", no_wrap=True)
    for state in states:
        of = f"/{state.of}" if state.of else ""
        row = {
            "run": escape(state.name),
            "workers": "" if state.workers is None else str(state.workers),
            "status": f"[{_COLOURS.get(state.status, 'white')}]{state.status}[/]",
            "epoch": f"{state.epochs}{of}" if state.workers is not None else "",
            "s/epoch": _number(state.seconds, "{:.4g}"),
            "epochs": _spark(state.history),
            "events/s": _number(state.events_per_second, "{:,.0f}"),
            "efficiency": _number(state.efficiency, "{:.1%}"),
            "slowest rank": escape(state.slowest),
            "left": _duration(state.left),
        }
        table.add_row(*(row[head] for head in shown))
    if not states:
        table.add_row("nothing yet")
    return table


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
_COLOURS = {"complete": "green", "running": "cyan", "interrupted": "yellow", "failed": "red", "unreadable": "red"}


def _number(value: float, text: str) -> str:
    return text.format(value) if math.isfinite(value) else ""


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def _spark(history: Sequence[float], most: int = 12) -> str:
    """The last epochs' seconds as bars: the longest is full."""
    shown = history[-most:]
    longest = max(shown, default=0.0)
    return "".join(_SPARK[min(7, int(8 * value / longest))] for value in shown) if longest > 0 else ""
