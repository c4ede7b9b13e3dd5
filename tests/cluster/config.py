"""What the bed's cluster is made of, as text: slurm.conf, names, addresses and what `ip` is told. Pure.

The cluster pretends to be one of the launcher's machines, so that job scripts written for that machine find its
partitions, limits and node shape. Nothing here starts anything; that is left to `tests.cluster.namespaces`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from launcher.machines import Machine

NETWORK = IPv4Network("10.77.0.0/16")
"""Lives in network namespaces of the bed's own, so that it cannot meet this machine's networks."""
LOGIN = "login1"
LOGIN_ADDRESS = NETWORK[1]
BRIDGE = "fabric"
MOST_NODES_WITH_ARP = 16
"""The kernel's table of neighbours is one for all namespaces: from about 30 nodes on, everybody asking for everybody
overflows it. Addresses that are written down beforehand do not count."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """One compute node's name and place in the network."""

    name: str
    number: int
    """From 1."""

    @property
    def address(self) -> IPv4Address:
        return NETWORK[256 + self.number]

    @property
    def hardware_address(self) -> str:
        return f"02:00:{':'.join(f'{byte:02x}' for byte in self.address.packed)}"

    @property
    def link(self) -> str:
        """The bridge's end of the node's cable."""
        return f"port{self.number}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    """Everything slurm.conf is rendered from."""

    folder: Path
    """Of the bed: configuration, state, logs, the nodes' private files."""
    machine: Machine
    """Whose nodes and partitions these pretend to be; it must have a node description."""
    nodes: tuple[Node, ...]
    slurmd_timeout: int = 20
    """Seconds without an answer until Slurm calls a node dead."""
    task_plugin: str = "task/none"
    extra: Mapping[str, str] = field(default_factory=dict)
    """More lines for slurm.conf, or others in place of those below."""

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
        """What `sacct -c` reads."""
        return self.folder / "completed-jobs.txt"


def name_nodes(count: int, prefix: str) -> tuple[Node, ...]:
    """c401-001, c401-002, ..."""
    return tuple(Node(name=f"{prefix}{number:03d}", number=number) for number in range(1, count + 1))


def slurm_conf(cluster: Cluster) -> str:
    """The configuration that slurmctld, every slurmd and every command read."""
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
        # The nodes have the cores that stand here, whatever slurmd finds.
        "SlurmdParameters": "config_overrides",
        "ReturnToService": 2,
        "MpiDefault": "none",
        # What goes beyond a partition's limits is refused and not left waiting.
        "EnforcePartLimits": "ALL",
        "SchedulerParameters": "sched_interval=1,sched_min_interval=100000,batch_sched_delay=0",
        "KillWait": 2,
        "MinJobAge": 3600,
        "MessageTimeout": 10,
        "SlurmctldTimeout": 30,
        "SlurmdTimeout": cluster.slurmd_timeout,
        "JobCompType": "jobcomp/filetxt",
        "JobCompLoc": cluster.completed_jobs,
        # A job that is requeued waits until its first credential has expired: two minutes by default.
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
    """The machine's partitions with its limits; TACC's give whole nodes."""
    lines = []
    for partition in cluster.machine.partitions:
        default = "YES" if partition is cluster.machine.partitions[0] else "NO"
        lines.append(
            f"PartitionName={partition.name} Nodes=ALL Default={default} OverSubscribe=EXCLUSIVE State=UP "
            f"MinNodes={partition.min_nodes} MaxNodes={partition.max_nodes} MaxTime={partition.max_hours}:00:00"
        )
    return lines or ["PartitionName=normal Nodes=ALL Default=YES OverSubscribe=EXCLUSIVE State=UP"]


def hosts(nodes: Sequence[Node]) -> str:
    """/etc/hosts of the bed, the login node's and every node's."""
    known = {LOGIN: LOGIN_ADDRESS, **{node.name: node.address for node in nodes}}
    return "127.0.0.1 localhost\n" + "".join(f"{address} {name}\n" for name, address in known.items())


def login_links() -> str:
    """For `ip -batch` on the login node: the bridge with its own address."""
    return (
        f"link set lo up\nlink add {BRIDGE} type bridge\n"
        f"addr add {LOGIN_ADDRESS}/{NETWORK.prefixlen} dev {BRIDGE}\nlink set {BRIDGE} up\n"
    )


def node_links(nodes: Sequence[Node]) -> str:
    """For `ip -batch` on the login node: a network namespace for each node and a cable to the bridge."""
    return "".join(
        f"netns add {node.name}\n"
        f"link add {node.link} type veth peer name eth0 address {node.hardware_address} netns {node.name}\n"
        f"link set {node.link} master {BRIDGE} up\n"
        for node in nodes
    )


def neighbours(nodes: Sequence[Node], device: str) -> str:
    """For `ip -batch`: the hardware addresses of all nodes, where they are too many to be asked for."""
    if len(nodes) <= MOST_NODES_WITH_ARP:
        return ""
    return "".join(
        f"neigh replace {node.address} lladdr {node.hardware_address} dev {device} nud permanent\n" for node in nodes
    )
