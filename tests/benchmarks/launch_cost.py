"""Measure the cost of starting ranks, without training: `python -m tests.benchmarks.launch_cost`.

The commands are `mpirun -np N python -m launcher --dry-run`, the bare MPI for comparison, and `launcher plan`. The
figures are time and memory of all ranks together, the files that one rank opens, and the modules that one rank imports
before MPI starts. The number of messages to rank 0 shows whether the ranks send the placement along a tree.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scaling.records.saving import save_text
from tests.support.mpi_libraries import LIBRARIES, library_environment, mpirun

__all__ = ["count_opens", "main", "messages_to_rank_0"]

ROOT = Path(__file__).resolve().parents[2]
DRY_RUN = ("python", "-m", "launcher", "--dry-run")
BARE_MPI = ("python", "-c", "from mpi4py import MPI; MPI.COMM_WORLD.barrier()")
PLAN = ("python", "-m", "launcher", "plan", "--machine", "stampede2-skx", "--nodes", "128")

# Run the launcher like `python -m launcher`, and write the loaded modules to a file when it imports mpi4py.MPI.
PROBE = """
import sys
where = sys.argv.pop(1)
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "mpi4py.MPI":
            sys.meta_path.remove(self)
            with open(where, "w") as out:
                out.write(" ".join(sorted(sys.modules)))
sys.meta_path.insert(0, Watch())
import runpy
runpy.run_module("launcher", run_name="__main__", alter_sys=True)
"""


def measure(
    argv: Sequence[str], environment: Mapping[str, str], processes: int, repeats: int, sample: bool = True
) -> dict[str, float]:
    """Run a command several times, and return medians for the command with all its descendants.

    The figures are wall seconds, user and system CPU seconds per process, the resident memory of the largest process in
    MB, and the decrease of the machine's available memory in MB. Shared pages count once in this decrease, but other
    programs change it, too.

    Args:
        argv: the command.
        environment: its environment.
        processes: number of processes, by which CPU seconds are divided.
        repeats: number of runs.
        sample: whether to watch the machine's memory.

    Raises:
        RuntimeError: the command fails; the message has the end of its output.
    """
    rows = []
    for _ in range(repeats):
        with tempfile.TemporaryFile("w+") as said, _Memory(sample) as memory:
            began = time.monotonic()
            process = subprocess.Popen(argv, cwd=ROOT, env=environment, stdout=said, stderr=subprocess.STDOUT)
            # The usage of a process includes all children that it has waited for, and mpirun waits for its ranks.
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.monotonic() - began
            process.returncode = os.waitstatus_to_exitcode(status)
            said.seek(0)
            if process.returncode != 0:
                raise RuntimeError(f"{' '.join(argv)} ended with status {process.returncode}:\n{said.read()[-2000:]}")
        rows.append(
            {
                "wall_seconds": wall,
                "user_seconds_per_rank": usage.ru_utime / processes,
                "system_seconds_per_rank": usage.ru_stime / processes,
                "largest_process_mb": usage.ru_maxrss / 1024,
                "all_ranks_mb": memory.most,
            }
        )
    return {name: round(statistics.median(row[name] for row in rows), 4) for name in rows[0]}


class _Memory:
    """Watch the machine's available memory, and store its largest decrease since the start."""

    def __init__(self, on: bool) -> None:
        self.most = 0.0
        self._start = _available_mb()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True) if on else None

    def __enter__(self) -> _Memory:
        if self._thread:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        if self._thread:
            self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.1):
            self.most = max(self.most, self._start - _available_mb())


def _available_mb() -> float:
    found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    return int(found[1]) / 1024 if found else 0.0


def count_opens(lines: Iterable[str]) -> dict[str, int]:
    """Count the lines of `strace -f -e trace=%file` by kind of file, and the failed calls.

    `failed` calls are for names that do not exist: open, stat, access, readlink. They are as much work for a shared
    file system as the other calls.
    """
    calls: Counter[str] = Counter()
    for line in lines:
        call = re.search(r'\b(\w+)\((?:AT_FDCWD, )?(?:\d+, )?"([^"]*)"', line)
        if call is None:
            continue
        if " = -1 " in line:
            calls["failed"] += 1
        elif call[1] in ("open", "openat", "openat2"):
            calls[_kind(call[2])] += 1
        else:
            calls["other calls"] += 1
    names = ("Python files", "shared libraries", "folders and others", "/proc and /sys", "failed", "other calls")
    counted = {name: calls[name] for name in names}
    return counted | {"opened": sum(counted[name] for name in names[:4])}


