"""Place workers on the nodes of a CPU cluster, bind them, check the binding and train over MPI."""

__version__ = "0.1.0"
