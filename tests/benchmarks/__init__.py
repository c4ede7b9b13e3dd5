"""Benchmarks to run by hand. Tests never check times; some check what the benchmarks count."""
