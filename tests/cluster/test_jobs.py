"""Jobs on a real Slurm: submission, interruption, continuation, a node that dies, and a scaling study."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from launcher.batch.outcome import INTERRUPTED
from launcher.cpulist import format_cpu_list
from launcher.plan import make_plan
from scaling.records import read_run
from tests.cluster.bed import Job, MakeBed, SlurmBed
from tests.support.environment import ROOT
from tests.support.runs import assert_equal_weights, weights

SMALL = ("--filters", "original", "--batch-size", "2", "--warmup-epochs", "1", "--deterministic")
STARTED = re.compile(r"job (\d+)")


def machine_file(folder: Path, *, requeue: bool) -> Path:
    """Write the machine file of a site whose jobs requeue themselves (`requeue`) or are chained, and return it."""
    text = 'title = "The test\'s site"\nsource = "this test"\nlauncher = "srun"\nworkers_per_node = 1\n'
    path = folder / "site.toml"
    path.write_text(f"{text}requeue = {str(requeue).lower()}\nsignal = true\n")
    return path


def submitted(bed: SlurmBed, *words: object) -> list[int]:
    """Run `launcher submit` and return the numbers of its jobs."""
    done = bed.run(["python", "-m", "launcher", "submit", *words], check=True)
    first = done.stdout.splitlines()[0]
    return [int(number) for number in re.findall(r"\d+", first.split(":")[0])]


@pytest.mark.parametrize("starter", ["srun", "mpirun"])
def test_run_starts_ranks_as_planned(skx_bed: SlurmBed, tmp_path: Path, starter: str) -> None:
    script = f"#!/bin/sh\nexec python -m launcher run --starter {starter} --workers-per-node 4 train --dry-run\n"
    options = ("--nodes=2", "--ntasks-per-node=4", f"--output={tmp_path}/job.log", f"--chdir={ROOT}")
    job = skx_bed.wait(skx_bed.sbatch(script, *options), timeout=300)
    assert job.state == "COMPLETED", job.output
    assert "Placement: 8 workers on 2 nodes" in job.output
    assert "Warning" not in job.output
    for worker in make_plan(machine="stampede2-skx", nodes=2).placement.workers:
        assert f"  {format_cpu_list(worker.cpus)}  " in job.output


@pytest.mark.slow
def test_environment_is_staged_to_every_nodes_own_disk(bed: SlurmBed, tmp_path: Path) -> None:
    script = "#!/bin/sh\nexec python -m launcher run --starter srun --workers-per-node 1 --stage-env train --dry-run\n"
    options = ("--nodes=2", "--ntasks-per-node=1", f"--output={tmp_path}/job.log", f"--chdir={ROOT}")
    job = bed.wait(bed.sbatch(script, *options), timeout=500)
    assert job.state == "COMPLETED", job.output
    staged = re.search(rf"Staged \d+ MB to (/tmp/launcher-env-{job.id}-\S+) on 2 nodes", job.output)
    assert staged, job.output
    assert f"{staged[1]}/env/bin/python" in job.output.split("Starting 2 nodes")[1]
    assert "Placement: 2 workers on 2 nodes" in job.output
    for node in bed.nodes[:2]:
        assert "launcher-env" not in bed.on_node(node, ["ls", "/tmp"]).stdout


@pytest.mark.slow
def test_a_training_longer_than_its_jobs_finishes_over_three(
    make_bed: MakeBed, shower_files: Path, tmp_path: Path
) -> None:
    """Three chained jobs and one requeued job train to the same weights as one uninterrupted job.

    The training has two steps and a validation. Each job has time for one step, because the margin is nearly the whole
    time limit.
    """
    bed = make_bed(2)

    def train(name: str, chain: int, requeue: bool, *more: object) -> Job:
        jobs = submitted(
            bed, "--machine", machine_file(tmp_path, requeue=requeue), "--nodes", 2, "--time", "00:10:00",
            "--chain", chain, "--out", tmp_path / name, "--data", shower_files / "*.h5", *SMALL, "--epochs", 1,
            "--events", 10, *more,
        )  # fmt: skip
        assert len(jobs) == (1 if requeue else chain)
        last = bed.wait(
            jobs[-1],
            timeout=600,
            until=lambda job: job.ended and (not requeue or int(job.fields["Restarts"]) == chain - 1),
        )
        assert last.state == "COMPLETED", last.output
        return last

    train("whole", 1, False)
    whole = read_run(tmp_path / "whole")
    assert whole.complete
    assert whole.parts == 1
    for name, requeue in (("chained", False), ("requeued", True)):
        last = train(name, 3, requeue, "--stop-before", 597)
        record = read_run(tmp_path / name)
        assert record.complete, last.output
        assert record.parts == 3
        assert (record.header.resumed_epochs, record.header.resumed_steps, record.header.nodes) == (0, 2, 2)
        assert_equal_weights(weights(tmp_path / name, 1), weights(tmp_path / "whole", 1))


@pytest.mark.slow
def test_preempted_job_checkpoints_before_it_ends(bed: SlurmBed, shower_files: Path, tmp_path: Path) -> None:
    """Slurm preempts with SIGTERM to all ranks, but not to the script."""
    out = tmp_path / "run"
    (job,) = submitted(
        bed, "--machine", machine_file(tmp_path, requeue=False), "--nodes", 2, "--time", "00:30:00", "--out", out,
        "--data", shower_files / "*.h5", *SMALL, "--epochs", 500,
    )  # fmt: skip
    bed.wait(job, timeout=300, until=lambda job: (out / "run.jsonl").exists() or job.ended)
    bed.run(["scancel", "--signal=TERM", job], check=True)
    ended = bed.wait(job, timeout=300)
    assert ended.exit_code == INTERRUPTED, ended.output
    record = read_run(out)
    assert record.end is not None
    assert record.end.status == "interrupted"
    assert "asked by SIGTERM" in record.end.message
    assert list((out / "checkpoints").glob("epoch-*.npz"))


@pytest.mark.slow
def test_dying_node_is_named_and_the_next_job_continues_without_it(
    make_bed: MakeBed, shower_files: Path, tmp_path: Path
) -> None:
    bed = make_bed(3, slurmd_timeout=60)
    out = tmp_path / "run"
    first, second = submitted(
        bed, "--machine", machine_file(tmp_path, requeue=False), "--nodes", 2, "--time", "00:30:00", "--chain", 2,
        "--out", out, "--data", shower_files / "*.h5", *SMALL, "--epochs", 500,
    )  # fmt: skip
    bed.wait(first, timeout=600, until=lambda job: any((out / "checkpoints").glob("epoch-*.npz")) or job.ended)
    assert bed.state(first) == "RUNNING", bed.job(first).output
    victim = read_run(out).header.hosts[1]
    bed.kill_node(victim)
    died = time.monotonic()
    ended = bed.wait(first, timeout=120, until=lambda job: job.state != "RUNNING")
    assert time.monotonic() - died < 60
    assert f"Error: {victim} sent no heartbeat" in ended.output
    assert ended.state != "COMPLETED"
    before = read_run(out)
    assert before.end is None
    bed.wait(second, timeout=300, until=lambda job: read_run(out).parts == 2 or job.ended)
    record = read_run(out)
    assert record.header.resumed_epochs >= 1
    assert victim not in record.header.hosts
    assert bed.job(second).fields["ExcNodeList"] == victim


@pytest.mark.slow
def test_study_command_can_be_repeated(make_bed: MakeBed, shower_files: Path, tmp_path: Path) -> None:
    bed = make_bed(2)
    folder = tmp_path / "study"
    same = (
        "--machine", machine_file(tmp_path, requeue=False), "--out", folder, "--time", "00:30:00",
        "--data", shower_files / "*.h5", *SMALL, "--epochs", 2, "--events", 12,
    )  # fmt: skip
    study = ("python", "-m", "launcher", "study")
    done = bed.run([*study, "--nodes", "1", *same], check=True)
    jobs = [int(number) for number in STARTED.findall(done.stdout)]
    assert len(jobs) == 2
    ended = [bed.wait(job, timeout=600) for job in jobs]
    assert [job.state for job in ended] == ["COMPLETED"] * 2, [job.output for job in ended]
    assert (folder / "report" / "scaling.csv").exists() or list((folder / "report").glob("*.csv"))

    done = bed.run([*study, "--nodes", "1,2", "--single-job", "--wait", "--poll", "1", *same], timeout=900, check=True)
    assert "n0001-r1: complete already" in done.stdout
    assert read_run(folder / "n0001-r1").parts == 1
    assert read_run(folder / "n0002-r1").header.nodes == 2
    table = bed.run([*study, "--status", folder], check=True).stdout
    assert len(re.findall(r"n000[12]-r1\b.*complete", table)) == 2
    refused = bed.run([*study, "--nodes", "1,2", *same, "--seed", "5"])
    assert refused.returncode == 2
    assert "another configuration" in refused.stderr
