"""Turns logs of training runs into scaling curves: time per epoch, speed-up, efficiency, what costs it, and forecasts.

`parsers` read logs, `metrics` compute, `models` fit and forecast, `plots` and `report` show; `study` puts them together
and `cli` holds the commands. `records` is the format of this project's own runs, which `gan` writes.
"""
