"""The checks before the submission of a training, and the job scripts that Slurm gets."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from gan.errors import InputError
from launcher.batch.job_request import JobRequest
from launcher.batch.slurm import Slurm
from launcher.batch.submit import default_out, parse_training, split_chain, submit_chain
from launcher.cli import cli
from launcher.errors import LaunchError
from launcher.machines import load_machine
from tests.support.environment import ROOT
from tests.support.slurm_site import Site

Run = Callable[..., Result]


@pytest.fixture
def run_submit(site: Site) -> Run:
    def call(*arguments: str, machine: str = "generic") -> Result:
        return CliRunner().invoke(cli, ["submit", "--machine", machine, *arguments])

    return call


def last(script: str) -> str:
    """Return the last line of a script: the arguments of the training."""
    return script.rstrip().splitlines()[-1].strip()


def test_options_are_parsed_by_the_training_and_written_in_one_order(site: Site) -> None:
    here = Path.cwd()
    first = parse_training(["a/*.h5"], ["--seed", "3", "b.h5", "--epochs=2", "--no-resume", "--learning-rate", "1e-3"])
    second = parse_training(
        ["a/*.h5"], ["--learning-rate", "0.001", "--epochs", "2", "--no-resume", "b.h5", "--seed=3"]
    )
    assert first == second
    assert first.data == (f"{here}/a/*.h5", f"{here}/b.h5")
    assert first.arguments == ("--epochs", "2", "--learning-rate", "0.001", "--seed", "3", "--no-resume")
    assert first.starts_over
    assert (first.values["epochs"], first.values["batch_size"]) == (2, 8)
    assert "data" not in first.values
    assert parse_training([], [*first.arguments, *first.data]) == first


def test_an_option_file_is_read_before_the_submission(site: Site) -> None:
    config = Path("run.toml")
    config.write_text('data = "x/*.h5"\nout = "there"\nepochs = 7\nworkers-per-node = 2\nsync-batchnorm = true\n')
    training = parse_training([], ["--config", "run.toml", "--epochs", "8"])
    assert training.arguments == ("--epochs", "8", "--sync-batchnorm")
    assert training.data == (f"{Path.cwd()}/x/*.h5",)
    assert (training.out, training.workers_per_node) == (f"{Path.cwd()}/there", 2)


def test_options_that_the_training_refuses_are_refused_before_the_submission(site: Site) -> None:
    with pytest.raises(click.UsageError, match="No such option '--epoch'"):
        parse_training(["d"], ["--epoch", "3"])
    with pytest.raises(click.UsageError, match="not a valid integer"):
        parse_training(["d"], ["--epochs", "many"])
    with pytest.raises(InputError, match="--epochs is 0; expected at least 1"):
        parse_training(["d"], ["--epochs", "0"])
    with pytest.raises(LaunchError, match=r"no data; .* with --data"):
        parse_training([], ["--epochs", "3"])


def test_the_default_run_folder_is_on_scratch(site: Site) -> None:
    now = datetime(2026, 11, 21, 8, 5, 9)
    assert default_out("a", {"SCRATCH": "/scratch/me"}, now) == "/scratch/me/3dgan/a-20261121-080509"
    assert default_out("a", {}, now) == f"{Path.cwd()}/3dgan/a-20261121-080509"


def test_submit_prints_the_job_and_its_files(run_submit: Run, site: Site) -> None:
    Path("a.h5").touch()
    done = run_submit(
        "--nodes", "2", "--time", "1.5", "--data", "*.h5", "--out", "run 1", "--epochs", "3", "--account", "phys"
    )
    assert done.exit_code == 0, done.output
    out = Path.cwd() / "run 1"
    assert done.output.splitlines() == [
        "Submitted job 41: 2 nodes, 8 workers, at most 01:30:00",
        f"  log          {out}/slurm-41.log",
        f"  record       {out}/run.jsonl",
        f"  checkpoints  {out}/checkpoints",
    ]
    assert out.is_dir()
    text = site.scripts()[41]
    for line in (
        "--nodes=2",
        "--ntasks-per-node=4",
        "--time=01:30:00",
        "--account=phys",
        f"--output='{out}/slurm-%j.log'",
    ):
        assert f"#SBATCH {line}\n" in text
    assert f"PROJECT={ROOT}\n" in text
    assert f"OUT='{out}'\n" in text
    assert last(text) == f'train --data \'{Path.cwd()}/*.h5\' --out "$OUT" --epochs 3 "$@"'


def test_missing_data_are_a_warning(run_submit: Run) -> None:
    done = run_submit("--data", "/nowhere/*.h5", "--out", "o")
    assert done.exit_code == 0
    assert "Warning: no file on this machine matches /nowhere/*.h5" in done.stderr


def test_percent_signs_in_folders_are_escaped_for_slurm(run_submit: Run, site: Site) -> None:
    run_submit("--data", "d", "--out", "100%n")
    assert f"#SBATCH --output={Path.cwd()}/100%%n/slurm-%j.log" in site.scripts()[41].replace("'", "")


def test_a_dry_run_prints_the_script_and_writes_nothing(run_submit: Run, site: Site) -> None:
    done = run_submit("--data", "d", "--out", "o", "--dry-run", "--partition", "day", "--stage-env")
    assert done.stdout.startswith("#!/usr/bin/env bash\n")
    assert "#SBATCH --partition=day\n" in done.stdout
    assert "--stage-env" in done.stdout
    assert (site.calls("sbatch"), list(Path.cwd().iterdir())) == ([], [])


def test_after_two_dashes_an_option_goes_to_the_training(run_submit: Run) -> None:
    assert last(run_submit("--data", "d", "--out", "o", "--dry-run", "--", "--dry-run").stdout).endswith(
        '--dry-run "$@"'
    )


def test_a_chain_is_one_job_if_it_may_requeue_itself(run_submit: Run, site: Site) -> None:
    done = run_submit("--data", "d", "--out", "o", "--chain", "3")
    assert "Submitted job 41:" in done.output
    assert site.calls("sbatch") == ["--parsable"]
    text = site.scripts()[41]
    assert "#SBATCH --requeue\n" in text
    assert "#SBATCH --open-mode=append\n" in text
    assert "--restarts 2 \\\n" in text


def test_otherwise_a_chain_is_several_dependent_jobs(run_submit: Run, site: Site) -> None:
    done = run_submit("--data", "d", "--out", "o", "--chain", "3", machine="stampede2-skx")
    assert "Submitted jobs 41, 42, 43, one after another: 1 node, 4 workers, partition skx-normal" in done.output
    assert site.calls("sbatch") == [
        "--parsable",
        "--parsable --dependency=afterany:41",
        "--parsable --dependency=afterany:42",
    ]
    assert len(set(site.scripts().values())) == 1
    assert "--restarts" not in site.scripts()[41]
    assert "--requeue" not in site.scripts()[41]


def test_the_number_of_jobs_in_a_chain_depends_on_the_machine(site: Site) -> None:
    for name, expected in (("generic", (4, 1)), ("frontera-clx", (0, 5))):
        request, count = split_chain(JobRequest(machine=load_machine(name), nodes=4), 5)
        assert (request.restarts, count) == expected


def test_an_incomplete_chain_names_the_jobs_in_the_queue(site: Site) -> None:
    site.answer("refuse-after", "2")
    request = JobRequest(machine=load_machine("stampede2-skx"), nodes=4, out="o", log_folder="o")
    with pytest.raises(LaunchError, match=r"Invalid account\. The first 2 of 3 jobs .* 'scancel 41 42' removes them"):
        submit_chain(request, 3, Slurm(site.environ))


def test_a_chain_with_no_resume_is_refused(run_submit: Run, site: Site) -> None:
    done = run_submit("--data", "d", "--out", "o", "--chain", "2", "--no-resume")
    assert done.exit_code == 2
    assert "every job of the chain would start over" in done.output
    assert site.calls("sbatch") == []


@pytest.mark.parametrize(
    ("machine", "arguments", "message"),
    [
        (
            "single-node",
            (),
            "has no batch system; expected one with Slurm",
        ),
        ("stampede2-skx", ("--nodes", "869"), "at most 868 nodes a job"),
        ("stampede2-skx", ("--time", "49"), "no partition for 1 node for 49 hours"),
        ("stampede2-skx", ("--workers-per-node", "49"), "expected 1 to 48, the cores of a node"),
        ("stampede2-skx", ("--partition", "normal"), "has no partition 'normal'"),
        ("stampede9", (), "unknown machine 'stampede9'. Expected one of"),
    ],
)
def test_limits_are_checked_before_the_submission(
    run_submit: Run, site: Site, machine: str, arguments: tuple[str, ...], message: str
) -> None:
    done = run_submit("--data", "d", "--out", "o", *arguments, machine=machine)
    assert done.exit_code == 2
    assert message in done.output
    assert site.calls("sbatch") == []
    assert not Path("o").exists()


def test_wrong_options_are_usage_errors(run_submit: Run, site: Site) -> None:
    wrong_time = run_submit("--data", "d", "--time", "10:30")
    assert wrong_time.exit_code == 2
    assert "expected HH:MM:SS, D-HH:MM:SS or a number of hours" in wrong_time.output
    typo = run_submit("--data", "d", "--epohcs", "3")
    assert typo.exit_code == 2
    assert "No such option '--epohcs'" in typo.output
    assert CliRunner().invoke(cli, ["submit", "--data", "d"]).exit_code == 2
    assert site.calls("sbatch") == []


def test_a_folder_that_cannot_be_made_is_an_error(run_submit: Run, site: Site) -> None:
    Path("file").touch()
    done = run_submit("--data", "d", "--out", "file/run")
    assert "file/run cannot be made (Not a directory)" in done.output
    assert site.calls("sbatch") == []
