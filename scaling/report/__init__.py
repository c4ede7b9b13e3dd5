"""The report on a scaling study: a table, plots, and a page to look at.

`making` computes it from runs, `text` writes its tables for people, `page` its HTML page, and `files` is the only
module that writes files. The numbers come from `metrics` and `models`, the drawing from `plots`.
"""

from scaling.report.files import write_report
from scaling.report.making import Report, make_report
from scaling.report.text import forecast_text, markdown, table_text

__all__ = ["Report", "forecast_text", "make_report", "markdown", "table_text", "write_report"]
