"""Turn logs of training runs into scaling curves: time per epoch, speed-up, efficiency, causes of lost time, forecasts.

`parsers` read logs, `metrics` compute tables, `models` fit laws and forecast, `plots` and `report` present the results.
`study` connects these steps, and `cli` has the commands. `records` defines the format of run.jsonl, which `gan` writes.
"""
