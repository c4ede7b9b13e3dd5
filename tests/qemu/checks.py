"""Checks inside the guest, a node of 2 domains x 24 cores x 2 threads: `python -m tests.qemu.checks`.

The checks compare these with the plan for 4 workers: the topology that the launcher reads, its plan, its binding of
CPUs and memory, and Open MPI's and Intel MPI's own binding. Each check prints PASS or FAIL with the seen values. All
checks run, even after a failure.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from launcher.binding import bind, memory_policy, prefer_memory
from launcher.commands import intel_mpi, open_mpi
from launcher.cpulist import format_cpu_list, parse_cpu_list
from launcher.placement import Placement, WorkerPlacement, place
from launcher.topology import Topology, read_topology
from tests.support.mpi_libraries import library_environment, mpirun

WORKERS = 4
TOUCHED = 32 * 2**20
"""Bytes of memory that a worker uses, so that the kernel shows the domain of the pages."""
MASKS = (
    "import os; from launcher.cpulist import format_cpu_list as f; "
    "print(os.environ['PMI_RANK'], f(os.sched_getaffinity(0)), flush=True)"
)


class CheckFailed(Exception):
    """A check failed. The message says what was seen and what was expected."""


def expect(what: str, seen: object, expected: object) -> str:
    """Return `seen` as text. Raise CheckFailed if it differs from `expected`."""
    if seen != expected:
        raise CheckFailed(f"{what}: seen {seen}, expected {expected}")
    return f"{what} {seen}"


def check_topology(topology: Topology, plan: Placement) -> str:
    """`launcher topology` agrees with QEMU's command line, and `launcher plan` agrees with the placement."""
    told = json.loads(command(sys.executable, "-m", "launcher", "topology"))
    cores = [core for core in told["cores"] if len(parse_cpu_list(core["cpus"])) == 2]
    seen = [[core["domain"] for core in cores].count(domain["id"]) for domain in told["domains"]]
    expect("cores of two threads in each domain", seen, [24, 24])
    expect("packages", sorted({core["package"] for core in told["cores"]}), [0, 1])
    expect("distances", [domain["distances"] for domain in told["domains"]], [[10, 21], [21, 10]])
    if not all(domain["memory_bytes"] > 2**30 for domain in told["domains"]):
        raise CheckFailed(f"each domain was given 1.5 GiB, but they have {told['domains']}")
    shown = command(sys.executable, "-m", "launcher", "plan", "--workers-per-node", WORKERS)
    for worker in plan.workers:
        if format_cpu_list(worker.cpus) not in shown:
            raise CheckFailed(f"the plan does not show {format_cpu_list(worker.cpus)}:\n{shown}")
    return "2 domains x 24 cores x 2 threads; workers on " + " | ".join(cpus_of(plan))


def check_binding(topology: Topology, plan: Placement) -> str:
    """For each worker, bind() sets the masks of all threads, the memory policy and the domain of new pages."""
    for worker in plan.workers:
        told = in_child(partial(bound, worker, len(topology.domains)))
        expect("masks of the threads", told["masks"], [format_cpu_list(worker.cpus)])
        expect("memory policy", told["policy"], f"preferred:{worker.domain}")
        expect(f"pages of worker {worker.local_rank} by domain", list(told["pages"]), [str(worker.domain)])
        if told["pages"][str(worker.domain)] * 4096 < TOUCHED:
            raise CheckFailed(f"{TOUCHED} bytes were touched, numa_maps shows {told['pages']} pages")
    return "masks, policy and pages of 4 workers as planned"


def check_memory_policy(topology: Topology, plan: Placement) -> str:
    """A worker on domain 0 that prefers domain 1 gets pages of domain 1. Without a policy it would get domain 0."""

    def far() -> dict[str, object]:
        bind(plan.workers[0], len(topology.domains))
        prefer_memory(1)
        return {"policy": memory_policy(), "pages": pages_by_domain()}

    told = in_child(far)
    expect("CPUs", {topology_domain(topology, cpu) for cpu in plan.workers[0].cpus}, {0})
    return expect("policy and domains of pages", (told["policy"], list(told["pages"])), ("preferred:1", ["1"]))


def check_launcher_binds(topology: Topology, plan: Placement) -> str:
    """Under mpirun without binding, the launcher binds, and its report shows this."""
    return reported("openmpi", mpirun("openmpi", WORKERS, "--bind-to", "none"), {}, plan, "launcher")


def check_open_mpi_line(topology: Topology, plan: Placement) -> str:
    """With the line from `launcher plan`, Open MPI binds as planned, and the launcher keeps this binding."""
    line = open_mpi(topology, plan, 1, ())
    start = [*mpirun("openmpi", WORKERS)[:1], *line.argv[1:]]
    return reported("openmpi", start, line.environment, plan, "Open MPI")


def check_intel_line(topology: Topology, plan: Placement) -> str:
    """With the masks from `launcher plan`, Intel MPI binds as planned, and the launcher keeps this binding."""
    line = intel_mpi(topology, plan, 1, ())
    start = [*mpirun("impi", WORKERS)[:1], *line.argv[1:]]
    return reported("impi", start, line.environment, plan, "Intel MPI")


