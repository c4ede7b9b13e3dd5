"""Laws of scaling fitted to a curve: what limits it, where it goes, and how many nodes a target needs.

`terms` holds the formulas of jitter and allreduce, `laws` the models made of them, `fitting` finds weights with draws,
`fits` turns those into parameters and forecasts, `plans` answers how many nodes, `extrap` writes what Extra-P reads.
Where a curve comes from is in `metrics`; nothing here reads files or draws.
"""

from scaling.models.extrap import extrap_lines
from scaling.models.fits import Fit, choose, fit
from scaling.models.laws import MODELS, Model, Study
from scaling.models.plans import Plan, plan
from scaling.models.terms import ALGORITHMS, allreduce_seconds, allreduce_terms, expected_maximum

__all__ = [
    "ALGORITHMS",
    "MODELS",
    "Fit",
    "Model",
    "Plan",
    "Study",
    "allreduce_seconds",
    "allreduce_terms",
    "choose",
    "expected_maximum",
    "extrap_lines",
    "fit",
    "plan",
]
