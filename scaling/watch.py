"""Follow running trainings: read their records repeatedly, and show their states.

A terminal shows a table that is updated. Any other output gets a line for each epoch, as in a log. Points of a study in
`study.json` that have not begun are shown as waiting.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.live import Live

from scaling.progress import State, state_line, state_table
from scaling.records import RecordError, Run, read_run
from scaling.records.studies import read_study_file

__all__ = ["look", "watch"]


class _Reader:
    """Reader of the runs below a folder. It reads a file again only if the file has changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: dict[Path, tuple[tuple[int, int], Run | str]] = {}

    def runs(self) -> dict[str, Run | str]:
        """Return the record of each run, by the name of the run.

        If a record cannot be read, its place holds the reason as a text. It is empty for an empty file.
        """
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
            # The file is empty until the run writes its first line.
            self._known[path] = (stamp, "" if stamp[1] == 0 else str(error))
        return self._known[path][1]


def watch(
    folder: Path,
    console: Console,
    once: bool = False,
    every: float = 2.0,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Show the runs below `folder`, either once or until all have ended.

    Args:
        folder: folder of a study or of a run.
        console: console for the output.
        once: whether to show the current state and return.
        every: seconds between two reads of the files.
        sleep: function that waits between two reads. Tests replace it.

    Returns:
        Whether all runs are complete.

    Raises:
        RecordError: the folder does not exist, or holds a `study.json` that cannot be read, or `once` is set and it
            holds no run.
    """
    if not folder.is_dir():
        raise RecordError(f"{folder} is not a folder; give the folder of a study or of a run")
    reader = _Reader(folder)
    states: Sequence[State] = _states(reader)
    if once:
        if not states:
            raise RecordError(f"{folder} contains no run.jsonl yet; give the folder of a study or of a run, or wait")
        console.print(state_table(states, console.width))
    elif console.is_terminal:
        states = _follow_on_terminal(reader, states, console, every, sleep)
    else:
        states = _follow_in_lines(reader, states, console, every, sleep)
    return all(state.status == "complete" for state in states)


def _follow_on_terminal(
    reader: _Reader, states: Sequence[State], console: Console, every: float, sleep: Callable[[float], None]
) -> Sequence[State]:
    """Show and update a table until all runs have ended. Return their last states."""
    with Live(state_table(states, console.width), console=console, refresh_per_second=4) as live:
        while not _ended(states):
            sleep(every)
            states = _states(reader)
            live.update(state_table(states, console.width))
    return states


def _follow_in_lines(
    reader: _Reader, states: Sequence[State], console: Console, every: float, sleep: Callable[[float], None]
) -> Sequence[State]:
    """Print a line for each change until all runs have ended. Return their last states."""
    printed: dict[str, tuple[str, int]] = {}
    if not states:
        console.print(f"no runs yet in {reader.folder}", markup=False, highlight=False, soft_wrap=True)
    while True:
        for state in states:
            if printed.get(state.name) != (state.status, state.epochs):
                printed[state.name] = (state.status, state.epochs)
                console.print(state_line(state), markup=False, highlight=False, soft_wrap=True)
        if _ended(states):
            return states
        sleep(every)
        states = _states(reader)


def look(folder: Path) -> list[State]:
    """Return the current states of the runs below a folder, small runs first."""
    return _states(_Reader(folder))


def _states(reader: _Reader) -> list[State]:
    states = [_state(name, run) for name, run in reader.runs().items()]
    begun = {state.name for state in states}
    states += [State(name=name) for name in _points(reader.folder) if name not in begun]
    rates = {s.workers: s.events_per_second for s in states if s.workers and math.isfinite(s.events_per_second)}
    least = min(rates, default=None)
    if least is not None:
        smallest = (s.events_per_second for s in states if s.workers == least and math.isfinite(s.events_per_second))
        base = statistics.median(smallest)
        states = [_with_efficiency(state, base / least) for state in states]
    return sorted(states, key=lambda state: (state.workers or math.inf, state.name))


def _state(name: str, run: Run | str) -> State:
    """Return the state of a run. If `run` is a text, it is the reason why the run cannot be read."""
    if isinstance(run, str):
        return State(name=name, status="unreadable" if run else "waiting", message=run)
    newest = (epoch for epoch in run.epochs if epoch.epoch > run.header.resumed_epochs and epoch.resumed_steps == 0)
    epochs = [epoch for epoch in newest if math.isfinite(epoch.seconds) and epoch.seconds > 0]
    total = run.header.settings.get("epochs")
    last = epochs[-1] if epochs else None
    rates = [epoch.events / epoch.seconds for epoch in epochs[1:] or epochs]
    return State(
        name=name,
        workers=run.header.workers,
        status=run.end.status if run.end else "running",
        epochs=run.epochs[-1].epoch if run.epochs else 0,
        total_epochs=total if isinstance(total, int) and not isinstance(total, bool) and total > 0 else None,
        seconds=last.seconds if last else math.nan,
        events_per_second=statistics.median(rates) if rates else math.nan,
        slowest=f"{last.slowest_ratio:.2f} rank {last.slowest_rank} on {last.slowest_host}" if last else "",
        history=tuple(epoch.seconds for epoch in epochs),
        message=run.end.message if run.end else "",
    )


def _with_efficiency(state: State, per_worker: float) -> State:
    """Return the state with its efficiency relative to a rate of `per_worker` events/s."""
    if state.workers is None or per_worker <= 0:
        return state
    return replace(state, efficiency=state.events_per_second / (state.workers * per_worker))


def _records(folder: Path) -> Iterator[Path]:
    """Yield each run.jsonl below a folder. Folders inside a run, such as earlier attempts, are not searched."""
    for place, folders, files in os.walk(folder):
        if "run.jsonl" in files:
            folders.clear()
            yield Path(place, "run.jsonl")


def _points(folder: Path) -> list[str]:
    """Return the names of a study's points, or an empty list if the folder holds no study."""
    study = read_study_file(folder)
    return list(study.points) if study else []


def _ended(states: Sequence[State]) -> bool:
    """Return True if there is at least one run, and all runs have ended and cannot continue."""
    return bool(states) and all(state.settled for state in states)
