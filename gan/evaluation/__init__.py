"""Comparison of generated showers with simulated ones: samples, figures with their floors, plots and reports."""
