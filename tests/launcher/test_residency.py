"""The memory of a process on each NUMA domain, as the kernel counts it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.residency import memory_by_domain, parse_numa_maps

MAPS = """\
55d0c8a00000 prefer:1 file=/usr/bin/python3.13 mapped=600 active=1 N0=600 kernelpagesize_kB=4
55d0ca000000 prefer:1 heap anon=3000 dirty=3000 N0=1000 N1=2000 kernelpagesize_kB=4
7f0000000000 prefer:1 huge anon=4 dirty=4 N1=4 kernelpagesize_kB=2048
7f0000400000 prefer:1
7ffc00000000 prefer:1 stack anon=5 dirty=5 N1=5 kernelpagesize_kB=4
"""


def test_pages_have_the_size_of_their_mapping_and_files_do_not_count() -> None:
    assert parse_numa_maps(MAPS) == {0: 1000 * 4096, 1: (2000 + 5) * 4096 + 4 * 2**21}


@given(st.text())
def test_any_text_gives_numbers(text: str) -> None:
    assert all(size >= 0 for size in parse_numa_maps(text).values())


def test_the_kernel_counts_memory_that_this_process_fills() -> None:
    if not Path("/proc/self/numa_maps").exists():
        pytest.skip("this kernel has no NUMA")
    size = 64 << 20
    before = sum(memory_by_domain().values())
    memory = bytearray(b"\1") * size
    after = sum(memory_by_domain().values())
    assert len(memory) == size
    assert after - before >= size // 2


def test_without_a_process_there_is_no_answer() -> None:
    assert memory_by_domain("0") == {}
