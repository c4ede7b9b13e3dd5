"""Start and end the login node and the compute nodes, which are processes in separate namespaces.

The whole bed is inside the login node's PID and network namespaces. When the first process of the PID namespace ends,
the kernel removes everything in it: bridge, cables, mounts, daemons and jobs. That process ends when the pipe to its
standard input is closed: by `close`, by an exception, or because the tests were killed. A compute node is nested in the
same way. From outside, only processes and one folder are visible. A shell removes the folder when everything has ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from tests.cluster.config import NETWORK, Cluster, Node, node_links
from tests.cluster.requirements import find

__all__ = ["PREFIX", "BedError", "Namespaces", "claim"]

HERE = Path(__file__).parent
PREFIX = "slurm-bed-"
"""Beginning of the names of beds' folders."""
OWNER = "owner"
ISOLATED = ("--uts", "--ipc", "--pid", "--mount", "--fork", "--kill-child", "--propagation", "private")
REMOVE_AT_LAST = 'folder=$1; shift; "$@"; rm -rf "$folder"'
SECONDS_TO_START = 60
SECONDS_TO_END = 30


class BedError(RuntimeError):
    """The bed did not start, or a command on it failed."""


def claim(folder: Path) -> IO[str]:
    """Mark a bed's folder as in use while the returned file is open. Remove the folders of beds that have ended.

    Such folders remain if the machine crashed, or if the shell that removes them was killed too.
    """
    for owner in folder.parent.glob(f"{PREFIX}*/{OWNER}"):
        with contextlib.suppress(OSError), owner.open() as left:
            fcntl.flock(left, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(owner.parent, ignore_errors=True)
    # It gets its final name when it is locked, so that no other process finds it unlocked.
    mine = (folder / "claim").open("w")
    fcntl.flock(mine, fcntl.LOCK_EX)
    (folder / "claim").rename(folder / OWNER)
    return mine


class Namespaces:
    """The processes of a bed."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._login: subprocess.Popen[str] | None = None
        self._login_pid = 0
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}
        self._claim = claim(cluster.folder)

    def start_login(self) -> None:
        """Start the login node with munged, slurmctld and the network.

        Raises:
            BedError: the login node ended, or was not ready in time.
        """
        script = [HERE / "login.sh", self._cluster.folder, find("munged"), find("slurmctld")]
        self._login = subprocess.Popen(
            [
                *("sh", "-c", REMOVE_AT_LAST, "sh", str(self._cluster.folder)),
                *("unshare", "--net", *ISOLATED, "sh", *map(str, script)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(self._cluster.logs / "login.log").open("wb"),
            text=True,
            # Ctrl-C must reach only the tests, and they end the bed.
            start_new_session=True,
        )
        assert self._login.stdout is not None
        with _alarm(self._login, SECONDS_TO_START):
            if self._login.stdout.readline() != "ready\n":
                raise BedError("the login node did not come up")
        self._login_pid = _descendant(self._login.pid, 2)

    def start_nodes(self, nodes: Sequence[Node]) -> None:
        """Start compute nodes, whose network exists already. Do not wait for them."""
        for node in nodes:
            script = (HERE / "node.sh", self._cluster.folder, node.name, f"{node.address}/{NETWORK.prefixlen}")
            command = [
                *self._enter(self._login_pid),
                # If nsenter is killed, unshare ends, then the first process of its namespace and all other processes in
                # it.
                *("setpriv", "--pdeathsig", "KILL", "nsenter", f"--net=/run/netns/{node.name}", "unshare", *ISOLATED),
                *("sh", *map(str, script), str(find("slurmd"))),
            ]
            with (self._cluster.logs / f"{node.name}.log").open("wb") as log:
                self._nodes[node.name] = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )

    def restart_node(self, node: Node) -> None:
        """Make a new cable for a killed node and start it."""
        subprocess.run([*self.on_login(), "ip", "-batch", "-"], input=node_links([node]), text=True, check=True)
        self.start_nodes([node])

    def kill_node(self, node: Node) -> None:
        """Kill a node. Remove its cable first, so that the kernel cannot close its connections."""
        process = self._nodes.pop(node.name)
        subprocess.run([*self.on_login(), "ip", "link", "delete", node.link], check=True)
        process.kill()
        process.wait()
        subprocess.run([*self.on_login(), "ip", "netns", "delete", node.name], check=True)

    def running(self) -> set[str]:
        """Return the names of nodes that were started and not killed."""
        return set(self._nodes)

    def dead_nodes(self) -> list[str]:
        """Return the names of nodes that ended by themselves."""
        return [name for name, process in self._nodes.items() if process.poll() is not None]

    def processes(self) -> list[int]:
        """Return the ids of all processes of the bed, jobs included."""
        found = [process.pid for process in (self._login, *self._nodes.values()) if process is not None]
        for process in found:
            found += [child for child in _children(process) if child not in found]
        return found

    def on_login(self) -> list[str]:
        """Return the prefix of a command line that runs on the login node."""
        return self._enter(self._login_pid)

    def on_node(self, name: str) -> list[str]:
        """Return the prefix of a command line that runs on a compute node."""
        return self._enter(_descendant(self._nodes[name].pid, 2))

    def close(self) -> None:
        """End everything that was started. This may be called again."""
        login, self._login = self._login, None
        if login is not None:
            _end(login)
        for process in self._nodes.values():
            process.wait()
        self._nodes.clear()
        shutil.rmtree(self._cluster.folder, ignore_errors=True)
        self._claim.close()

    @staticmethod
    def _enter(process: int) -> list[str]:
        return ["nsenter", "--target", str(process), "--mount", "--uts", "--ipc", "--net", "--pid"]


def _end(login: subprocess.Popen[str]) -> None:
    assert login.stdin is not None
    assert login.stdout is not None
    login.stdin.close()
    try:
        login.wait(SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(login.pid, signal.SIGKILL)
        login.wait()
    login.stdout.close()


class _alarm:
    """Context manager that kills a process after some seconds, so that reading from it ends."""

    def __init__(self, process: subprocess.Popen[str], seconds: float) -> None:
        self._timer = threading.Timer(seconds, lambda: os.killpg(process.pid, signal.SIGKILL))

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()


def _descendant(process: int, generations: int) -> int:
    """Wait for a descendant of a process, over a number of generations with one child each, and return its id."""
    limit = time.monotonic() + SECONDS_TO_START
    for _ in range(generations):
        while not (children := _children(process)):
            if time.monotonic() > limit:
                raise BedError(f"process {process} of the bed has no child")
            time.sleep(0.01)
        process = children[0]
    return process


def _children(process: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except OSError:
        return []
