"""Submit a scaling study: the same training on different numbers of nodes.

Each point of the study is a job of its own, or one job runs all points in turn. The same command can be given again at
any time: points that are complete, or whose job is pending or running, get no new job.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from launcher.batch.job_request import JobRequest
from launcher.batch.script import render
from launcher.batch.slurm import FINISHED, Slurm
from launcher.batch.study_progress import PointProgress, read_progress
from launcher.batch.submit import TrainingCommand, check_batch_system, make_log_folder
from launcher.batch.timelimit import format_time
from launcher.errors import LaunchError
from scaling.records.studies import StudyFile, StudyPoint, read_study_file
from scaling.records.wording import count

__all__ = ["StudyJobs", "differences", "parse_nodes", "plan_jobs", "points_of", "submit_study"]

REPORT_SECONDS = 600
"""Time limit of the job that makes the report, in seconds."""

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyJobs:
    """The jobs that a study still needs, checked against the limits of the machine."""

    study: StudyFile
    """The study, including new points."""
    jobs: Sequence[tuple[JobRequest, tuple[str, ...]]]
    """Each job with the names of its points."""
    report: JobRequest
    """Job that makes the report."""
    notes: Sequence[str] = ()
    """One line for each point that gets no new job, with the reason."""


def parse_nodes(text: str) -> tuple[int, ...]:
    """Return numbers of nodes such as 1,2,4,8, sorted and without duplicates.

    Raises:
        LaunchError: the text is not a list of whole numbers from 1 to 999999.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"[1-9][0-9]{0,5}", part) for part in parts):
        raise LaunchError(f"--nodes is {text!r}; expected numbers such as 1,2,4,8: correct it")
    return tuple(sorted({int(part) for part in parts}))


def points_of(nodes: Sequence[int], repeats: int) -> list[StudyPoint]:
    """Return the points of a study. All sizes come before any repeat, so that a study that ends early covers all sizes.

    Args:
        nodes: numbers of nodes.
        repeats: runs per number of nodes.
    """
    return [StudyPoint(nodes=number, repeat=repeat) for repeat in range(1, repeats + 1) for number in nodes]


def plan_jobs(
    folder: Path,
    nodes: Sequence[int],
    repeats: int,
    template: JobRequest,
    training: TrainingCommand,
    single_job: bool,
    slurm: Slurm,
) -> StudyJobs:
    """Decide which jobs a study still needs.

    Args:
        folder: folder of the study.
        nodes: numbers of nodes.
        repeats: runs per number of nodes.
        template: request with everything that the jobs share. Each job sets its own size, name and folders.
        training: the training of all points.
        single_job: True to run all points in one job.
        slurm: Slurm, for the states of earlier jobs.

    Raises:
        LaunchError: a point exceeds a limit of the machine, the folder holds a study with other settings, or the
            training does not continue an interrupted run.
        RecordError: the file of the study cannot be read.
    """
    check_batch_system(template.machine)
    if training.starts_over:
        raise LaunchError(
            "--no-resume is given; expected runs that continue after an interruption: leave --no-resume out, or choose "
            "another folder with --out to start over"
        )
    folder = folder.absolute()
    wanted = points_of(nodes, repeats)
    # A single job is checked against the limits of its largest point only.
    requests = {} if single_job else {p.name: _point_request(folder, p, template, training) for p in wanted}
    report = _report_request(folder, template)
    together = replace(
        template, nodes=max(nodes), name=f"{template.name}-study", log_folder=str(folder), command="true"
    )  # fmt: skip
    study = _study(folder, template, training).with_points(wanted)
    names = [point.name for point in wanted]
    progress = {one.point.name: one for one in read_progress(study, slurm) if one.point.name in names}
    missing = tuple(name for name in names if not progress[name].settled)
    jobs: list[tuple[JobRequest, tuple[str, ...]]] = [
        (request, (name,)) for name, request in requests.items() if name in missing
    ]
    if single_job and missing:
        largest = max(study.points[name].nodes for name in missing)
        jobs = [(replace(together, nodes=largest, command=_points_command(folder, missing, template)), missing)]
    notes = [_reason(progress[name]) for name in names if progress[name].settled]
    return StudyJobs(study=study, jobs=jobs, report=report, notes=notes)


