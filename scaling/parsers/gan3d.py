"""Read logs of the public 3DGAN training scripts, in all known forms of their lines.

All ranks write into one stream. A line may begin with the number of its rank, lines come in any order, and several
messages may be on one line. So this module searches for records within lines, and `tally` adds them up. The time of an
epoch is the time of its slowest rank.

The scripts count epochs from 0 in some lines and from 1 in others (see `_RECORDERS`). The number of workers follows
from the two batch sizes, from the line that every rank writes after its start, or from the ranks in the prefixes.
"""

from __future__ import annotations

import re
from pathlib import Path

from scaling.parsers.blocks import Blocks, line_around, lines_at, places
from scaling.parsers.formats import Format, bounded, epochs_in_order, not_understood, run_log
from scaling.parsers.hints import Hints, complete
from scaling.parsers.tally import Tally
from scaling.records import RecordError
from scaling.records.wording import count
from scaling.runs import EpochTimes, RunLog

__all__ = ["FORMAT"]

_N, _X = rb"(\d{1,15})", rb"(\d{1,15}(?:\.\d{0,20})?(?:e[+-]?\d{1,3})?)"
_FORMS = {
    # Prefix of mpirun --tag-output, with or without the name of the job.
    "rank": rb"\[(?:[^][\n]{1,80}@)?\d{1,9},(\d{1,7})\](?:<std[a-z]{3,4}>)?:? ?",
    "batch": rb"Global batch size is: " + _N + rb" ?/ ?batch size is: " + _N,
    "total": rb"Total Training batches = " + _X + rb" with (\d{1,15})(?:\.0*)? events",
    "host": rb"On hostname (\S{1,255}) - After init using \d+ memory",
    "init": rb"Initialization time (?:was|is) " + _X + rb" seconds",
    "begin": rb"Epoch " + _N + rb" of " + _N,
    "progress": rb"processed " + _N + rb"/(\d{1,15})(?:\.\d{0,20})? batches",
    "tested": rb"The Testing for " + _N + rb" epoch took " + _X + rb" sec",
    "zero": rb"The " + _N + rb" epoch took " + _X + rb" sec",
    "taken": rb"Time taken by epoch ?" + _N + rb" was " + _X + rb" sec",
    "took": rb"Epoch ?" + _N + rb" took " + _X + rb" ?s",
    "clock": rb"Time for Epoch: ?(?:(\d{1,4}) days?, )?(\d{1,6}):(\d\d):(\d\d(?:\.\d{0,20})?)",
    "testing": rb"Testing for epoch ?" + _N,
    "saving": rb"saving weights",
    "loss": rb"(generator|discriminator) \(train\) {0,40}\| ?(-?" + _X[1:-1] + rb"|nan|inf)",
}
# The lookahead for the first letters of all forms is fast: otherwise each form is tried at every position.
_RECORD = re.compile(
    rb"(?=[\[GTOIEpsgd])(?:"
    + rb"|".join(b"(?P<%s>%s)" % (name.encode(), form) for name, form in _FORMS.items())
    + rb")"
)
_HUGE = re.compile(rb"\de\+?\d{3}")
"""Number above 1e99, which no count and no time is. Above 1e308 it would be infinite."""
_PREFIX = re.compile(rb" *(?:\[(\d{1,7})\]|(\d{1,7}):) ")
"""Prefix of Hydra's -prepend-rank and of srun --label. It is only a prefix at the start of a line."""
_LOOKS = re.compile(
    rb"epoch took|epoch ?\S{0,20} took|time taken by epoch|time for epoch|total training batches|global batch size is"
    rb"|processed \S{1,40} batches|epoch \d\S{0,19} of \d",
    re.IGNORECASE,
)
"""Text of a line that looks like a record. If no form matches such a line, a note says so."""
_MARKS = (
    *(b" took ", b"Time ", b"esting for", b"Training", b"batch size", b"hostname", b"Initialization"),
    *(b"(train)", b"saving weights"),
)
"""Texts that lines with records contain, apart from headers and progress lines, which are most of a log."""
_HEADER = re.compile(rb"Epoch (\S{1,20} of \S{1,20})")
_PROGRESS = b"processed "
_DECISIVE = {"total", "progress", "tested", "zero", "taken", "took", "clock"}
"""Names of the forms that occur only in logs of 3DGAN."""
_ALIKE_TO_READ = 5_000
"""Number of lines after which the reader skips headers and progress lines that only repeat known facts."""


def _occurs(block: bytes) -> bool:
    """Return True if a block contains a record that occurs only in logs of 3DGAN."""
    marks = (b"epoch took ", b"Epoch", b"Time ", b"Training", _PROGRESS)
    return any(
        match.lastgroup in _DECISIVE
        for line in lines_at(places(marks, block), block)
        for match in _RECORD.finditer(line)
    )


