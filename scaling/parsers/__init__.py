"""Readers of run logs: one module per format, found by the content of the file, all giving `scaling.runs.RunLog`.

`reading` chooses the reader, `hints` holds what the user says of files that do not say it themselves. What is made
of the runs is the business of `scaling.metrics`.
"""

from scaling.parsers.hints import Hints
from scaling.parsers.reading import FORMATS, read_runs

__all__ = ["FORMATS", "Hints", "read_runs"]
