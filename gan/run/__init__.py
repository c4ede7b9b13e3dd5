"""The folder of a run: its files, its checkpoints, its lock."""
