"""The bed itself: its nodes behave like separate machines, Slurm runs jobs on them, and nothing remains at the end."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import pytest

from launcher.cpulist import parse_cpu_list
from tests.cluster import config
from tests.cluster.bed import BedError, MakeBed, SlurmBed, below_tmp
from tests.cluster.namespaces import PREFIX, claim
from tests.cluster.requirements import find
from tests.support.environment import ROOT

IDENTITY = """
echo $(hostname) $(cat /proc/sys/kernel/random/boot_id) $(readlink /proc/self/ns/ipc)
touch /tmp/was-here-$(hostname) /dev/shm/was-here-$(hostname)
"""

ALLREDUCE = """
import sys
from pathlib import Path
import numpy as np
from mpi4py import MPI

def sent():
    line = next(line for line in Path("/proc/self/net/dev").read_text().splitlines() if "eth0:" in line)
    return int(line.split()[9])

world, values = MPI.COMM_WORLD, np.full(2**20, 1.0, np.float32)
total = np.empty_like(values)
world.Barrier()
before = sent()
world.Allreduce(values, total)
world.Barrier()
assert (total == world.size).all()
Path(sys.argv[1], f"{world.rank}").write_text(str(sent() - before))
"""


def test_nodes_are_separate_machines(bed: SlurmBed, tmp_path: Path) -> None:
    identities = bed.run(["srun", "--nodes=4", "sh", "-c", IDENTITY], check=True).stdout.split()
    assert sorted(identities[0::3]) == list(bed.nodes)
    assert len(set(identities[1::3])) == len(set(identities[2::3])) == 4
    (tmp_path / "for all").touch()
    for node in bed.nodes:
        assert bed.on_node(node, ["ls", tmp_path]).stdout == "for all\n"
        left = bed.on_node(node, ["sh", "-c", "ls -d /tmp/was-here-* /dev/shm/was-here-*"]).stdout.split()
        assert left == [f"/dev/shm/was-here-{node}", f"/tmp/was-here-{node}"]


@pytest.mark.parametrize("nodes", [4, 1])
def test_messages_cross_the_network_only_between_nodes(bed: SlurmBed, tmp_path: Path, nodes: int) -> None:
    """If a library takes two nodes for one host, it uses shared memory, and nothing crosses the network."""
    script = tmp_path / "allreduce.py"
    script.write_text(ALLREDUCE)
    done = bed.run(["srun", f"--nodes={nodes}", "--ntasks=4", "--mpi=pmix", "python", script, tmp_path])
    assert done.returncode == 0, done.stderr
    sent = sum(int((tmp_path / f"{rank}").read_text()) for rank in range(4))
    if nodes == 1:
        assert sent < 2**20
    else:
        # A sum needs the values of three other nodes, and then goes to three other nodes.
        assert sent >= 2 * 3 * 4 * 2**20


def test_job_shows_how_it_ended(bed: SlurmBed) -> None:
    failing = bed.sbatch("#!/bin/sh\necho on $(hostname)\nexit 3\n", "--nodes=2", "--job-name=failing")
    ended = bed.wait(failing)
    assert (ended.state, ended.exit_code, ended.signal) == ("FAILED", 3, 0)
    assert ended.output == f"on {bed.nodes[0]}\n"
    assert "failing" in bed.run(["sacct", "--completion", "--noheader"], check=True).stdout
    sleeping = bed.sbatch("#!/bin/sh\nexec sleep 600\n")
    bed.wait(sleeping, until=lambda job: job.state == "RUNNING")
    bed.run(["scancel", sleeping], check=True)
    assert bed.wait(sleeping).state == "CANCELLED"


def test_partitions_have_the_machines_limits(bed: SlurmBed) -> None:
    done = bed.run(["sbatch", "--partition=skx-dev", "--time=03:00:00", "--wrap=true"])
    assert done.returncode != 0
    assert "time limit" in done.stderr.lower()


CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], 6818), timeout=2)"
"""Program that connects to the slurmd of a node, at Slurm's usual port."""


def test_killed_node_fails_its_job_and_comes_back(make_bed: MakeBed) -> None:
    bed = make_bed(2, slurmd_timeout=4)
    # There is no srun in the script: it could detect the failure first, and the script would end before Slurm ends the
    # job.
    job = bed.sbatch("#!/bin/sh\nexec sleep 600\n", "--nodes=2", "--no-requeue")
    bed.wait(job, until=lambda job: job.state == "RUNNING")
    dead = bed.nodes[1]
    assert bed.run(["python", "-c", CONNECT, dead]).returncode == 0
    bed.kill_node(dead)
    assert bed.killed == {dead}
    assert bed.run(["python", "-c", CONNECT, dead]).returncode != 0
    assert bed.wait(job, timeout=60).state == "NODE_FAIL"
    bed.start_node(dead)
    assert bed.run(["srun", "--nodes=2", "hostname"], check=True).stdout.split().count(dead) == 1


INHERITANCE = """
import os, subprocess, sys, threading
show = "import os; print(len(os.sched_getaffinity(0)))"
started, leave = threading.Event(), threading.Event()
early = threading.Thread(target=lambda: (started.set(), leave.wait()))
early.start(); started.wait()
os.sched_setaffinity(0, range(24, 36))
late = []
thread = threading.Thread(target=lambda: late.append(len(os.sched_getaffinity(0))))
thread.start(); thread.join()
child = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True).stdout.strip()
try:
    os.sched_setaffinity(0, [96])
except OSError as error:
    refused = error.strerror
print(len(os.sched_getaffinity(early.native_id)), late[0], child, refused)
leave.set()
"""


