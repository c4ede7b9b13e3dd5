"""The plots of a scaling study. Each is described once and drawn twice: by matplotlib for files, by plotly for a page.

`panels`, `steps` and `placement` make descriptions of plots (`describe`) from tables and runs. `static` and
`interactive` draw them. `scaling.report` saves them. Only `interactive` loads plotly.
"""

from scaling.plots.describe import Bars, Cells, Line, Panel, Plot
from scaling.plots.panels import breakdown_panels, curve_panels
from scaling.plots.placement import placement_plots
from scaling.plots.quality import quality_panels
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
    "quality_panels",
    "rank_panel",
    "scaling_figure",
    "slowest_panel",
    "step_panel",
]