def submit_study(planned: StudyJobs, slurm: Slurm, say: Say, *, report: bool) -> StudyFile:
    """Submit the planned jobs. Return the study with their numbers.

    The file of the study is saved after every submission, so that the same command continues after an error.

    Args:
        planned: jobs to submit.
        slurm: Slurm.
        say: function that prints a line.
        report: True to submit a last job, which makes the report.

    Raises:
        LaunchError: Slurm refuses a job.
        RecordError: the file of the study cannot be written.
    """
    study = planned.study
    study.save()
    for note in planned.notes:
        say(note)
    for request, names in planned.jobs:
        make_log_folder(request)
        job = slurm.submit(render(request))
        study = study.with_job(names, job)
        study.save()
        say(
            f"{', '.join(names)}: job {job}, {count(request.nodes, 'node')}, at most {format_time(request.seconds)}, "
            f"log {request.log_folder}/slurm-{job}.log"
        )
    active = sorted({one.point.jobs[-1] for one in read_progress(study, slurm) if one.active})
    if not report or not (planned.jobs or active):
        return study
    if study.report_job and slurm.states([study.report_job])[study.report_job] not in FINISHED:
        if not planned.jobs:
            return study
        # The old report job does not wait for the new jobs.
        slurm.cancel(study.report_job)
    after = [f"--dependency=afterany:{':'.join(map(str, active))}"] if active else []
    study = replace(study, report_job=slurm.submit(render(planned.report), *after))
    study.save()
    say(f"report: job {study.report_job} after them, in {study.folder / 'report'}")
    return study


def _study(folder: Path, template: JobRequest, training: TrainingCommand) -> StudyFile:
    """Return the study in a folder, or a new one. Raise LaunchError if the settings of the study differ."""
    configuration = {
        "machine": template.machine.reference,
        "workers_per_node": template.workers,
        "data": list(training.data),
        "arguments": list(training.arguments),
        "training": dict(training.values),
    }
    study = read_study_file(folder)
    if study is None:
        return StudyFile(folder=folder, configuration=configuration)
    if unlike := differences(study.configuration, configuration):
        listed = "\n".join(f"  {line}" for line in unlike)
        raise LaunchError(
            f"{folder} holds a study of another configuration, and its times cannot be compared:\n{listed}\n"
            "Give the same options as before, or another folder with --out"
        )
    return study


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return the differences between two configurations, such as `training.epochs: 5 there, 10 now`.

    The key `arguments` is ignored, since an explicit default equals an omitted option. `training` has all values.
    """
    before, after = _flat(old), _flat(new)
    missing = "not given"
    return [
        f"{name}: {before.get(name, missing)} there, {after.get(name, missing)} now"
        for name in sorted((before.keys() | after.keys()) - {"arguments"})
        if before.get(name, missing) != after.get(name, missing)
    ]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return the values of nested mappings as JSON texts, with names such as `training.epochs`."""
    flat: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = json.dumps(value)
    return flat


def _point_request(folder: Path, point: StudyPoint, template: JobRequest, training: TrainingCommand) -> JobRequest:
    out = str(folder / point.name)
    return replace(
        template, nodes=point.nodes, name=f"{template.name}-{point.name}", data=training.data, out=out, log_folder=out,
        arguments=training.arguments,
    )  # fmt: skip


def _report_request(folder: Path, template: JobRequest) -> JobRequest:
    quoted = shlex.quote(str(folder))
    # The user's partition may be for larger jobs only.
    own = next((partition for partition in template.machine.partitions if partition.name == template.partition), None)
    partition = "" if own is not None and own.refusal(1) else template.partition
    return replace(
        template, nodes=1, workers_per_node=1, seconds=REPORT_SECONDS, name=f"{template.name}-report",
        partition=partition, stage_env=False, log_folder=str(folder),
        command=f"python -m scaling report {quoted}/n*/run.jsonl --out {quoted}/report",
    )  # fmt: skip


def _points_command(folder: Path, names: Sequence[str], template: JobRequest) -> str:
    stage = " --stage-env" if template.stage_env else ""
    return f"python -m launcher study --run-points {shlex.quote(str(folder))}{stage} {' '.join(names)}"


def _reason(one: PointProgress) -> str:
    reason = "complete already" if one.complete else f"job {one.point.jobs[-1]} is {one.state.lower()}"
    return f"{one.point.name}: {reason}"
