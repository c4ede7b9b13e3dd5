"""The command line: defaults, configuration files, user errors, and commands without heavy imports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.environment import ROOT, mpi_environment


def launcher(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "launcher", *map(str, arguments)],
        cwd=ROOT, env=mpi_environment(**environment), capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_train_help_shows_choices_and_defaults() -> None:
    text = launcher("train", "--help").stdout
    text = " ".join(text.split())
    rates = "[default: 0.001, 0.0005 for rehm2021]"
    for part in ("--epochs INTEGER", "[default: 25, 30 for rehm2021]", rates, "[16|original]", "--no-resume"):
        assert part in text


def test_train_is_the_default_command(shower_files: Path) -> None:
    done = launcher("--data", shower_files / "*.h5", "--batch-size", 2, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "Placement: 1 worker on 1 node\n" in done.stdout


def test_shell_may_expand_the_pattern_of_the_data(shower_files: Path) -> None:
    first, second = sorted(shower_files.glob("*.h5"))
    assert launcher("--data", first, second, "--batch-size", 2, "--events", 24, "--dry-run").returncode == 0
    assert "the files hold 9" in launcher("--data", first, "--events", 24, "--dry-run").stderr


def test_command_line_wins_over_configuration_file(shower_files: Path, tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text(f'data = "{shower_files}/*.h5"\nbatch-size = 50\ndry_run = true\n')
    assert "global batch of 50" in launcher("--config", config).stderr
    assert launcher("--config", config, "--batch-size", 2).returncode == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("epohcs = 3", "unknown keys epohcs"),
        ("epochs = [", "is not a TOML file"),
        ("epochs = 'many'", "not a valid integer"),
        ("epochs = 1.5", "epochs is 1.5; expected a whole number"),
        ("epochs = true", "epochs is True; expected a whole number"),
        ("seed = inf", "seed is inf; expected a whole number"),
        ("learning_rate = nan", "learning_rate is nan; expected a number"),
        ("learning_rate = {a = 1}", "learning_rate is {'a': 1}; expected a number"),
        ('resume = ["a"]', "resume is ['a']; expected true or false"),
        ('out = "a\\u0000b"', "expected a text"),
        ("data = [1]", "data is [1]; expected a text or a list of texts"),
        ("data = " + 100_000 * "[", "its values are nested too deeply"),
    ],
)
def test_wrong_configuration_files_are_refused(tmp_path: Path, content: str, message: str) -> None:
    config = tmp_path / "run.toml"
    config.write_text(content)
    done = launcher("--config", config)
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no data given; name HDF5 files with --data"),
        (("--data", "/none/*.h5"), "/none/*.h5"),
        (("--data", "x.h5", "--precision", "int8"), "'int8' is not one of 'fp32', 'bf16'"),
        (("--data", "x.h5", "--validation-fraction", "1.5"), "--validation-fraction is 1.5; expected"),
        (("--data", "x.h5", "--communicator", "none"), "Open MPI started 2 ranks"),
    ],
)
def test_errors_of_the_user_end_with_one_message_and_status_2(
    arguments: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    promised = {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2"} if "none" in arguments else {}
    done = launcher(*arguments, "--out", tmp_path / "run", **promised)
    assert done.returncode == 2
    assert done.stderr.count("Error:") == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_invalid_variable_of_mpi_is_one_error() -> None:
    done = launcher("--dry-run", OMPI_COMM_WORLD_RANK="first", OMPI_COMM_WORLD_SIZE="2")
    assert done.returncode == 2
    assert done.stderr.count("Error:") == 1
    assert "OMPI_COMM_WORLD_RANK" in done.stderr
    assert "Traceback" not in done.stderr


def test_error_names_the_truncated_file(shower_files: Path, tmp_path: Path) -> None:
    whole = next(shower_files.glob("*.h5")).read_bytes()
    (tmp_path / "EleEscan_1_1.h5").write_bytes(whole[: len(whole) // 2])
    done = launcher("--data", tmp_path / "*.h5", "--out", tmp_path / "run")
    assert done.returncode == 2
    assert done.stderr.count("Error:") == 1
    assert "EleEscan_1_1.h5" in done.stderr


def test_plan_for_128_nodes_has_no_heavy_imports() -> None:
    done = launcher("plan", "--machine", "stampede2-skx", "--nodes", 128)
    assert done.returncode == 0, done.stderr
    assert "512 workers" in done.stdout
    for starter in ("mpirun", "srun", "ibrun"):
        assert starter in done.stdout
    script = (
        "import sys; from launcher.cli import cli\n"
        "cli(['plan', '--machine', 'stampede2-skx', '--nodes', '128', '--json'], standalone_mode=False)\n"
        "heavy = {'tensorflow', 'mpi4py', 'horovod', 'numpy', 'pandas', 'h5py', 'keras'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == "[]"
    assert json.loads(done.stdout)


def test_plan_from_a_snapshot_of_this_node_is_the_plan_for_this_node(tmp_path: Path) -> None:
    snapshot = tmp_path / "node.json"
    assert launcher("topology", "--out", snapshot).returncode == 0
    here, saved = launcher("plan"), launcher("plan", "--topology", snapshot)
    assert here.returncode == saved.returncode == 0
    assert [line for line in here.stdout.splitlines() if "CPU" in line.upper()][1:] == [
        line for line in saved.stdout.splitlines() if "CPU" in line.upper()
    ][1:]


def test_error_for_an_unknown_machine_names_the_known_ones() -> None:
    done = launcher("plan", "--machine", "stampede9")
    assert done.returncode == 2
    assert "stampede2-skx" in done.stderr


def test_a_mistyped_command_is_not_taken_for_a_data_file() -> None:
    done = launcher("plann")
    assert done.returncode == 2
    assert "'plann' is neither a command nor a file" in done.stderr
    assert "plan, run" in done.stderr


@pytest.mark.parametrize(
    ("variables", "prints"),
    [
        ({}, True),
        ({"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "4"}, True),
        ({"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "4"}, False),
        ({"PMI_RANK": "2", "PMI_SIZE": "4"}, False),
    ],
)
def test_only_the_first_rank_prints_an_error_in_the_command_line(variables: dict[str, str], prints: bool) -> None:
    done = launcher("--epochz", 3, **variables)
    assert done.returncode == 2
    assert ("No such option '--epochz'" in done.stderr) == prints
    assert done.stdout == ""


def test_variables_that_contradict_each_other_are_reported_by_the_rank_that_is_called_0() -> None:
    for rank, prints in (("0", True), ("5", False)):
        done = launcher("--dry-run", OMPI_COMM_WORLD_RANK=rank, OMPI_COMM_WORLD_SIZE="none")
        assert done.returncode == 2
        assert ("OMPI_COMM_WORLD_SIZE" in done.stderr) == prints
