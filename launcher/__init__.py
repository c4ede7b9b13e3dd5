"""Places workers on the nodes of a CPU cluster, binds them, proves the binding and starts a training over MPI."""

__version__ = "0.1.0"