def _take(line: bytes, tally: Tally) -> None:
    """Add the records of a line to the tally."""
    rank, records = -1, 0
    if prefix := _PREFIX.match(line):
        rank = int(prefix[1] or prefix[2])
        tally.ranks.add(rank)
    for match in _RECORD.finditer(line):
        name = match.lastgroup or ""
        values = [value for value in match.groups()[match.re.groupindex[name] :] if value is not None]
        if name == "rank":
            rank = int(values[0])
            tally.ranks.add(rank)
        elif name != "loss" and any(map(_HUGE.search, values)):
            continue  # so the line counts as one that looks like a record
        else:
            records += 1
            _RECORDERS[name](tally, rank, values)
    if not records and _LOOKS.search(line):
        tally.wrong += 1


def _seconds(values: list[bytes]) -> float:
    """Return a time of [days,] hours, minutes and seconds in seconds."""
    *days, hours, minutes, seconds = map(float, values)
    return ((sum(days) * 24 + hours) * 60 + minutes) * 60 + seconds


# Lines that count epochs from 0 get 1 added here. "took" counts from 0 in some scripts and from 1 in others.
_RECORDERS = {
    "batch": lambda tally, rank, v: tally.batch(int(v[0]), int(v[1])),
    "total": lambda tally, rank, v: tally.total(int(float(v[0])), int(v[1])),
    "host": lambda tally, rank, v: tally.host(v[0].decode("utf-8", "replace")),
    "init": lambda tally, rank, v: tally.start(),
    "begin": lambda tally, rank, v: tally.begin(rank, int(v[0]), int(v[1])),
    "progress": lambda tally, rank, v: tally.progress(int(v[1])),
    "tested": lambda tally, rank, v: tally.tested(int(v[0]) + 1, float(v[1])),
    "zero": lambda tally, rank, v: tally.took(rank, int(v[0]) + 1, float(v[1]), with_weights=True),
    "taken": lambda tally, rank, v: tally.took(rank, int(v[0]) + 1, float(v[1])),
    "took": lambda tally, rank, v: tally.took(rank, int(v[0]), float(v[1]), base_known=False),
    "clock": lambda tally, rank, v: tally.took(rank, None, _seconds(v)),
    "testing": lambda tally, rank, v: tally.testing(rank),
    "saving": lambda tally, rank, v: tally.saving(rank),
    "loss": lambda tally, rank, v: tally.loss(rank, v[0].decode().lower(), float(v[1])),
}


def _read(path: Path, hints: Hints) -> list[RunLog]:
    """Read the one run in a log."""
    tally, blocks = Tally(), Blocks(path)
    lines_read, header = 0, b""
    for block in blocks:
        skip_repeats = lines_read > _ALIKE_TO_READ
        progress, same_steps = block.count(_PROGRESS), block.count(b"/%d batches" % (tally.steps or 0))
        lines = places(_MARKS if skip_repeats and progress == same_steps else (*_MARKS, _PROGRESS), block)
        for begin in _HEADER.finditer(block):
            # The header of the first rank is enough.
            if not skip_repeats or begin[1] != header:
                header = begin[1]
                lines.add(line_around(begin.start(), block))
        lines_read += len(lines)
        for line in lines_at(lines, block):
            _take(line, tally)
        bounded(path, tally.size)
    if tally.wrong and blocks.cut_off:
        tally.notes.append("The last line is cut off.")
    return [_run_log(path, hints, tally, blocks)]


def _run_log(path: Path, hints: Hints, tally: Tally, blocks: Blocks) -> RunLog:
    """Return the run that the tally describes. Raise RecordError if the log contains no time of an epoch."""
    seconds = tally.seconds()
    if not seconds:
        raise RecordError(
            f"{path}: the log does not contain the time of an epoch ({count(tally.wrong, 'line')} similar to a record "
            "cannot be read); expected a line such as 'The 0 epoch took 121.7 seconds'. Let the run finish an epoch"
        )
    facts, notes = complete(tally.facts(), path, hints, "the 3DGAN log")
    events = tally.steps * facts.global_batch_size if tally.steps and facts.global_batch_size else None
    epochs = {
        number: EpochTimes(
            epoch=number,
            seconds=lasted,
            events=events,
            steps=tally.steps,
            validation_seconds=tally.validation_seconds(number),
            losses=tally.losses(number),
        )
        for number, lasted in seconds.items()
    }
    return run_log(
        str(path),
        FORMAT,
        facts,
        epochs=epochs_in_order(epochs),
        status="complete" if tally.finished else "unknown",
        resumed_epochs=tally.resumed_epochs,
        notes=(*notes, *tally.remarks(), *not_understood(tally.wrong, "a record of 3DGAN"), *blocks.notes()),
    )


FORMAT = Format(name="3dgan", about="a log of the public 3DGAN scripts", occurs=_occurs, read=_read)
