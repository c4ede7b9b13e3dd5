"""Parametrised simulation of electron showers: the GFlash formulas, and the production of files from them."""
