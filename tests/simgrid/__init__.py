"""Compare the communication term of `scaling.models` with SimGrid's simulation: `python -m tests.simgrid`."""
