"""Write the CPU masks of this process's threads to FOLDER/RANK.json: `python -m tests.cluster.witness FOLDER`.

The program does not use plans or placements, so that it can check them. It writes to a file, because the lines of many
ranks would mix on one console.
"""

from __future__ import annotations

import json
import os
import re
import socket
import sys
from pathlib import Path

from launcher.allocation import Allocation
from launcher.binding import memory_policy


def main() -> None:
    tasks = sorted(Path("/proc/self/task").iterdir())
    found = {
        "host": socket.gethostname(),
        "local_rank": Allocation.from_environment(os.environ).local_rank,
        "cpus": [sorted(os.sched_getaffinity(int(task.name))) for task in tasks],
        "kernel": [_allowed(task) for task in tasks],
        "memory": memory_policy(),
    }
    rank = Allocation.from_environment(os.environ).rank
    Path(sys.argv[1], f"{rank}.json").write_text(json.dumps(found))


def _allowed(task: Path) -> str:
    found = re.search(r"Cpus_allowed_list:\s*(\S+)", (task / "status").read_text())
    return found[1] if found else ""


if __name__ == "__main__":
    main()
