"""Runs in, scaling curves out: time per epoch, events/s, speed-up and parallel efficiency as pandas tables.

`epochs` makes a row per epoch, `points` a row per size with intervals from `bootstrap`, `curves` the speed-up against a
baseline, `breakdown` splits the time, `checks` says what does not compare. Pure functions: nothing here reads or writes
a file, prints or draws. What is fitted to a curve is in `models`.

3DGAN is scaled with a fixed local batch: the data set stays, the global batch grows with the workers, and an epoch
processes the largest multiple of the global batch that the data set holds. A large run therefore drops a few more
events than a small one. Speed-up is computed from events really processed per second, so that what was dropped does
not count as speed.
"""

from scaling.metrics.breakdown import PARTS, breakdown
from scaling.metrics.checks import differences, notes
from scaling.metrics.curves import MODES, curve
from scaling.metrics.epochs import epochs_table, series_labels
from scaling.metrics.points import points

__all__ = [
    "MODES",
    "PARTS",
    "breakdown",
    "curve",
    "differences",
    "epochs_table",
    "notes",
    "points",
    "series_labels",
]
