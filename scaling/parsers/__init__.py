"""Read run logs of several formats, as `scaling.runs.RunLog`. Each format has its own module.

`reading` recognises the format of a file by its content. `hints` adds facts that a log does not contain, from options
and file names. `scaling.metrics` computes with the runs.
"""

from scaling.parsers.hints import Hints
from scaling.parsers.reading import FORMATS, read_runs

__all__ = ["FORMATS", "Hints", "read_runs"]
