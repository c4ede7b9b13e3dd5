"""Make the virtual environment: Python packages, an MPI, and a Horovod built against both. Standard library only."""
