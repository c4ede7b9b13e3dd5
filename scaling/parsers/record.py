"""This project's own `run.jsonl`, read through `scaling.records`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

from scaling.parsers.formats import Format
from scaling.parsers.hints import NUMBERS, Hints, said_by_user, words
from scaling.records import Epoch, Header, Run, read_run
from scaling.runs import MAY_DIFFER, EpochTimes, RunLog

__all__ = ["FORMAT", "run_log"]

_SIZES = {"batch_size", "global_batch_size", "train_events"}
"""Settings that are fields of a RunLog."""


def run_log(run: Run) -> RunLog:
    """A record as what all readers give."""
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
    """The settings with what else makes one run slower than another.

    Not the threads: they follow from the cores of a worker, which workers that share a node have fewer of.
    """
    values = {name: ascii(value) for name, value in header.settings.items() if name not in MAY_DIFFER | _SIZES}
    if header.files:
        values["data files"] = ", ".join(sorted(map(_file_name, header.files)))
    if header.communicator:
        values["communicator"] = ascii(header.communicator)
    # The package has two names.
    for package in ("tensorflow-cpu", "tensorflow"):
        if package in header.versions:
            values["tensorflow"] = ascii(header.versions[package])
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


def _read(path: Path, hints: Hints) -> list[RunLog]:
    return [_hinted(run_log(read_run(path)), path, hints)]


def _hinted(run: RunLog, path: Path, hints: Hints) -> RunLog:
    """The run with what the user says of it: settings, cores, and counts that the record does not tell.

    Counts that it tells stand, since they were measured; options are given for other logs that are read beside it. But
    its cores are those that the workers had, and a node that is paid for may have more.
    """
    notes, cores, settings = list(run.notes), run.cores_per_node, dict(run.settings)
    for where, facts in reversed(said_by_user(path, hints).items()):
        settings |= facts.settings
        for name in NUMBERS:
            said, own = getattr(facts, name), getattr(run, name, None)
            if name == "cores_per_node":
                cores = said or cores
            elif said is not None and own is not None and said != own:
                notes.append(f"{words(name)}: {own} as recorded, not {said} as {where}.")
    return replace(run, settings=settings, cores_per_node=cores, notes=tuple(notes))


FORMAT = Format(name="record", about="a run.jsonl of this project", begins=_begins, read=_read)
