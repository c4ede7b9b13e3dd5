"""Benchmarks to run by hand. Tests never check times, but some tests check what the benchmarks count."""
