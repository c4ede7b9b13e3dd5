"""A real Slurm cluster of several nodes on this machine, for the time of a `with` block.

    with SlurmBed(nodes=4) as bed:
        job = bed.sbatch("#!/bin/sh\nsrun hostname\n", "--nodes=4")
        assert bed.wait(job).state == "COMPLETED"

The cluster imitates one of the launcher's machines: node names, partitions with their limits and, with `pretend`, CPUs,
NUMA domains and affinity. `tests.cluster.namespaces` keeps the nodes apart.
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

__all__ = ["BedError", "Job", "MakeBed", "SlurmBed", "below_tmp"]


class SlurmBed:
    """A cluster that runs between `__enter__` and `__exit__`, and removes everything at its end.

    Args:
        nodes: number of compute nodes.
        machine: name of the launcher's machine to imitate.
        pretend: whether the nodes' processes see and bind to the CPUs and NUMA domains of `machine`. Otherwise only
            Slurm uses these numbers, and processes see the real CPUs.
        shared: folders below /tmp that all nodes see at the same path. Otherwise every node has its own /tmp. The
            repository and the Python environment are always shared.
        slurmd_timeout: seconds without an answer after which Slurm calls a node dead.
        extra_config: settings of slurm.conf to add or to replace.
        prefix: beginning of the nodes' names.
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
        """Folder that all nodes see. By default `sbatch` submits from here."""
        return self.folder / "jobs"

    @property
    def environment(self) -> dict[str, str]:
        """Variables of a user on this cluster: this Python first on PATH, Slurm's configuration, settings of MPI."""
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
        """Return the command line that runs a command on the login node or on a compute node, for `subprocess`.

        The command gets SIGTERM if the process that `subprocess` started is killed.
        """
        place = self._namespaces.on_login() if node is None else self._namespaces.on_node(node)
        # nsenter changes to the root folder of the mount namespace.
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
        """Run a command on the login node and wait for its end. `env` is added to the bed's environment.

        Raises:
            BedError: the command failed, and `check` is set.
        """
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
        """Run a command on a compute node without Slurm. The options are the options of `run`."""
        return self.run(argv, node=name, **options)

    def sbatch(
        self,
        script: str | Path,
        *options: object,
        arguments: Sequence[object] = (),
        cwd: Path | None = None,
        **run: Any,
    ) -> int:
        """Submit a script, given as text or as a file, and return the job's id.

        Args:
            options: options of sbatch.
            arguments: arguments of the script, if it is a file.
            cwd: folder of the job and, by default, of its output. The default is `jobs_folder`.
            run: more options of `run`.
        """
        command: list[object] = ["sbatch", "--parsable", *options]
        if isinstance(script, Path):
            command += [script, *arguments]
        else:
            run["input"] = script
        done = self.run(command, cwd=cwd or self.jobs_folder, check=True, **run)
        return int(done.stdout.split(";")[0])

    def job(self, job: int) -> Job:
        """Return the present state of a job from Slurm."""
        return Job.parse(self.run(["scontrol", "show", "--oneliner", "job", job], check=True).stdout)

    def state(self, job: int) -> str:
        return self.job(job).state

    def wait(self, job: int, timeout: float = 120, until: Callable[[Job], bool] = lambda job: job.ended) -> Job:
        """Wait until a job ends, or until the condition `until` is true, and return the job.

        Raises:
            BedError: this took more than `timeout` seconds. The message has the job's output and Slurm's logs.
        """
        limit = time.monotonic() + timeout
        while not until(found := self.job(job)):
            if time.monotonic() > limit:
                raise BedError(f"job {job} is {found.state} after {timeout} s\n{found.output}\n{self.logs()}")
            time.sleep(0.1)
        return found

    def cancel_all(self) -> None:
        """End all jobs and wait until the nodes are idle."""
        self.run(["scancel", "--full", "--user=root"])
        self.wait_for_nodes("idle", set(self._nodes) - self.killed)

    def reset(self) -> None:
        """End all jobs and restart killed nodes, for the next test."""
        self.cancel_all()
        for name in self.killed:
            self.start_node(name)

    def processes(self) -> list[int]:
        """Return the ids, outside the namespaces, of all present processes of the bed."""
        return self._namespaces.processes()

    @property
    def killed(self) -> set[str]:
        """Names of the nodes that were killed and not started again."""
        return set(self._nodes) - self._namespaces.running()

    def kill_node(self, name: str) -> None:
        """Kill a node abruptly, so that Slurm gets no message and no more answers."""
        self._namespaces.kill_node(self._nodes[name])

    def start_node(self, name: str) -> None:
        """Restart a killed node and wait until Slurm uses it again."""
        self._namespaces.restart_node(self._nodes[name])
        self.wait_for_nodes("idle", [name])

    def node_states(self) -> dict[str, str]:
        """Return Slurm's state of each node, such as idle, alloc, down*."""
        done = self.run(["sinfo", "--noheader", "--Node", "--format=%N %t"])
        return dict(line.split() for line in done.stdout.splitlines())

    def wait_for_nodes(self, state: str, names: Iterable[str] | None = None, timeout: float = 60) -> None:
        """Wait until the named nodes (by default all nodes) are in a state.

        Raises:
            BedError: a node ended, or this took more than `timeout` seconds. The message has Slurm's logs.
        """
        wanted = set(names if names is not None else self._nodes)
        limit = time.monotonic() + timeout
        while not wanted <= {name for name, found in self.node_states().items() if found == state}:
            if dead := self._namespaces.dead_nodes():
                raise BedError(f"nodes {', '.join(dead)} did not come up or ended")
            if time.monotonic() > limit:
                raise BedError(f"nodes are not {state} after {timeout} s: {self.node_states()}\n{self.logs()}")
            time.sleep(0.05)

    def logs(self, lines: int = 12) -> str:
        """Return the last lines of every log that is not empty."""
        texts = []
        for path in sorted(self._cluster.logs.glob("*")):
            text = path.read_text(errors="replace").splitlines()
            # A daemon prints the same text as in its log. So use the output only if there is no log.
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
            # Without this line slurmd looks for control groups, and does not start if there are none.
            "cgroup.conf": "CgroupPlugin=cgroup/v1\n",
            "hosts": config.hosts(cluster.nodes),
            "login.ip": config.login_links(),
            "nodes.ip": config.node_links(cluster.nodes),
            "login-neighbours.ip": config.neighbours(cluster.nodes, config.BRIDGE),
            "node-neighbours.ip": config.neighbours(cluster.nodes, "eth0"),
            "shared": "".join(f"{path}\n" for path in below_tmp(self._shared)),
        }.items():
            (folder / name).write_text(text)


MakeBed = Callable[..., SlurmBed]
"""Type of the fixture `make_bed`."""


def below_tmp(paths: Iterable[Path]) -> list[Path]:
    """Return the folders that a private /tmp would hide, without folders inside another one of them."""
    found: list[Path] = []
    for path in sorted({path.resolve() for path in paths}):
        inside = any(path.is_relative_to(other) for other in found)
        if path.is_relative_to("/tmp") and path != Path("/tmp") and not inside:
            found.append(path)
    return found
