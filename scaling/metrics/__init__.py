"""Compute scaling curves from runs: time per epoch, events/s, speed-up and parallel efficiency, as pandas tables.

`epochs` makes one row per epoch. `points` makes one row per size, with intervals from `bootstrap`. `curves` adds the
speed-up relative to a baseline. `breakdown` splits the time of an epoch into parts. `checks` finds runs that cannot be
compared, `verdicts` compares two studies. All functions are pure: they do no input or output. `models` fits curves.

3DGAN is usually scaled with a fixed batch per worker: the data set stays the same and the global batch grows with the
number of workers. An epoch processes the largest multiple of the global batch that the data set contains, so a large
run drops a few more events than a small one. Speed-up is therefore computed from the events processed per second:
dropped events do not count as speed.
"""

from scaling.metrics.breakdown import PARTS, breakdown
from scaling.metrics.checks import differences, notes
from scaling.metrics.curves import curve
from scaling.metrics.epochs import epochs_table, series_labels
from scaling.metrics.points import points

__all__ = [
    "PARTS",
    "breakdown",
    "curve",
    "differences",
    "epochs_table",
    "notes",
    "points",
    "series_labels",
]
