"""Settings of the MPI libraries on the bed."""

from __future__ import annotations

__all__ = ["MPI_SETTINGS", "UNBOUND"]

MPI_SETTINGS = {
    # Slurm's PMIx and the PMIx in the wheel are different releases. Both have these two components.
    "PMIX_MCA_psec": "native",
    "PMIX_MCA_gds": "hash",
    # All nodes share a few cores, so a waiting rank should yield its core to others.
    "OMPI_MCA_mpi_yield_when_idle": "1",
    # Open MPI 5's own TCP crashes if a message arrives before its receiver has left MPI_Init (Open MPI issue 12495).
    # With more ranks than cores this happens every few starts. UCX keeps the message.
    "OMPI_MCA_pml": "ucx",
    "OMPI_MCA_pml_ucx_tls": "any",
    "OMPI_MCA_pml_ucx_devices": "any",
    "UCX_TLS": "tcp,posix,self",
    # UCX reports the end of other ranks as an error.
    "OMPI_MCA_opal_common_ucx_verbose": "-1",
    "UCX_LOG_LEVEL": "fatal",
}
"""Variables that the modules of a real site would set for Open MPI 5 and 4."""
UNBOUND = {
    # Slurm reports 48 cores per node, but hwloc reports the real cores. So Open MPI 5 and 4 would refuse to bind.
    "PRTE_MCA_hwloc_default_binding_policy": "none",
    "OMPI_MCA_hwloc_base_binding_policy": "none",
}
"""Additional variables for nodes without pretended CPUs."""
