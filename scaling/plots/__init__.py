"""Every plot of a scaling study, described once and drawn twice: for paper by matplotlib and for a browser by plotly.

`panels`, `steps` and `placement` say what a plot shows, from the tables of `metrics` and the records; `static` and
`interactive` draw it. Saving is left to `scaling.report`. plotly is loaded by `interactive` alone.
"""

from scaling.plots.describe import Bars, Cells, Line, Panel, Plot
from scaling.plots.panels import breakdown_panels, curve_panels
from scaling.plots.placement import placement_plots
from scaling.plots.static import as_text, draw, scaling_figure
from scaling.plots.steps import loss_panels, rank_panel, slowest_panel, step_panel

__all__ = [
    "Bars",
    "Cells",
    "Line",
    "Panel",
    "Plot",
    "as_text",
    "breakdown_panels",
    "curve_panels",
    "draw",
    "loss_panels",
    "placement_plots",
    "rank_panel",
    "scaling_figure",
    "slowest_panel",
    "step_panel",
]
