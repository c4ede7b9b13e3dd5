"""Plans for known machines, for snapshots and for this node, their text, and the modules that planning loads."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.errors import LaunchError
from launcher.machines import load_machine, machine_names
from launcher.plan import make_plan, to_json
from launcher.plan_text import WIDTH, render
from launcher.topology import read_topology
from launcher.topology import to_json as snapshot
from tests.support.environment import ROOT

KNOWN = [name for name in machine_names() if load_machine(name).node is not None]


def test_plan_for_128_skylake_nodes() -> None:
    plan = make_plan(machine="stampede2-skx", nodes=128)
    assert (plan.workers, plan.global_batch_size) == (512, 4096)
    assert [worker.cores for worker in plan.placement.workers] == [12] * 4
    assert [worker.domain for worker in plan.placement.workers] == [0, 0, 1, 1]
    assert (plan.threads.inter_op, plan.threads.intra_op) == (2, 11)
    assert plan.partition is not None
    assert plan.partition.name == "skx-normal"
    text = render(plan)
    for line in (
        "  512 workers: 128 nodes x 4; batch 8 per worker, 4,096 in total",
        "  partition skx-normal (1-128 nodes, 48 h)",
        "Each node: 2 packages, 2 NUMA domains, 48 cores, 96 hardware threads, 192 GiB",
        "  package 0 domain 0, 96 GiB  [000000000000111111111111]",
        "  package 1 domain 1, 96 GiB  [222222222222333333333333]",
        "       1       0   domain 0     12  24-46:2,72-94:2",
        "  TF_NUM_INTRAOP_THREADS=11",
        "  export FI_PROVIDER=psm2",
        "  ibrun python -m launcher",
        "  mpirun -np 512 --map-by ppr:2:numa:pe=12 --bind-to core python -m launcher",
        "  mpirun -n 512 -ppn 4 -bind-to none python -m launcher",
        "  srun --nodes=128 --ntasks=512 --ntasks-per-node=4 --kill-on-bad-exit=1 --cpus-per-task=24 \\",
    ):
        assert line in text.splitlines()
    assert "Warning" not in text


def command_lines(text: str) -> list[str]:
    """Return the commands in the text of a plan, each on one line."""
    block = text.split("Start it with one of these\n")[1].split("\n\n")[0]
    joined = block.replace("\\\n", "")
    return [line for line in joined.splitlines() if not line.strip().startswith("#")]


@pytest.mark.parametrize("workers", [1, 3, 4, 8, 60])
@pytest.mark.parametrize("name", KNOWN)
def test_text_holds_the_commands_in_lines_that_fit(name: str, workers: int) -> None:
    plan = make_plan(machine=name, nodes=2, workers_per_node=workers)
    text = render(plan)
    assert [shlex.split(line) for line in command_lines(text)] == [
        shlex.split(command.text()) for command in plan.commands.values()
    ]
    for line in text.splitlines():
        assert len(line) <= WIDTH or len(line.split()) <= 2, line


def test_starter_of_the_machine_comes_first() -> None:
    assert next(iter(make_plan(machine="stampede3-spr").commands)) == "ibrun"
    assert next(iter(make_plan().commands)) == "open_mpi"


def test_idle_cores_and_crowded_threads_are_warnings() -> None:
    plan = make_plan(machine="stampede2-skx", workers_per_node=1, environ={"OMP_NUM_THREADS": "24"})
    assert len(plan.warnings) == 2
    text = render(plan)
    assert "Warning: 24 of 48 cores idle" in text
    assert "  OMP_NUM_THREADS=24  (from your environment)" in text
    assert "[000000000000000000000000]" in text
    assert "[........................]" in text


def test_thread_options_win_over_the_defaults() -> None:
    plan = make_plan(machine="stampede2-skx", inter_op=3, intra_op=9, environ={})
    assert (plan.threads.inter_op, plan.threads.intra_op) == (3, 9)
    assert "  TF_NUM_INTRAOP_THREADS=9  (from the command line)" in render(plan)


def test_shared_cores_are_marked_in_the_drawing() -> None:
    text = render(make_plan(machine="stampede2-skx", workers_per_node=50))
    assert "[*123456789abcdefghijklmn]" in text
    assert "1 shared" in text


def test_plan_from_a_snapshot_of_a_machine_is_the_plan_for_the_machine(tmp_path: Path) -> None:
    file = tmp_path / "node.json"
    file.write_text(json.dumps(snapshot(load_machine("stampede2-skx").topology())))
    plan, same = make_plan(topology_file=file, nodes=128), make_plan(machine="stampede2-skx", nodes=128)
    assert plan.title == str(file)
    assert (plan.placement, plan.threads) == (same.placement, same.threads)
    assert plan.commands["srun"] == same.commands["srun"]
    on_site = make_plan(machine="generic", topology_file=file, nodes=1000)
    assert (on_site.placement, on_site.title) == (same.placement, "Any site with Slurm")
    assert next(iter(on_site.commands)) == "srun"


def test_plan_for_this_node() -> None:
    plan = make_plan(workers_per_node=1, environ={})
    assert plan.topology == read_topology(affinity=os.sched_getaffinity(0))
    assert render(plan).startswith("this node\n  1 worker: 1 node x 1; batch 8 per worker, 8 in total\n")


def test_json_has_the_values_of_the_plan() -> None:
    plan = make_plan(machine="stampede2-skx", nodes=128)
    data = json.loads(json.dumps(to_json(plan)))
    assert (data["workers"], data["global_batch_size"], data["partition"]) == (512, 4096, "skx-normal")
    assert [worker["cpus"] for worker in data["placement"]] == [list(w.cpus) for w in plan.placement.workers]
    assert data["threads"]["variables"][1] == {
        "name": "TF_NUM_INTRAOP_THREADS",
        "value": "11",
        "origin": "plan",
    }
    assert set(data["commands"]) == {"open_mpi", "intel_mpi", "mpich", "srun", "ibrun"}
    assert data["commands"]["ibrun"]["argv"] == ["ibrun", "python", "-m", "launcher"]
    assert data["environment"]["HDF5_USE_FILE_LOCKING"] == "FALSE"
    assert data["node"]["cpus"] == 96


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"machine": "stampede3-spr", "nodes": 33}, "at most 32 nodes a job; it has spr"),
        ({"machine": "stampede9"}, "unknown machine 'stampede9'"),
        ({"machine": "generic"}, "--topology"),
        ({"topology_file": "no/such.json"}, "cannot read the topology no/such.json"),
        ({"machine": "stampede2-skx", "workers_per_node": 0}, "0 workers"),
        ({"machine": "stampede2-skx", "nodes": 0}, "0 nodes"),
    ],
)
def test_errors_name_the_wrong_value(options: dict[str, object], message: str) -> None:
    with pytest.raises(LaunchError, match=message):
        make_plan(**options)  # type: ignore[arg-type]


def test_planning_loads_no_heavy_module() -> None:
    code = (
        "import sys; before = set(sys.modules); from launcher.plan import make_plan; "
        "from launcher.plan_text import render; render(make_plan(machine='stampede2-skx', nodes=128)); "
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = set(done.stdout.split())
    assert {"launcher", "scaling"} <= loaded
    assert loaded - sys.stdlib_module_names <= {"launcher", "scaling", "click", "boltons"}
