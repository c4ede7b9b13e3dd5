"""The report on a scaling study: a table, plots, and an HTML page.

`contents` computes a report from runs. `text` writes its tables as text, `page` writes its HTML page, and `files` saves
all of it. The numbers come from `metrics` and `models`, the drawings from `plots`.
"""

from scaling.report.contents import Report, make_report
from scaling.report.files import write_report
from scaling.report.text import forecast_text, markdown, table_text

__all__ = ["Report", "forecast_text", "make_report", "markdown", "table_text", "write_report"]
