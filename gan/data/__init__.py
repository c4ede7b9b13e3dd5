"""Showers in HDF5 files: their layout, reading and writing, and batches for a training."""
