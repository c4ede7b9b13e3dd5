"""Batch jobs: job scripts, submission to Slurm, scaling studies, and the program that starts the ranks inside a job."""
