"""Read the `run.jsonl` of this project, with `scaling.records`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

from scaling.parsers.formats import Format
from scaling.parsers.hints import NUMBERS, Hints, user_facts, words
from scaling.records import Epoch, Header, Run, read_run
from scaling.runs import MAY_DIFFER, EpochTimes, RunLog

__all__ = ["FORMAT", "run_log"]

_SIZES = {"batch_size", "global_batch_size", "train_events"}
"""Settings that are fields of a RunLog."""


def run_log(run: Run) -> RunLog:
    """Convert a record to a RunLog, the result of all readers."""
    header = run.header
    notes = ["The last line is incomplete, because its writer was killed; left out."] if run.truncated else []
    notes += [f"Warning of the training: {warning}." for epoch in run.epochs for warning in epoch.warnings]
    return RunLog(
        source=str(run.path),
        format=FORMAT.name,
        workers=header.workers,
        virtual_workers=int(header.settings.get("virtual_workers", 1)),
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
    """Convert the record of an epoch."""
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
        validation=epoch.validation,
        whole=epoch.resumed_steps == 0,
    )


def _settings(header: Header) -> dict[str, str]:
    """Return the settings, and everything else that must be equal in runs that are compared.

    Threads are left out: they follow from the cores of a worker, and so from the number of workers on a node.
    """
    values = {name: ascii(value) for name, value in header.settings.items() if name not in MAY_DIFFER | _SIZES}
    if header.files:
        values["data files"] = ", ".join(sorted(map(_file_name, header.files)))
    if header.communicator:
        values["communicator"] = ascii(header.communicator)
    # TensorFlow has two package names: use the same name for both.
    for package in ("tensorflow-cpu", "tensorflow"):
        if package in header.versions:
            values["tensorflow"] = ascii(header.versions[package])
    return values


def _file_name(file: Mapping[str, Any]) -> str:
    """Return the name and the number of events of a data file. The folder may differ, because data may be staged."""
    name = next((str(file[key]) for key in ("path", "name", "file") if key in file), "?")
    return f"{PurePath(name).name!a} ({file.get('events', '?')} events)"


def _cores(header: Header) -> int | None:
    """Return the largest number of cores of the workers on a node. Cores that unbound workers share count once."""
    cores: dict[str, dict[str, int]] = defaultdict(dict)
    for row in header.placement:
        number = row.get("cores")
        if isinstance(number, int) and not isinstance(number, bool):
            cores[str(row.get("host"))][str(row.get("cpus"))] = number
    return max((sum(shares.values()) for shares in cores.values()), default=0) or None


def _begins(head: bytes, _hints: Hints) -> bool:
    """Return True if the first line is a record."""
    line = head.partition(b"\n")[0]
    return line.startswith(b"{") and b'"record"' in line and b'"schema"' in line


def _read(path: Path, hints: Hints) -> list[RunLog]:
    """Read the run in a file."""
    return [_hinted(run_log(read_run(path)), path, hints)]


def _hinted(run: RunLog, path: Path, hints: Hints) -> RunLog:
    """Add the user's settings and cores per node to a run.

    The counts of the record are not replaced: they were measured, and options may be meant for other logs in the same
    report. The cores per node are replaced: the record has only the cores of the workers, but a site charges all cores
    of a node.
    """
    notes, cores, settings = list(run.notes), run.cores_per_node, dict(run.settings)
    for where, facts in reversed(user_facts(path, hints).items()):
        settings |= facts.settings
        for name in NUMBERS:
            given, recorded = getattr(facts, name), getattr(run, name, None)
            if name == "cores_per_node":
                cores = given or cores
            elif given is not None and recorded is not None and given != recorded:
                notes.append(f"{words(name)}: {recorded} in the record is used, not {given} {where}.")
    return replace(run, settings=settings, cores_per_node=cores, notes=tuple(notes))


FORMAT = Format(name="record", about="a run.jsonl of this project", begins=_begins, read=_read)
