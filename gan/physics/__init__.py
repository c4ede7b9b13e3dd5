"""Physics of showers: formulas and measures."""
