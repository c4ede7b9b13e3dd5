"""A real Slurm of several nodes on this machine, for as long as a `with` block lasts.

    with SlurmBed(nodes=4) as bed:
        job = bed.sbatch("#!/bin/sh\nsrun hostname\n", "--nodes=4")
        assert bed.wait(job).state == "COMPLETED"

The nodes pretend to be those of one of the launcher's machines: names, partitions with their limits and, where
`pretend` is set, CPUs, NUMA domains and affinity. How they are kept apart is left to `tests.cluster.namespaces`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from launcher.machines import load_machine
from tests.cluster import config, hardware
from tests.cluster.job import Job
from tests.cluster.mpi import MPI_SETTINGS, UNBOUND
from tests.cluster.namespaces import PREFIX, BedError, Namespaces
from tests.support.environment import ROOT, mpi_environment

__all__ = ["BedError", "Job", "SlurmBed", "below_tmp"]


class SlurmBed:
    """A cluster that is up between `__enter__` and `__exit__`, and leaves nothing behind.

    Args:
        nodes: how many compute nodes.
        machine: whose names, partitions and node shape they have.
        pretend: the nodes' processes see and bind to that machine's CPUs and NUMA domains; otherwise only Slurm
            believes in them and processes see this machine's.
        shared: files' folders that all nodes see at their own place. Needed only under /tmp, which is each node's own;
            the repository and the Python environment are always seen.
        slurmd_timeout: seconds after which a silent node counts as dead.
        extra_config: more lines of slurm.conf by name, or others instead of the bed's.
        prefix: of the nodes' names.
    """

    def __init__(
        self,
        nodes: int = 4,
        *,
        machine: str = "stampede2-skx",
        pretend: bool = False,
        shared: Iterable[Path] = (),
        slurmd_timeout: int = 20,
        extra_config: Mapping[str, str] | None = None,
        prefix: str = "c401-",
    ) -> None:
        self.machine = load_machine(machine)
        self.pretend = pretend
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._shared = [self.folder, ROOT, Path(sys.prefix), Path(sys.base_prefix), *shared]
        self._cluster = config.Cluster(
            folder=self.folder,
            machine=self.machine,
            nodes=config.name_nodes(nodes, prefix),
            slurmd_timeout=slurmd_timeout,
            task_plugin="task/affinity" if pretend else "task/none",
            extra=extra_config or {},
        )
        self._nodes = {node.name: node for node in self._cluster.nodes}
        self._namespaces = Namespaces(self._cluster)

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of the compute nodes."""
        return tuple(self._nodes)

    @property
    def jobs_folder(self) -> Path:
        """Seen by all nodes; where `sbatch` submits from if not told otherwise."""
        return self.folder / "jobs"

    @property
    def environment(self) -> dict[str, str]:
        """A user's environment on this cluster: commands of this Python first, Slurm's configuration, MPI's needs."""
        unbound = {} if self.pretend else UNBOUND
        return mpi_environment(SLURM_CONF=str(self._cluster.conf), **MPI_SETTINGS, **unbound)

    def __enter__(self) -> SlurmBed:
        try:
            self._write_files()
            self._namespaces.start_login()
            self._namespaces.start_nodes(self._cluster.nodes)
            self.wait_for_nodes("idle")
        except BaseException as error:
            text = self.logs()
            self.close()
            if isinstance(error, Exception):
                raise BedError(f"{error}\n{text}") from error
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all jobs, daemons and nodes and remove the bed's folder."""
        self._namespaces.close()

    def command(self, argv: Sequence[object], *, cwd: Path = ROOT, node: str | None = None) -> list[str]:
        """The command line that runs a command on the login node or on a compute node, for `subprocess`.

        It is ended with SIGTERM when the process that was started here is killed.
        """
        place = self._namespaces.on_login() if node is None else self._namespaces.on_node(node)
        # Entering a mount namespace leads to its root folder.
        return [*place, "setpriv", "--pdeathsig", "TERM", "env", f"--chdir={cwd}", *map(str, argv)]

    def run(
        self,
        argv: Sequence[object],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
        timeout: float = 120,
        node: str | None = None,
        check: bool = False,
        **options: Any,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the login node and wait for its end. `env` is added to the bed's environment."""
        if "input" not in options:
            options.setdefault("stdin", subprocess.DEVNULL)
        done = subprocess.run(
            self.command(argv, cwd=cwd, node=node),
            env={**self.environment, **(env or {})},
            capture_output=True,
            text=True,
            timeout=timeout,
            **options,
        )
        if check and done.returncode:
            raise BedError(f"{' '.join(map(str, argv))} ended with {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def on_node(self, name: str, argv: Sequence[object], **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command on a compute node, beside Slurm. Takes what `run` takes."""
        return self.run(argv, node=name, **options)

    def sbatch(
        self,
        script: str | Path,
        *options: object,
        arguments: Sequence[object] = (),
        cwd: Path | None = None,
        **run: Any,
    ) -> int:
        """Submit a script, given as its text or as a file, and return the job's id.

        Args:
            options: of sbatch.
            arguments: the script's; only a file can have any.
            cwd: where the job starts and where its output goes if nothing else is said; `jobs_folder` by default.
            run: what `run` takes.
        """
        command: list[object] = ["sbatch", "--parsable", *options]
        if isinstance(script, Path):
            command += [script, *arguments]
        else:
            run["input"] = script
        done = self.run(command, cwd=cwd or self.jobs_folder, check=True, **run)
        return int(done.stdout.split(";")[0])

    def job(self, job: int) -> Job:
        """What Slurm says about a job now."""
        return Job.parse(self.run(["scontrol", "show", "--oneliner", "job", job], check=True).stdout)

    def state(self, job: int) -> str:
        return self.job(job).state

    def wait(self, job: int, timeout: float = 120, until: Callable[[Job], bool] = lambda job: job.ended) -> Job:
        """Wait for a job's end, or until it is as wanted.

        Raises:
            BedError: it is not so in time; with the job's output and Slurm's logs.
        """
        limit = time.monotonic() + timeout
        while not until(found := self.job(job)):
            if time.monotonic() > limit:
                raise BedError(f"job {job} is {found.state} after {timeout} s\n{found.output}\n{self.logs()}")
            time.sleep(0.1)
        return found

    def cancel_all(self) -> None:
        """End all jobs, so that the next test finds idle nodes."""
        self.run(["scancel", "--full", "--user=root"])
        self.wait_for_nodes("idle", set(self._nodes) - self.killed)

    def reset(self) -> None:
        """End all jobs and bring killed nodes back, so that the next test finds the bed as new."""
        self.cancel_all()
        for name in self.killed:
            self.start_node(name)

    def processes(self) -> list[int]:
        """Process ids of everything that belongs to the bed now, as this machine counts them."""
        return self._namespaces.processes()

    @property
    def killed(self) -> set[str]:
        """Nodes that were killed and not started again."""
        return set(self._nodes) - self._namespaces.running()

    def kill_node(self, name: str) -> None:
        """Let a node die from one moment to the next, without a word to anybody."""
        self._namespaces.kill_node(self._nodes[name])

    def start_node(self, name: str) -> None:
        """Bring a killed node back, empty, and wait until Slurm uses it again."""
        self._namespaces.restart_node(self._nodes[name])
        self.wait_for_nodes("idle", [name])

    def node_states(self) -> dict[str, str]:
        """Slurm's states of the nodes by name, such as idle, alloc, down*."""
        done = self.run(["sinfo", "--noheader", "--Node", "--format=%N %t"])
        return dict(line.split() for line in done.stdout.splitlines())

    def wait_for_nodes(self, state: str, names: Iterable[str] | None = None, timeout: float = 60) -> None:
        """Wait until nodes, all of them if none are named, are in a state."""
        wanted = set(names if names is not None else self._nodes)
        limit = time.monotonic() + timeout
        while not wanted <= {name for name, found in self.node_states().items() if found == state}:
            if dead := self._namespaces.dead_nodes():
                raise BedError(f"nodes {', '.join(dead)} did not come up or ended")
            if time.monotonic() > limit:
                raise BedError(f"nodes are not {state} after {timeout} s: {self.node_states()}\n{self.logs()}")
            time.sleep(0.05)

    def logs(self, lines: int = 12) -> str:
        """The last lines of every log that is not empty."""
        texts = []
        for path in sorted(self._cluster.logs.glob("*")):
            text = path.read_text(errors="replace").splitlines()
            # A daemon's output is its log once more, unless it did not get so far.
            if text and not (path.suffix == ".out" and path.with_suffix(".log").exists()):
                texts.append("\n".join([f"--- {path.name}", *text[-lines:]]))
        return "\n".join(texts)

    def _write_files(self) -> None:
        cluster, folder = self._cluster, self.folder
        for name in ("logs", "state", "spool", "jobs", "nodes"):
            (folder / name).mkdir()
        if self.pretend:
            hardware.prepare(folder, self.machine)
        (folder / "munge.key").write_bytes(os.urandom(128))
        (folder / "munge.key").chmod(0o600)
        cluster.completed_jobs.touch()
        for name, text in {
            "slurm.conf": config.slurm_conf(cluster),
            # Named, or slurmd looks for control groups to find out, and does not start without them.
            "cgroup.conf": "CgroupPlugin=cgroup/v1\n",
            "hosts": config.hosts(cluster.nodes),
            "login.ip": config.login_links(),
            "nodes.ip": config.node_links(cluster.nodes),
            "login-neighbours.ip": config.neighbours(cluster.nodes, config.BRIDGE),
            "node-neighbours.ip": config.neighbours(cluster.nodes, "eth0"),
            "shared": "".join(f"{path}\n" for path in below_tmp(self._shared)),
        }.items():
            (folder / name).write_text(text)


def below_tmp(paths: Iterable[Path]) -> list[Path]:
    """Of these folders those that a private /tmp would hide, without those that lie in another of them."""
    found: list[Path] = []
    for path in sorted({path.resolve() for path in paths}):
        inside = any(path.is_relative_to(other) for other in found)
        if path.is_relative_to("/tmp") and path != Path("/tmp") and not inside:
            found.append(path)
    return found
