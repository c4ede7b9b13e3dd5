"""Records of a training run: their fields, and functions to read and write them in the file `run.jsonl`.

The file has one JSON object per line: a header, one line per epoch, and an end. A resumed run appends another header.
`gan.training` measures and writes the records; other packages read them.
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
