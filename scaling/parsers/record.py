"""This project's own `run.jsonl`, read through `scaling.records`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from scaling.parsers.formats import Format
from scaling.parsers.hints import Hints
from scaling.records import Epoch, Header, Run, read_run
from scaling.runs import MAY_DIFFER, EpochTimes, RunLog

__all__ = ["FORMAT", "run_log"]

_SIZES = {"batch_size", "global_batch_size", "train_events"}
"""Settings that are fields of a RunLog."""


def run_log(run: Run) -> RunLog:
    """A record as what all readers give. The record knows all of it, so that no hint is needed."""
    header = run.header
    notes = ["The last line was cut off by a killed writer; left out."] if run.truncated else []
    return RunLog(
        source=str(run.path),
        format=FORMAT.name,
        workers=header.workers,
        nodes=header.nodes,
        cores_per_node=_cores(header),
        batch_size=header.batch_size,
        global_batch_size=header.global_batch_size,
        train_events=header.train_events,
        settings=_settings(header),
        epochs=tuple(map(_epoch, run.epochs)),
        status=run.end.status if run.end else "unknown",
        resumed_epochs=header.resumed_epochs,
        notes=tuple(notes),
        record=run,
    )


def _epoch(epoch: Epoch) -> EpochTimes:
    return EpochTimes(
        epoch=epoch.epoch,
        seconds=epoch.seconds,
        events=epoch.events,
        steps=epoch.steps,
        validation_seconds=epoch.validation_seconds,
        checkpoint_seconds=epoch.checkpoint_seconds,
        input_seconds=epoch.input_seconds,
        communication_seconds=epoch.communication_seconds,
        slowest_ratio=epoch.slowest_ratio,
        step_seconds=epoch.step_seconds,
        rank_step_seconds=epoch.rank_step_seconds,
        losses=epoch.losses,
        whole=epoch.resumed_steps == 0,
    )


def _settings(header: Header) -> dict[str, str]:
    values = {name: ascii(value) for name, value in header.settings.items() if name not in MAY_DIFFER | _SIZES}
    if header.files:
        values["data files"] = ", ".join(sorted(map(_file_name, header.files)))
    return values


def _file_name(file: Mapping[str, Any]) -> str:
    """Without the folder: data is staged to other places."""
    name = next((str(file[key]) for key in ("path", "name", "file") if key in file), "?")
    return f"{PurePath(name).name!a} ({file.get('events', '?')} events)"


def _cores(header: Header) -> int | None:
    """Cores of the workers on the fullest node; workers that were left unbound share theirs, which count once."""
    cores: dict[str, dict[str, int]] = defaultdict(dict)
    for row in header.placement:
        number = row.get("cores")
        if isinstance(number, int) and not isinstance(number, bool):
            cores[str(row.get("host"))][str(row.get("cpus"))] = number
    return max((sum(shares.values()) for shares in cores.values()), default=0) or None


def _begins(head: bytes, _hints: Hints) -> bool:
    line = head.partition(b"\n")[0]
    return line.startswith(b"{") and b'"record"' in line and b'"schema"' in line


def _read(path: Path, _hints: Hints) -> list[RunLog]:
    return [run_log(read_run(path))]


FORMAT = Format(name="record", about="a run.jsonl of this project", begins=_begins, read=_read)
