"""Showers from a trained generator."""
