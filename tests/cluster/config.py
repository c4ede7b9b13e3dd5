"""Configuration texts of the bed's cluster: slurm.conf, names, addresses and commands of `ip`.

The cluster imitates one of the launcher's machines, so that job scripts for that machine find its partitions, limits
and node shape. These functions have no side effects; `tests.cluster.namespaces` starts the cluster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from launcher.machines import Machine

NETWORK = IPv4Network("10.77.0.0/16")
"""Addresses of the bed. It has its own network namespaces, so they cannot conflict with this machine's networks."""
LOGIN = "login1"
LOGIN_ADDRESS = NETWORK[1]
BRIDGE = "fabric"
MOST_NODES_WITH_ARP = 16
"""Largest number of nodes that find each other by ARP. The kernel has one table of neighbours for all namespaces, and
with about 30 nodes or more it overflows. Permanent entries do not count."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """Name and address of a compute node."""

    name: str
    number: int
    """Number of the node, from 1."""

    @property
    def address(self) -> IPv4Address:
        return NETWORK[256 + self.number]

    @property
    def hardware_address(self) -> str:
        return f"02:00:{':'.join(f'{byte:02x}' for byte in self.address.packed)}"

    @property
    def link(self) -> str:
        """Name of the bridge's end of the virtual cable to the node."""
        return f"port{self.number}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    """Contents of slurm.conf."""

    folder: Path
    """Folder of the bed, with configuration, state, logs, and private files of the nodes."""
    machine: Machine
    """Machine to imitate. It must have a node description."""
    nodes: tuple[Node, ...]
    slurmd_timeout: int = 20
    """Seconds without an answer after which Slurm calls a node dead."""
    task_plugin: str = "task/none"
    extra: Mapping[str, str] = field(default_factory=dict)
    """Settings of slurm.conf to add or to replace."""

    @property
    def conf(self) -> Path:
        return self.folder / "slurm.conf"

    @property
    def munge_socket(self) -> Path:
        return self.folder / "munge.socket"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def completed_jobs(self) -> Path:
        """File that `sacct -c` reads."""
        return self.folder / "completed-jobs.txt"


def name_nodes(count: int, prefix: str) -> tuple[Node, ...]:
    """Return nodes with names such as c401-001, c401-002."""
    return tuple(Node(name=f"{prefix}{number:03d}", number=number) for number in range(1, count + 1))


def slurm_conf(cluster: Cluster) -> str:
    """Return the configuration for slurmctld, every slurmd and every command."""
    folder = cluster.folder
    settings = {
        "ClusterName": "bed",
        "SlurmctldHost": f"{LOGIN}({LOGIN_ADDRESS})",
        "SlurmUser": "root",
        "AuthType": "auth/munge",
        "CredType": "cred/munge",
        "SlurmctldPidFile": folder / "slurmctld.pid",
        "SlurmdPidFile": folder / "spool/%n/slurmd.pid",
        "SlurmdSpoolDir": folder / "spool/%n",
        "StateSaveLocation": folder / "state",
        "SlurmctldLogFile": cluster.logs / "slurmctld.log",
        "SlurmdLogFile": cluster.logs / "slurmd.%n.log",
        "ProctrackType": "proctrack/linuxproc",
        "TaskPlugin": cluster.task_plugin,
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_Core_Memory",
        # Use the numbers of cores below instead of this machine's.
        "SlurmdParameters": "config_overrides",
        "ReturnToService": 2,
        "MpiDefault": "none",
        # Refuse jobs that exceed a partition's limits. By default they would wait.
        "EnforcePartLimits": "ALL",
        "SchedulerParameters": "sched_interval=1,sched_min_interval=100000,batch_sched_delay=0",
        "KillWait": 2,
        "MinJobAge": 3600,
        "MessageTimeout": 10,
        "SlurmctldTimeout": 30,
        "SlurmdTimeout": cluster.slurmd_timeout,
        "JobCompType": "jobcomp/filetxt",
        "JobCompLoc": cluster.completed_jobs,
        # A requeued job waits until its first credential has expired, by default two minutes.
        "AuthInfo": "cred_expire=5",
        **cluster.extra,
    }
    settings["AuthInfo"] = f"socket={cluster.munge_socket},{settings['AuthInfo']}"
    lines = [f"{name}={value}" for name, value in settings.items()]
    return "\n".join([*lines, *_node_lines(cluster), *_partition_lines(cluster)]) + "\n"


def _node_lines(cluster: Cluster) -> list[str]:
    shape = cluster.machine.node
    assert shape is not None, f"machine {cluster.machine.name} has no node description"
    parts = {
        "Sockets": shape.packages,
        "CoresPerSocket": shape.domains_per_package * shape.cores_per_domain,
        "ThreadsPerCore": shape.threads_per_core,
        "RealMemory": shape.memory_gib * 1000,
        "State": "UNKNOWN",
    }
    text = " ".join(f"{name}={value}" for name, value in parts.items())
    return [f"NodeName={node.name} NodeAddr={node.address} {text}" for node in cluster.nodes]


def _partition_lines(cluster: Cluster) -> list[str]:
    """Return the machine's partitions with their limits. Jobs get whole nodes, as at TACC."""
    lines = []
    for partition in cluster.machine.partitions:
        default = "YES" if partition is cluster.machine.partitions[0] else "NO"
        lines.append(
            f"PartitionName={partition.name} Nodes=ALL Default={default} OverSubscribe=EXCLUSIVE State=UP "
            f"MinNodes={partition.min_nodes} MaxNodes={partition.max_nodes} MaxTime={partition.max_hours}:00:00"
        )
    return lines or ["PartitionName=normal Nodes=ALL Default=YES OverSubscribe=EXCLUSIVE State=UP"]


def hosts(nodes: Sequence[Node]) -> str:
    """Return /etc/hosts for all nodes of the bed."""
    known = {LOGIN: LOGIN_ADDRESS, **{node.name: node.address for node in nodes}}
    return "127.0.0.1 localhost\n" + "".join(f"{address} {name}\n" for name, address in known.items())


def login_links() -> str:
    """Return commands for `ip -batch` on the login node: make the bridge and its address."""
    return (
        f"link set lo up\nlink add {BRIDGE} type bridge\n"
        f"addr add {LOGIN_ADDRESS}/{NETWORK.prefixlen} dev {BRIDGE}\nlink set {BRIDGE} up\n"
    )


def node_links(nodes: Sequence[Node]) -> str:
    """Return commands for `ip -batch` on the login node: make a network namespace and a cable for each node."""
    return "".join(
        f"netns add {node.name}\n"
        f"link add {node.link} type veth peer name eth0 address {node.hardware_address} netns {node.name}\n"
        f"link set {node.link} master {BRIDGE} up\n"
        for node in nodes
    )


def neighbours(nodes: Sequence[Node], device: str) -> str:
    """Return commands for `ip -batch` with the hardware addresses of all nodes, if there are too many nodes for ARP."""
    if len(nodes) <= MOST_NODES_WITH_ARP:
        return ""
    return "".join(
        f"neigh replace {node.address} lladdr {node.hardware_address} dev {device} nud permanent\n" for node in nodes
    )
