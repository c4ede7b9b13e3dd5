"""Job scripts: the scripts of all known machines, limits, and the quoting of values for the shell and for Slurm."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from launcher.batch.job_request import JobRequest, default_request
from launcher.batch.script import render, script_name
from launcher.batch.timelimit import format_time, parse_time
from launcher.cli import cli
from launcher.errors import LaunchError
from launcher.machines import load_machine, machine_names
from tests.support.environment import ROOT
from tests.support.stand_in_venv import stand_in_venv

REWRITE = "'python -m launcher script --all jobs' updates them"
CHARACTERS = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
TEXTS = st.text(CHARACTERS, min_size=1, max_size=30)
QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def request(machine: str = "stampede2-skx", **fields: Any) -> JobRequest:
    return JobRequest(machine=load_machine(machine), **{"nodes": 4, **fields})


@pytest.mark.parametrize("name", machine_names())
def test_the_scripts_in_jobs_match_the_machine_files(name: str) -> None:
    machine = load_machine(name)
    kept = ROOT / "jobs" / script_name(machine)
    nodes = default_request(machine).nodes
    command = f"python -m launcher script --machine {name} --nodes {nodes} > jobs/{kept.name}"
    printed = CliRunner().invoke(cli, ["script", "--machine", name, "--nodes", str(nodes)], catch_exceptions=False)
    assert kept.read_text() == printed.output, f"'{command}' updates it; {REWRITE}"
    assert os.access(kept, os.X_OK)


def test_jobs_contains_no_other_files(tmp_path: Path) -> None:
    written = CliRunner().invoke(cli, ["script", "--all", str(tmp_path)], catch_exceptions=False)
    assert written.exit_code == 0
    kept = {path.name: path.read_text() for path in (ROOT / "jobs").iterdir()}
    assert kept == {path.name: path.read_text() for path in tmp_path.iterdir()}, REWRITE


@pytest.mark.parametrize("path", sorted((ROOT / "jobs").glob("*.sh")), ids=lambda path: path.name)
def test_bash_and_shellcheck_accept_the_scripts(path: Path) -> None:
    checked = [["bash", "-n", str(path)]]
    if shutil.which("shellcheck"):
        checked.append(["shellcheck", str(path)])
    for command in checked:
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", [name for name in machine_names() if load_machine(name).launcher == "ibrun"])
def test_scripts_for_tacc_use_only_options_that_tacc_allows(name: str) -> None:
    options = [line.split()[1].partition("=")[0] for line in render(request(name)).splitlines() if "#SBATCH" in line]
    assert {"--nodes", "--ntasks-per-node", "--time", "--partition"} <= set(options)
    assert not {"--mem", "--gres", "--export", "--array", "--requeue", "--signal"} & set(options)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"nodes": 869}, "at most 868 nodes a job"),
        ({"seconds": 49 * 3600}, "no partition for 4 nodes for 49 hours"),
        ({"nodes": 5, "partition": "skx-dev"}, "skx-dev of machine stampede2-skx takes at most 4 nodes a job"),
        ({"workers_per_node": 49}, "49 workers on a node; expected 1 to 48, the cores of a node"),
        ({"nodes": 0}, "0 nodes; expected at least 1"),
        ({"seconds": 59}, "expected at least 60"),
        ({"restarts": 1}, "1 restarts; jobs on machine stampede2-skx may not requeue themselves"),
        ({"name": "a b"}, "job name 'a b'; expected only letters"),
        ({"account": "x\n#SBATCH -p y"}, "account .* expected only letters"),
        ({"log_folder": "/a\nb"}, "choose a folder without backslash and line break"),
        ({"log_folder": "/a\\b"}, "choose a folder without backslash and line break"),
        ({"data": ("\0",)}, "null character"),
    ],
)
def test_an_impossible_request_is_one_clear_error(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(LaunchError, match=message):
        request(**fields)


def test_the_first_partition_that_allows_the_job_is_used() -> None:
    assert "#SBATCH --partition=skx-normal\n#SBATCH --nodes=128\n" in render(request(nodes=128))
    assert "#SBATCH --partition=skx-large\n#SBATCH --nodes=129\n" in render(request(nodes=129))
    assert "--partition" not in render(request("generic"))
    assert "#SBATCH --partition=mine\n#SBATCH --account=phys\n" in render(
        request("generic", partition="mine", account="phys")
    )


def test_restarts_and_signals_are_used_if_the_site_allows_them() -> None:
    text = render(request("generic", restarts=2, seconds=7200, stage_env=True))
    assert "#SBATCH --signal=B:USR1@180\n#SBATCH --requeue\n" in text
    assert "--stage-env --restarts 2 \\\n    train " in text
    # A short job keeps most of its time for the training.
    assert "--signal=B:USR1@20\n" in render(request("generic", seconds=60))


@given(st.integers(60, 10_000 * 3600 - 1))
def test_a_written_time_limit_is_read_back(seconds: int) -> None:
    assert parse_time(format_time(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("02:00:00", 7200), ("2", 7200), ("1.5h", 5400), ("1-02:30:00", 95400), ("48:00:00", 172800), (".5", 1800)],
)
def test_time_limits(text: str, seconds: int) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["10:30", "1:60:00", "two", "", "-1", "1e3", "02:00:00 ", "\u0661:00:00"])
def test_time_limits_that_slurm_reads_differently_are_refused(text: str) -> None:
    with pytest.raises(LaunchError, match="expected HH:MM:SS, D-HH:MM:SS or a number of hours"):
        parse_time(text)


@given(st.text(max_size=12))
def test_any_text_is_a_time_limit_or_a_launch_error(text: str) -> None:
    try:
        seconds = parse_time(text)
    except LaunchError as error:
        message = str(error)
    else:
        message = repr(text) if seconds >= 60 else ""
    assert repr(text) in message


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """Environment whose python prints its arguments and a variable, each with a null character at its end."""
    return stand_in_venv(tmp_path, 'printf \'%s\\0\' "$@" "$WANTED"')


def run_script(text: str, venv: Path, **environment: str) -> list[str]:
    """Run a script with the environment above. Return the arguments of its last command, and $WANTED."""
    base = {"PATH": "/usr/bin:/bin", "SLURM_JOB_ID": "7", "SLURM_NTASKS_PER_NODE": "4", "VENV": str(venv)}
    done = subprocess.run(["bash", "-c", text], env={**base, **environment}, capture_output=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return os.fsdecode(done.stdout).split("\n", 1)[1].split("\0")[:-1]


@QUICK
@given(data=st.lists(TEXTS, min_size=1, max_size=3), out=TEXTS, options=st.lists(TEXTS, max_size=3))
def test_every_text_from_the_user_reaches_the_training_unchanged(
    venv: Path, data: list[str], out: str, options: list[str]
) -> None:
    # `run_script` expects the script to print one line before the arguments.
    out = out.replace("\n", "\t")
    job = request(
        data=tuple(data), out=out, project=str(ROOT), venv=str(venv), arguments=tuple(options), nodes=2
    )  # fmt: skip
    words = run_script(render(job), venv)
    expected = [word for pattern in data for word in ("--data", pattern)]
    start = ["-m", "launcher", "run", "--machine", "stampede2-skx", "--workers-per-node", "4", "train"]
    assert words == [*start, *expected, "--out", out, *options, ""]


@QUICK
@given(value=st.text(CHARACTERS, max_size=30), name=TEXTS, note=TEXTS)
def test_every_text_in_a_machine_file_is_quoted(venv: Path, value: str, name: str, note: str) -> None:
    machine = replace(
        load_machine("stampede2-skx"), environment={"WANTED": value}, title=name, note=note, file=f"/{name}.toml"
    )
    text = render(JobRequest(machine=machine, nodes=1, project=str(ROOT)))
    words = run_script(text, venv, DATA="d", OUT="o")
    assert words[4] == f"/{name}.toml"
    assert words[-1] == value
    assert run_script(text, venv, DATA="d", OUT="o", WANTED="mine")[-1] == "mine"


def test_modules_are_loaded_and_the_user_can_choose_them(venv: Path) -> None:
    machine = replace(load_machine("generic"), modules=("intel", "impi/2021"))
    text = render(JobRequest(machine=machine, nodes=1))
    module = {"BASH_FUNC_module%%": '() { echo "$UNSET module $*" >&2; export WANTED="$*"; }', "DATA": "d", "OUT": "o"}
    assert run_script(text, venv, **module)[-1] == "load intel impi/2021"
    assert run_script(text, venv, **module, MODULES="gcc")[-1] == "load gcc"
    assert run_script(text, venv, **module, MODULES="")[-1] == ""
    base = {"PATH": "/usr/bin:/bin", "PROJECT": str(ROOT), "VENV": str(venv)}
    absent = subprocess.run(["bash", "-c", text], env=base, capture_output=True, text=True)
    assert absent.returncode == 2
    assert absent.stderr.startswith("Error: no command 'module' here; load 'intel impi/2021' in another way")
    failing = {**base, "BASH_FUNC_module%%": "() { return 1; }"}
    failed = subprocess.run(["bash", "-c", text], env=failing, capture_output=True, text=True)
    assert (failed.returncode, failed.stderr.startswith("Error: 'module load intel impi/2021' failed")) == (2, True)


def test_the_option_machine_is_required() -> None:
    done = CliRunner().invoke(cli, ["script", "--nodes", "2"])
    assert done.exit_code == 2
    assert "Missing option '--machine'" in done.output


def test_a_user_s_machine_file_is_named_by_its_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "launcher" / "machines" / "generic.toml").read_text()
    (tmp_path / "desk.toml").write_text(text.replace('script = "slurm.sh"\n', ""))
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, ["script", "--machine", "desk.toml", "--time", "0:30:00", "--partition", "day"])
    assert f"launcher run --machine {tmp_path}/desk.toml " in done.output
    assert f"edit {tmp_path}/desk.toml and generate the script again" in done.output.replace("\n# ", " ")
    assert "sbatch jobs/desk.sh" in done.output
    assert "#SBATCH --partition=day\n" in done.output


def test_rendering_loads_no_heavy_module() -> None:
    code = (
        "import sys; from launcher.batch.cli import script; "
        "script(['--machine', 'generic'], standalone_mode=False); "
        "sys.exit(', '.join({'tensorflow', 'mpi4py', 'numpy', 'h5py'} & sys.modules.keys()) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