def check_intel_compact(topology: Topology, plan: Placement) -> str:
    """Intel MPI's own pinning with compact domains equals the plan."""
    seen = intel_masks({"I_MPI_PIN": "1", "I_MPI_PIN_DOMAIN": "auto:compact"})
    return expect("masks by rank", seen, cpus_of(plan))


def check_intel_masks(topology: Topology, plan: Placement) -> str:
    """Check that ranks without the launcher get the masks that the plan writes for Intel MPI."""
    return expect("masks by rank", intel_masks(dict(intel_mpi(topology, plan, 1).environment)), cpus_of(plan))


CHECKS: tuple[tuple[str, Callable[[Topology, Placement], str]], ...] = (
    ("topology and plan", check_topology),
    ("bind()", check_binding),
    ("memory policy is honoured", check_memory_policy),
    ("mpirun --bind-to none: the launcher binds", check_launcher_binds),
    ("the plan's line for Open MPI", check_open_mpi_line),
    ("the plan's line for Intel MPI", check_intel_line),
    ("the plan's masks under Intel MPI", check_intel_masks),
    ("Intel MPI's auto:compact", check_intel_compact),
)


def bound(worker: WorkerPlacement, domains: int) -> dict[str, object]:
    """Bind this process and return the result as the kernel's files show it."""
    bind(worker, domains)
    texts = [path.read_text() for path in Path("/proc/self/task").glob("*/status")]
    masks = {re.search(r"Cpus_allowed_list:\s*(\S+)", text)[1] for text in texts}  # type: ignore[index]
    return {"masks": sorted(masks), "policy": memory_policy(), "pages": pages_by_domain()}


def pages_by_domain() -> dict[str, int]:
    """Write to new memory, and return the number of its pages on each domain, from numa_maps."""
    memory = mmap.mmap(-1, TOUCHED, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for offset in range(0, TOUCHED, 4096):
        memory[offset] = 1
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    rows = [line.split() for line in Path("/proc/self/numa_maps").read_text().splitlines()]
    # numa_maps may merge neighbouring mappings. The last mapping that begins at or below the address contains it.
    row = max((row for row in rows if int(row[0], 16) <= start), key=lambda row: int(row[0], 16))
    return {match[1]: int(match[2]) for word in row if (match := re.fullmatch(r"N(\d+)=(\d+)", word))}


def in_child(work: Callable[[], dict[str, object]]) -> dict:
    """Call `work` in a forked process, because a binding cannot be undone, and return its result."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            os.write(writing, json.dumps(work()).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as told:
        text = told.read()
    os.waitpid(child, 0)
    if not text:
        raise CheckFailed("the process that should bind itself ended without an answer")
    return json.loads(text)


def reported(name: str, start: Sequence[str], variables: Mapping[str, str], plan: Placement, binder: str) -> str:
    """Run the launcher with --dry-run, and compare its report with the plan."""
    python, environment = library_environment(name)
    printed = command(*start, python, "-m", "launcher", "--dry-run", environment={**environment, **variables})
    rows = [re.split(r"\s{2,}", line.strip()) for line in printed.splitlines() if re.match(r"  \d", line)]
    seen = [(row[1], row[2], row[3], row[4], row[-1]) for row in rows]
    expected = [
        (str(worker.domain), str(worker.cores), format_cpu_list(worker.cpus), f"preferred:{worker.domain}", binder)
        for worker in plan.workers
    ]
    if binder != "launcher":
        # MPI libraries bind CPUs only. By default the kernel then places memory near the CPU that uses it first.
        expected = [(*row[:3], memory[3], row[4]) for row, memory in zip(expected, seen, strict=False)]
    try:
        return expect("domain, cores, CPUs, memory and binder by rank", seen, expected)
    except CheckFailed as error:
        raise CheckFailed(f"{error}\n{printed}") from None


def intel_masks(variables: Mapping[str, str]) -> list[str]:
    """Return the CPUs of 4 ranks under Intel MPI's mpirun, by rank."""
    python, environment = library_environment("impi")
    told = command(*mpirun("impi", WORKERS), python, "-c", MASKS, environment={**environment, **variables})
    return [line.split()[1] for line in sorted(told.splitlines()) if re.match(r"\d+ \d", line)]


def command(*argv: object, environment: Mapping[str, str] | None = None) -> str:
    done = subprocess.run([*map(str, argv)], env=environment, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode != 0:
        words = f"{done.stdout}\n{done.stderr}".strip()
        raise CheckFailed(f"{' '.join(map(str, argv))} ended with status {done.returncode}:\n{words}")
    return done.stdout


def cpus_of(plan: Placement) -> list[str]:
    return [format_cpu_list(worker.cpus) for worker in plan.workers]


def topology_domain(topology: Topology, cpu: int) -> int:
    return next(core.domain for core in topology.cores if cpu in core.cpus)


def main() -> int:
    topology = read_topology()
    plan = place(topology, WORKERS)
    failed = 0
    for title, check in CHECKS:
        began = time.monotonic()
        try:
            verdict, text = "PASS", check(topology, plan)
        except CheckFailed as error:
            verdict, text = "FAIL", str(error)
        except Exception:
            verdict, text = "FAIL", traceback.format_exc()
        failed += verdict == "FAIL"
        print(f"{verdict} {title}: {text} ({time.monotonic() - began:.0f} s)", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
