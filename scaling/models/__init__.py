"""Fit laws of scaling to a curve, forecast other sizes, and compute how many nodes a target needs.

`terms` holds the formulas for jitter and allreduce, `laws` the models that combine them. `weights` fits the weights of
a model, with bootstrap draws. `fits` turns weights into parameters and forecasts, `plans` into numbers of nodes.
`extrap` writes the input of Extra-P. All functions are pure: they do no input or output.
"""

from scaling.models.extrap import extrap_lines
from scaling.models.fits import Fit, choose, fit
from scaling.models.laws import MODELS, Model, Workload
from scaling.models.plans import Plan, plan
from scaling.models.terms import ALGORITHMS, allreduce_seconds, allreduce_terms, expected_maximum

__all__ = [
    "ALGORITHMS",
    "MODELS",
    "Fit",
    "Model",
    "Plan",
    "Workload",
    "allreduce_seconds",
    "allreduce_terms",
    "choose",
    "expected_maximum",
    "extrap_lines",
    "fit",
    "plan",
]
