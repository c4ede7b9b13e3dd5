"""Batch jobs: everything before the ranks of a training exist, from a machine's data file to ranks on its nodes."""
