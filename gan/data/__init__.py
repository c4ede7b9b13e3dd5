"""Showers in HDF5 files: their layout, reading and writing them, and batches for a training."""
