"""Parametrised simulation of electron showers: the GFlash formulas, and the production of shower files."""