def test_pretended_masks_are_inherited_like_the_kernels(skx_bed: SlurmBed) -> None:
    """A thread that started before its process was bound keeps the old mask. The report must show this."""
    done = skx_bed.on_node(skx_bed.nodes[0], ["python", "-c", INHERITANCE], check=True)
    assert done.stdout.split(maxsplit=3) == ["96", "12", "12", "Invalid argument\n"]


def test_every_tool_sees_the_pretended_node(skx_bed: SlurmBed) -> None:
    node = skx_bed.nodes[0]
    assert skx_bed.on_node(node, ["nproc"]).stdout == "96\n"
    assert "ThreadsPerCore=2" in skx_bed.on_node(node, [find("slurmd"), "-C"]).stdout
    shown = skx_bed.run(["srun", "--cpu-bind=mask_cpu:0x800000000001", "sh", "-c", "taskset -cp $$"]).stdout
    assert parse_cpu_list(shown.rpartition(" ")[2]) == (0, 47)


@pytest.fixture
def traces() -> set[str]:
    return look_for_traces()


def look_for_traces() -> set[str]:
    """Return everything of beds that other programs on this machine can see, except processes."""
    commands = (["ip", "netns", "list"], ["ip", "-oneline", "link"], ["ip", "-oneline", "address"])
    lines = [line for command in commands for line in subprocess.check_output(command, text=True).splitlines()]
    files = [Path(name).read_text() for name in ("/proc/self/mountinfo", "/etc/hosts", "/proc/sys/kernel/hostname")]
    places = [str(Path(name)) for name in ("/run/netns", "/etc/ld.so.preload") if Path(name).exists()]
    return {*lines, *(line for text in files for line in text.splitlines()), *places}


def alive(processes: list[int]) -> list[str]:
    """Return the processes that still run. Call this soon after a bed's end, before the kernel uses the ids again."""
    found = []
    for process in processes:
        try:
            state = Path(f"/proc/{process}/stat").read_text()
        except OSError:
            continue
        if state.rpartition(")")[2].split()[0] not in "ZX":
            found.append(state)
    return found


@pytest.mark.parametrize("ending", ["normally", "by an exception", "by Ctrl-C"])
def test_ended_bed_leaves_no_trace(traces: set[str], ending: str) -> None:
    errors: dict[str, type[BaseException]] = {"by an exception": ZeroDivisionError, "by Ctrl-C": KeyboardInterrupt}
    error = errors.get(ending)
    with pytest.raises(error) if error else nullcontext(), SlurmBed(2) as bed:
        job = bed.sbatch("#!/bin/sh\nsrun sleep 600\n", "--nodes=2")
        bed.wait(job, until=lambda job: job.state == "RUNNING")
        assert look_for_traces() == traces
        processes = bed.processes()
        assert len(alive(processes)) > 10
        if error:
            raise error
    assert not bed.folder.exists()
    assert alive(processes) == []
    assert look_for_traces() == traces


HOLDER = """
import time
from tests.cluster.bed import SlurmBed
with SlurmBed(2) as bed:
    print(bed.folder, *bed.processes(), flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("fatal", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
def test_killing_the_tests_ends_the_bed(traces: set[str], fatal: signal.Signals) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    folder, *processes = holder.stdout.readline().split()
    assert len(alive([int(process) for process in processes])) > 5
    holder.send_signal(fatal)
    holder.wait()
    limit = time.monotonic() + 30
    while (Path(folder).exists() or alive([int(process) for process in processes])) and time.monotonic() < limit:
        time.sleep(0.05)
    assert not Path(folder).exists()
    assert alive([int(process) for process in processes]) == []
    assert look_for_traces() == traces


def test_unused_folders_are_removed_at_the_next_start(tmp_path: Path) -> None:
    used, left, other = (tmp_path / f"{name}" for name in (f"{PREFIX}used", f"{PREFIX}left", "other"))
    for folder in (used, left, other):
        folder.mkdir()
    with claim(used):
        claim(left).close()
        (other / "owner").touch()
        fresh = tmp_path / f"{PREFIX}fresh"
        fresh.mkdir()
        claim(fresh).close()
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([used.name, other.name, fresh.name])


def test_bed_that_cannot_start_says_why_and_leaves_no_trace(traces: set[str]) -> None:
    bed = SlurmBed(2, extra_config={"SlurmdSpoolDir": "/proc/nowhere"})
    with pytest.raises(BedError, match="/proc/nowhere"):
        bed.__enter__()
    assert not bed.folder.exists()
    assert look_for_traces() == traces


def test_only_folders_that_a_private_tmp_hides_are_mounted_in_it() -> None:
    wanted = ["/tmp/a/b", "/tmp/a", "/tmp/ab", "/usr", "/tmp"]
    assert below_tmp(map(Path, wanted)) == [Path("/tmp/a"), Path("/tmp/ab")]


def test_many_nodes_have_permanent_neighbour_entries() -> None:
    few, many = config.name_nodes(16, "c"), config.name_nodes(600, "c")
    assert config.neighbours(few, "eth0") == ""
    assert len(set(config.neighbours(many, "eth0").splitlines())) == 600
    assert len({node.address for node in many} | {config.LOGIN_ADDRESS}) == 601
