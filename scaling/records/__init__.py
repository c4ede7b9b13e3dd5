"""The schema of what a run says about itself: one JSON object a line in `run.jsonl`.

A record file holds one header, one line per epoch and one end line; a resumed run appends a further header.
This package knows how lines are written and read and nothing of who measures or who computes with them.
"""

from scaling.records.errors import RecordError, UserError
from scaling.records.files import RecordWriter, Run, read_run
from scaling.records.lines import from_line, to_line
from scaling.records.schema import SCHEMA, STATUSES, End, Epoch, Header, StepTimes

__all__ = [
    "SCHEMA",
    "STATUSES",
    "End",
    "Epoch",
    "Header",
    "RecordError",
    "RecordWriter",
    "Run",
    "StepTimes",
    "UserError",
    "from_line",
    "read_run",
    "to_line",
]
