"""Formulas and measures for showers."""
