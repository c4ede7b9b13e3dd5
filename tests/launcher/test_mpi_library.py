"""The name, starter and version of an MPI library from the text that it prints."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.commands import STARTERS
from launcher.mpi_library import MpiLibrary, identify

OPEN_MPI = "Open MPI v5.0.11, package: Open MPI user@localhost Distribution, ident: 5.0.11"
OPEN_MPIRUN = "mpirun (Open MPI) 5.0.11\n\nReport bugs to https://www.open-mpi.org/community/help/\n"
HYDRA = "HYDRA build details:\n    Version:                                 4.2.1\n"


@pytest.mark.parametrize(
    ("text", "name", "starter", "version"),
    [
        (OPEN_MPI, "Open MPI", "open_mpi", "5.0.11"),
        (OPEN_MPIRUN, "Open MPI", "open_mpi", "5.0.11"),
        ("MPICH Version:      4.2.1\nMPICH Release date: Wed Apr 17", "MPICH", "mpich", "4.2.1"),
        ("MPI VERSION    : CRAY MPICH version 8.1.25.17 (ANL base 3.4a2)", "MPICH", "mpich", "8.1.25.17"),
        (HYDRA, "MPICH", "mpich", "4.2.1"),
        (HYDRA + "    Configure options: --prefix=/opt/mvapich2\n", "MPICH", "mpich", "4.2.1"),
        ("Intel(R) MPI Library 2021.13 for Linux* OS\n", "Intel MPI", "intel_mpi", "2021.13"),
        ("Intel(R) MPI Library for Linux* OS, Version 2021.11 Build 20231005", "Intel MPI", "intel_mpi", "2021.11"),
        ("MVAPICH2 Version      : 2.3.7", "MVAPICH", "mpich", "2.3.7"),
        ("MVAPICH Version : 3.0\nMVAPICH Configure: --with-device=ch4:ofi, MPICH 3.4", "MVAPICH", "mpich", "3.0"),
        ("an MPICH without a number", "MPICH", "mpich", ""),
    ],
)
def test_known_libraries(text: str, name: str, starter: str, version: str) -> None:
    assert identify(text) == MpiLibrary(name, starter, version)
    assert starter in STARTERS
    assert str(identify(text)) == f"{name} {version}".strip()


@pytest.mark.parametrize("text", ["", "slurm 23.11", "Another MPI"])
def test_unknown_libraries(text: str) -> None:
    assert identify(text) is None


@given(st.text())
def test_any_text_has_an_answer(text: str) -> None:
    library = identify(text)
    assert library is None or library.name
