"""What the bed's site sets for the MPI libraries of its users."""

from __future__ import annotations

__all__ = ["MPI_SETTINGS", "UNBOUND"]

MPI_SETTINGS = {
    # Slurm's PMIx is of another release than the one in a wheel; these two are what both know.
    "PMIX_MCA_psec": "native",
    "PMIX_MCA_gds": "hash",
    # All nodes share a few cores: a rank that waits should not hold one.
    "OMPI_MCA_mpi_yield_when_idle": "1",
    # Open MPI 5's own TCP crashes where a message arrives before its receiver is out of MPI_Init (its issue 12495), and
    # with more ranks than cores that happens every few starts. UCX keeps the message.
    "OMPI_MCA_pml": "ucx",
    "OMPI_MCA_pml_ucx_tls": "any",
    "OMPI_MCA_pml_ucx_devices": "any",
    "UCX_TLS": "tcp,posix,self",
    # It takes the end of the other ranks for an error.
    "OMPI_MCA_opal_common_ucx_verbose": "-1",
    "UCX_LOG_LEVEL": "fatal",
}
"""What this site's modules would set for Open MPI 5 and 4."""
UNBOUND = {
    # Slurm speaks of 48 cores a node, hwloc of this machine's: Open MPI 5 and 4 would refuse to bind.
    "PRTE_MCA_hwloc_default_binding_policy": "none",
    "OMPI_MCA_hwloc_base_binding_policy": "none",
}
