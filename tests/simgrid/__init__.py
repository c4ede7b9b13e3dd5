"""The communication term of `scaling.models` beside allreduces simulated with SimGrid: `python -m tests.simgrid`."""
