"""Figures that compare generated showers with simulated ones. Pure functions of `observables.Observables` and arrays.

Every figure is 0 for equal distributions, except where its docstring says otherwise.
"""
