"""Read from the kernel on which NUMA domains the memory of a process really is.

A memory policy is a wish: when a domain is full, the kernel takes memory elsewhere. The format of numa_maps is
described in the manual page numa(7).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

__all__ = ["memory_by_domain", "parse_numa_maps"]

_PAGES = re.compile(r"N(\d+)=(\d+)")
_PAGE_SIZE = re.compile(r"kernelpagesize_kB=(\d+)")


def memory_by_domain(process: str = "self") -> Mapping[int, int]:
    """Return the bytes of a process on each NUMA domain, see `parse_numa_maps`. Empty if the kernel does not say."""
    try:
        return parse_numa_maps(Path(f"/proc/{process}/numa_maps").read_text(errors="replace"))
    except OSError:
        return {}


def parse_numa_maps(text: str) -> Mapping[int, int]:
    """Return the bytes on each NUMA domain by the number of the domain.

    Mappings of files are left out: processes on other domains share them, and the first one chose their place.
    """
    total: Counter[int] = Counter()
    for line in text.splitlines():
        size = _PAGE_SIZE.search(line)
        if size and " file=" not in line:
            for domain, pages in _PAGES.findall(line):
                total[int(domain)] += int(pages) * int(size[1]) * 1024
    return dict(total)
