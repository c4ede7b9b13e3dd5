"""What is checked before a training is submitted, and what Slurm is given."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from gan.errors import InputError
from launcher.batch.cli import submit
from launcher.batch.script import JobRequest
from launcher.batch.slurm import Slurm
from launcher.batch.submit import chained, default_out, read_training
from launcher.batch.submit import submit as submit_jobs
from launcher.errors import LaunchError
from launcher.machines import load_machine
from tests.support.environment import ROOT
from tests.support.slurm_site import Site

Run = Callable[..., Result]


@pytest.fixture
def run(site: Site) -> Run:
    def call(*arguments: str, machine: str = "generic") -> Result:
        return CliRunner().invoke(submit, ["--machine", machine, *arguments])

    return call


def last(script: str) -> str:
    """The words that a script gives to the training."""
    return script.rstrip().splitlines()[-1].strip()


def test_options_are_read_as_the_training_will_and_written_in_one_order(site: Site) -> None:
    here = Path.cwd()
    first = read_training(["a/*.h5"], ["--seed", "3", "b.h5", "--epochs=2", "--no-resume", "--learning-rate", "1e-3"])
    second = read_training(["a/*.h5"], ["--learning-rate", "0.001", "--epochs", "2", "--no-resume", "b.h5", "--seed=3"])
    assert first == second
    assert first.data == (f"{here}/a/*.h5", f"{here}/b.h5")
    assert first.arguments == ("--epochs", "2", "--learning-rate", "0.001", "--seed", "3", "--no-resume")
    assert first.begins_anew
    assert (first.values["epochs"], first.values["batch_size"]) == (2, 8)
    assert "data" not in first.values
    assert read_training([], [*first.arguments, *first.data]) == first


def test_a_file_of_options_is_read_now(site: Site) -> None:
    config = Path("run.toml")
    config.write_text('data = "x/*.h5"\nout = "there"\nepochs = 7\nworkers-per-node = 2\nsync-batchnorm = true\n')
    training = read_training([], ["--config", "run.toml", "--epochs", "8"])
    assert training.arguments == ("--epochs", "8", "--sync-batchnorm")
    assert training.data == (f"{Path.cwd()}/x/*.h5",)
    assert (training.out, training.workers_per_node) == (f"{Path.cwd()}/there", 2)


def test_what_the_training_would_refuse_is_refused_now(site: Site) -> None:
    with pytest.raises(click.UsageError, match="No such option '--epoch'"):
        read_training(["d"], ["--epoch", "3"])
    with pytest.raises(click.UsageError, match="not a valid integer"):
        read_training(["d"], ["--epochs", "many"])
    with pytest.raises(InputError, match="--epochs is 0; expected at least 1"):
        read_training(["d"], ["--epochs", "0"])
    with pytest.raises(LaunchError, match="no data; give the files of showers with --data"):
        read_training([], ["--epochs", "3"])


def test_the_usual_folder_is_on_scratch(site: Site) -> None:
    now = datetime(2026, 11, 21, 8, 5, 9)
    assert default_out("a", {"SCRATCH": "/scratch/me"}, now) == "/scratch/me/3dgan/a-20261121-080509"
    assert default_out("a", {}, now) == f"{Path.cwd()}/3dgan/a-20261121-080509"


def test_submits_and_says_where_everything_goes(run: Run, site: Site) -> None:
    Path("a.h5").touch()
    done = run(
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


def test_data_that_is_not_here_is_worth_a_warning(run: Run) -> None:
    done = run("--data", "/nowhere/*.h5", "--out", "o")
    assert done.exit_code == 0
    assert "Warning: no file here matches /nowhere/*.h5; the nodes must have it" in done.stderr


def test_percent_signs_are_not_slurms(run: Run, site: Site) -> None:
    run("--data", "d", "--out", "100%n")
    assert f"#SBATCH --output={Path.cwd()}/100%%n/slurm-%j.log" in site.scripts()[41].replace("'", "")


def test_a_dry_run_shows_the_script_and_leaves_nothing(run: Run, site: Site) -> None:
    done = run("--data", "d", "--out", "o", "--dry-run", "--partition", "day", "--stage-env")
    assert done.stdout.startswith("#!/usr/bin/env bash\n")
    assert "#SBATCH --partition=day\n" in done.stdout
    assert "--stage-env" in done.stdout
    assert (site.calls("sbatch"), list(Path.cwd().iterdir())) == ([], [])


def test_options_of_the_training_may_have_the_names_of_ours(run: Run) -> None:
    assert last(run("--data", "d", "--out", "o", "--dry-run", "--", "--dry-run").stdout).endswith('--dry-run "$@"')


def test_where_jobs_may_requeue_a_chain_is_one_job(run: Run, site: Site) -> None:
    done = run("--data", "d", "--out", "o", "--chain", "3")
    assert "Submitted job 41:" in done.output
    assert site.calls("sbatch") == ["--parsable"]
    text = site.scripts()[41]
    assert "#SBATCH --requeue\n" in text
    assert "#SBATCH --open-mode=append\n" in text
    assert "--restarts 2 \\\n" in text


def test_elsewhere_a_chain_is_jobs_that_wait_for_each_other(run: Run, site: Site) -> None:
    done = run("--data", "d", "--out", "o", "--chain", "3", machine="stampede2-skx")
    assert "Submitted jobs 41, 42, 43, one after the other: 1 node, 4 workers, partition skx-normal" in done.output
    assert site.calls("sbatch") == [
        "--parsable",
        "--parsable --dependency=afterany:41",
        "--parsable --dependency=afterany:42",
    ]
    assert len(set(site.scripts().values())) == 1
    assert "--restarts" not in site.scripts()[41]
    assert "--requeue" not in site.scripts()[41]


def test_chains(site: Site) -> None:
    for name, expected in (("generic", (4, 1)), ("frontera-clx", (0, 5))):
        request, count = chained(JobRequest(machine=load_machine(name), nodes=4), 5)
        assert (request.restarts, count) == expected


def test_a_chain_that_breaks_says_what_is_in_the_queue(site: Site) -> None:
    site.answer("refuse-after", "2")
    request = JobRequest(machine=load_machine("stampede2-skx"), nodes=4, out="o", log_folder="o")
    with pytest.raises(LaunchError, match=r"Invalid account\. The first 2 of 3 jobs .* 'scancel 41 42' takes them out"):
        submit_jobs(request, 3, Slurm(site.environ))


def test_a_chain_must_go_on(run: Run, site: Site) -> None:
    done = run("--data", "d", "--out", "o", "--chain", "2", "--no-resume")
    assert isinstance(done.exception, LaunchError)
    assert "every job of a chain would begin anew" in str(done.exception)
    assert site.calls("sbatch") == []


@pytest.mark.parametrize(
    ("machine", "arguments", "said"),
    [
        (
            "single-node",
            (),
            "has no batch system to submit to; run its script: python -m launcher script --machine sing",
        ),
        ("stampede2-skx", ("--nodes", "869"), "at most 868 nodes a job"),
        ("stampede2-skx", ("--time", "49"), "no partition for 1 nodes for 49 hours"),
        ("stampede2-skx", ("--workers-per-node", "49"), "expected 1 to 48, the cores of a node"),
        ("stampede2-skx", ("--partition", "normal"), "has no partition 'normal'"),
        ("stampede9", (), "unknown machine 'stampede9'; known are"),
    ],
)
def test_limits_are_checked_before_the_submission(
    run: Run, site: Site, machine: str, arguments: tuple[str, ...], said: str
) -> None:
    done = run("--data", "d", "--out", "o", *arguments, machine=machine)
    assert isinstance(done.exception, LaunchError)
    assert said in str(done.exception)
    assert site.calls("sbatch") == []
    assert not Path("o").exists()


def test_mistakes_in_options_end_with_usage(run: Run, site: Site) -> None:
    wrong_time = run("--data", "d", "--time", "10:30")
    assert wrong_time.exit_code == 2
    assert "expected HH:MM:SS, D-HH:MM:SS or a number of hours" in wrong_time.output
    typo = run("--data", "d", "--epohcs", "3")
    assert typo.exit_code == 2
    assert "No such option '--epohcs'" in typo.output
    assert CliRunner().invoke(submit, ["--data", "d"]).exit_code == 2
    assert site.calls("sbatch") == []


def test_a_folder_that_cannot_be_made_is_an_error(run: Run, site: Site) -> None:
    Path("file").touch()
    done = run("--data", "d", "--out", "file/run")
    assert "file/run cannot be made (Not a directory)" in str(done.exception)
    assert site.calls("sbatch") == []