def _kind(path: str) -> str:
    if path.startswith(("/proc/", "/sys/", "/dev/")):
        return "/proc and /sys"
    if re.search(r"\.so(\.|$)", path):
        return "shared libraries"
    return "Python files" if path.endswith((".py", ".pyc", ".pth")) else "folders and others"


def opens(command: Sequence[str], environment: Mapping[str, str], start: Sequence[str] = ()) -> dict[str, int] | None:
    """Return the counts of `count_opens` for one process of a command, or None without strace.

    Args:
        command: the command.
        environment: its environment.
        start: command line of an mpirun with two ranks. The first rank is counted, because a single rank would skip
            parts of the start.
    """
    if shutil.which("strace") is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        # The names of the files contain the process id, because the variable with the rank has another name in every
        # MPI.
        traced = 'exec strace -f -s 400 -e trace=%file -o "$0/$$" "$@"'
        _quiet([*start, "sh", "-c", traced, folder, *command], environment)
        first = min(Path(folder).iterdir(), key=lambda path: int(path.name))
        return count_opens(first.read_text(errors="replace").splitlines())


def imported_before_mpi(environment: Mapping[str, str], start: Sequence[str]) -> dict[str, Any]:
    """Return the modules that a rank loads before it imports mpi4py.MPI, by package, and their import times.

    The modules are counted in a rank under mpirun. The milliseconds come from `-X importtime` in one process, which
    loads the same modules except MPI itself. Modules of a plain `python -c pass` do not count.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/modules"
        _quiet([*start, "python", "-c", PROBE, out, "--dry-run"], environment)
        modules = set(Path(out).read_text().split())
    bare, alone = (_import_times(environment, command) for command in (["-c", "pass"], ["-m", *DRY_RUN[2:]]))
    modules -= bare.keys()
    cost: Counter[str] = Counter()
    for name in modules:
        cost[name.split(".")[0]] += alone.get(name, 0)
    count = Counter(name.split(".")[0] for name in modules)
    packages = {name: {"modules": count[name], "ms": round(cost[name] / 1000, 1)} for name in count}
    return {
        "modules": len(modules),
        "of_bare_python": len(bare),
        "ms": round(sum(cost.values()) / 1000, 1),
        "packages": dict(sorted(packages.items(), key=lambda item: -item[1]["ms"])),
    }


def _import_times(environment: Mapping[str, str], arguments: Sequence[str]) -> dict[str, int]:
    done = subprocess.run(
        ["python", "-X", "importtime", *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    rows = re.findall(r"^import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)$", done.stderr, re.MULTILINE)
    return {name: int(microseconds) for microseconds, name in rows}


def messages_to_rank_0(ranks: int, command: Sequence[str] = DRY_RUN) -> int:
    """Return the number of messages that all other ranks together send to rank 0 in a run under Open MPI.

    Open MPI's monitoring of its point-to-point layer also counts the messages of collective operations. MPI itself
    sends a few messages along a tree at its start and end.
    """
    _, environment = library_environment("openmpi")
    with tempfile.TemporaryDirectory() as folder:
        options = {"enable": "2", "enable_output": "3", "filename": f"{folder}/rank"}
        monitoring = [word for name, value in options.items() for word in ("--mca", f"pml_monitoring_{name}", value)]
        _quiet([*mpirun("openmpi", ranks, *monitoring), *command], environment)
        profiles = [path.read_text() for path in Path(folder).glob("rank.*.prof")]
    if len(profiles) != ranks:
        raise RuntimeError(
            f"{len(profiles)} of {ranks} ranks wrote a count of their messages; expected all. Check that this Open MPI "
            "has the component pml_monitoring (ompi_info)"
        )
    # E is a message of the program itself, I a part of a collective. Columns: from, to, bytes, messages.
    rows = re.findall(r"^[EI]\t(\d+)\t0\t\d+ bytes\t(\d+) msgs sent", "\n".join(profiles), re.MULTILINE)
    return sum(int(count) for _, count in rows)


def _quiet(argv: Sequence[str], environment: Mapping[str, str]) -> None:
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        words = (done.stdout + done.stderr)[-2000:]
        raise RuntimeError(f"{' '.join(map(str, argv))} ended with status {done.returncode}:\n{words}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="launch_cost", description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, default=128, help="ranks of the dry run (default: 128)")
    parser.add_argument("--repeats", type=int, default=3, help="runs per median (default: 3)")
    parser.add_argument(
        "--messages", type=int, nargs="*", default=[16, 64], help="ranks of the message counts (default: 16 64)"
    )
    parser.add_argument(
        "--library", nargs="+", choices=LIBRARIES, default=["openmpi"], help="MPI libraries (default: openmpi)"
    )
    parser.add_argument("--json", type=Path, help="JSON file for the figures (default: none)")
    options = parser.parse_args(arguments)
    result = collect(options.library, options.ranks, options.repeats, options.messages, print)
    print(render(result))
    if options.json:
        save_text(options.json, json.dumps(result, indent=1) + "\n")


def collect(
    libraries: Sequence[str], ranks: int, repeats: int, messages: Sequence[int], say: Callable[[str], None]
) -> dict[str, Any]:
    """Measure all figures and return them as plain values."""
    result: dict[str, Any] = {"cores": len(os.sched_getaffinity(0)), "ranks": ranks, "repeats": repeats, "runs": {}}
    python, environment = library_environment(libraries[0])
    for name in libraries:
        _, variables = library_environment(name)
        for title, command in (("dry run", DRY_RUN), ("bare MPI", BARE_MPI)):
            say(f"{name}: {title} of {ranks} ranks, {repeats} times")
            run = measure([*mpirun(name, ranks), *command], variables, ranks, repeats)
            result["runs"][f"{title}, {name}"] = run | {"opens": opens(command, variables, mpirun(name, 2))}
    plan = measure([python, *PLAN[1:]], environment, 1, max(repeats, 5), sample=False)
    result["runs"]["launcher plan"] = plan | {"opens": opens(PLAN, environment)}
    result["before_mpi"] = imported_before_mpi(environment, mpirun(libraries[0], 2))
    for number in messages:
        say(f"messages to rank 0 of {number} ranks")
        result.setdefault("messages_to_rank_0", {})[str(number)] = messages_to_rank_0(number)
    return result


def render(result: Mapping[str, Any]) -> str:
    """Return the figures as tables."""
    lines = [f"{result['ranks']} ranks on {result['cores']} cores; medians of {result['repeats']} runs", ""]
    lines.append(f"{'':24}{'wall s':>8}{'CPU s/rank':>12}{'MB/process':>12}{'total MB':>10}{'opens':>7}{'failed':>8}")
    for name, run in result["runs"].items():
        cpu = run["user_seconds_per_rank"] + run["system_seconds_per_rank"]
        opened = run["opens"] or {"opened": "?", "failed": "?"}
        lines.append(
            f"{name:24}{run['wall_seconds']:8.2f}{cpu:12.3f}{run['largest_process_mb']:12.0f}"
            f"{run['all_ranks_mb']:10.0f}{opened['opened']:>7}{opened['failed']:>8}"
        )
    lines += ["", "Files that one rank opens"]
    for name, run in result["runs"].items():
        kinds = ", ".join(f"{number} {kind}" for kind, number in (run["opens"] or {}).items() if kind != "opened")
        lines.append(f"  {name}: {kinds or 'not counted, since strace is missing'}")
    before = result["before_mpi"]
    lines += [
        "",
        f"Imported before MPI: {before['modules']} modules in {before['ms']:.0f} ms, without the "
        f"{before['of_bare_python']} modules of a bare Python",
    ]
    lines += [
        f"  {name:24}{package['modules']:>5} modules {package['ms']:8.1f} ms"
        for name, package in before["packages"].items()
        if package["ms"] >= 3
    ]
    counted = result.get("messages_to_rank_0", {})
    if counted:
        lines += ["", "Messages to rank 0: " + ", ".join(f"{number} of {n} ranks" for n, number in counted.items())]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
