"""Plots of a comparison: described once, drawn by plotly for the page and by matplotlib as PNG and SVG."""
