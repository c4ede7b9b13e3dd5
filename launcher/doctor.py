"""Checks the environment that a training needs, and says what to fix.

What can crash runs in a process of its own (launcher.probe), so that a crash is a finding. The machine is
checked in launcher.checks; the command line prints and sets the exit status.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launcher.checks import Check, Status, machine_checks
from launcher.probe import importable, mpi_environment

__all__ = ["Check", "can_train", "diagnose", "render"]

# On a cold parallel file system, importing TensorFlow alone can take a minute.
TRIAL_SECONDS = 180.0
REMAKE = "Run 'make env' again (remove the environment first if that says it is up to date)."
# Variables with which an MPI launcher addresses its ranks: to a trial they would say that it is one of them.
_OF_A_RANK = re.compile(r"(OMPI_(?!MCA_|ALLOW_)|PMIX_|PMI_|PRTE_(?!MCA_|ALLOW_)|MPI_LOCAL|HYDI?_)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """What came of a trial."""

    found: Mapping[str, Any] = field(default_factory=dict)
    """The trial's findings; empty if it failed."""
    problem: str = ""
    """Why it failed, on one line."""


def diagnose() -> list[Check]:
    """Check everything; takes some twenty seconds, most of them TensorFlow's import."""
    environ = os.environ
    mpirun = shutil.which("mpirun")
    mpi = try_part("mpi", environ)
    two_ranks = Trial(problem="there is no mpirun")
    # The environment's own will do for the trial if the environment is not on PATH.
    beside = Path(sys.executable).with_name("mpirun")
    if mpirun or beside.exists():
        starter = (mpirun or str(beside), "-np", "2")
        two_ranks = try_part("allreduce", environ | mpi_environment(os.getuid(), len(os.sched_getaffinity(0))), starter)
    login_node = shutil.which("sbatch") and "SLURM_JOB_ID" not in environ
    by_srun = not mpirun and (shutil.which("srun") or shutil.which("ibrun"))
    return [
        check_python(environ),
        check_tensorflow(try_part("tensorflow", environ)),
        check_mpi(mpi),
        check_mpirun(mpi.found.get("library", ""), mpirun, _version_of(mpirun)),
        check_horovod(try_part("horovod", environ) if importable("horovod") else None),
        check_two_ranks(two_ranks, in_a_job=bool(login_node or by_srun)),
        check_hdf5(try_part("hdf5", environ), environ),
        *machine_checks(environ),
    ]


def can_train(checks: Sequence[Check]) -> bool:
    """Tell whether no check says that training can't work."""
    return all(check.status != "fail" for check in checks)


def render(checks: Sequence[Check]) -> str:
    """Lay out the checks, a line each, and what to fix, failures before warnings."""
    width = max((len(check.name) for check in checks), default=0)
    lines = [f"{check.status:<4}  {check.name:<{width}}  {check.detail}" for check in checks]
    order: tuple[Status, ...] = ("fail", "warn")
    to_fix = [check for status in order for check in checks if check.status == status]
    if to_fix:
        lines += ["", "To fix:"]
        lines += [f"{number}. {check.name}: {check.remedy}" for number, check in enumerate(to_fix, 1)]
    lines.append("")
    if not can_train(checks):
        lines.append("Training can't work here until what failed is fixed.")
    else:
        lines.append("Training can work here." if to_fix else "Training can work here; nothing to fix.")
    return "\n".join(lines)


def try_part(
    name: str, environ: Mapping[str, str], starter: Sequence[str] = (), timeout: float = TRIAL_SECONDS
) -> Trial:
    """Run one trial of launcher.probe, under `starter` (such as mpirun -np 2) if that is given."""
    argv = [*starter, sys.executable, "-m", "launcher.probe", name]
    quiet = {key: value for key, value in environ.items() if not _OF_A_RANK.match(key)}
    quiet |= {"TF_CPP_MIN_LOG_LEVEL": "3"}
    # From the folder of this package, so that it is found even where it is not installed.
    process = subprocess.Popen(
        argv,
        env=quiet,
        cwd=Path(__file__).parent.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return Trial(problem=f"no end within {timeout:.0f} s")
    return read_trial(process.returncode, output, errors)


def read_trial(status: int, output: str, errors: str) -> Trial:
    """Make a Trial of the exit status and the output of a trial's process."""
    if status < 0:
        return Trial(problem=f"crashed with {signal.Signals(-status).name}")
    answers = [line for line in output.splitlines() if line.startswith("{")]
    if status == 0 and answers:
        return Trial(found=json.loads(answers[-1]))
    lines = [line.strip() for line in errors.splitlines() if line.strip(" -\t")]
    # An exception may go on over some lines, such as the names of the libraries that were looked for.
    raised = [number for number, line in enumerate(lines) if re.match(r"[\w.]*(Error|Exception)\b", line)]
    telling = lines[raised[-1] :][:3] if raised else lines[-3:]
    return Trial(problem=" / ".join(telling) or f"ended with status {status}")


def check_python(environ: Mapping[str, str]) -> Check:
    """Name the Python; warn if a module system mixes in another one's packages."""
    detail = f"{platform.python_version()} at {sys.executable}"
    if environ.get("PYTHONPATH"):
        return Check(
            name="Python",
            status="warn",
            detail=f"{detail}; PYTHONPATH={environ['PYTHONPATH']}",
            remedy="Packages there take precedence over the environment's: unset PYTHONPATH before training.",
        )
    return Check(name="Python", status="ok", detail=detail)


def check_tensorflow(trial: Trial) -> Check:
    """Judge TensorFlow's import and a first sum."""
    if not trial.found.get("works"):
        detail = trial.problem or f"{trial.found.get('version')} computes wrong sums"
        return Check(name="TensorFlow", status="fail", detail=detail, remedy=REMAKE)
    return Check(name="TensorFlow", status="ok", detail=f"{trial.found['version']}, Keras {trial.found['keras']}")


def check_mpi(trial: Trial) -> Check:
    """Judge whether mpi4py starts MPI."""
    if trial.found:
        found = trial.found
        detail = f"{found['library'].split(',')[0]} (MPI {found['standard']}) through mpi4py {found['mpi4py']}"
        return Check(name="MPI", status="ok", detail=detail)
    return Check(
        name="MPI",
        status="fail",
        detail=trial.problem,
        remedy="On a cluster, load the MPI module the environment was made with; otherwise run 'make env' again.",
    )


def mpi_family(text: str) -> tuple[str, str]:
    """Return family and version from what an MPI library or an mpirun says of itself; empty if not known."""
    # Intel's and MPICH's libraries both descend from MPICH, so the more special names come first.
    for family, pattern in (
        ("Open MPI", r"Open MPI\)? v?(\d[\w.]*)"),
        ("Intel MPI", r"Intel\(R\) MPI Library\D*?(\d{4}[\w.]*)"),
        ("MVAPICH", r"MVAPICH\w*\s+Version\s*:?\s*(\d[\w.]*)"),
        ("MPICH", r"MPICH Version:?\s*(\d[\w.]*)"),
        ("MPICH", r"HYDRA build details:\s*Version:\s*(\d[\w.]*)"),
    ):
        if match := re.search(pattern, text):
            return family, match[1]
    return "", ""


def check_mpirun(library: str, mpirun: str | None, version_text: str) -> Check:
    """Check that the mpirun on PATH belongs to the library that mpi4py loads."""
    if mpirun is None:
        return Check(
            name="mpirun",
            status="warn",
            detail="none on PATH",
            remedy="Put the environment's bin folder or the site's MPI on PATH; in a job srun or ibrun will do.",
        )
    (family, version), (wanted, wanted_version) = mpi_family(version_text), mpi_family(library)
    detail = f"{mpirun}, {family} {version}".rstrip(", ")
    use = f"Put the bin folder of {wanted} {wanted_version} (the environment's or the module's) first on PATH."
    # Hydra is the starter of all MPICH's descendants.
    related = {"MPICH", "Intel MPI", "MVAPICH"}
    if not family or not wanted:
        return Check(name="mpirun", status="info", detail=f"{detail or mpirun}; can't tell whether it fits the library")
    if family != wanted and not {family, wanted} <= related:
        detail += f", but the library is {wanted} {wanted_version}: every rank would find itself alone"
        return Check(name="mpirun", status="fail", detail=detail, remedy=use)
    if family != wanted or version.split(".")[:2] != wanted_version.split(".")[:2]:
        detail += f", but the library is {wanted} {wanted_version}"
        return Check(name="mpirun", status="warn", detail=detail, remedy=use)
    return Check(name="mpirun", status="ok", detail=detail)


def check_horovod(trial: Trial | None) -> Check:
    """Judge Horovod, None if it is not installed; without it training works through mpi4py."""
    remake = "Build it again: remove the environment and run 'make env'. Until then pass --communicator mpi."
    if trial is None:
        return Check(
            name="Horovod",
            status="warn",
            detail="not installed; ranks talk through mpi4py",
            remedy="Training works without it. To have it: make env HOROVOD=yes",
        )
    found = trial.found
    if not found:
        return Check(name="Horovod", status="warn", detail=trial.problem, remedy=remake)
    detail = f"{found['version']}, built against TensorFlow {found['built_against']}, " + (
        "with MPI" if found["mpi"] else "without MPI"
    )
    if not found["mpi"] or found["built_against"] != found["tensorflow"]:
        return Check(
            name="Horovod", status="warn", detail=f"{detail}; installed is {found['tensorflow']}", remedy=remake
        )
    return Check(name="Horovod", status="ok", detail=detail)


def check_two_ranks(trial: Trial, *, in_a_job: bool) -> Check:
    """Judge the sum over two ranks; `in_a_job` tells that only a job, not this place, can settle it if it failed."""
    found = trial.found
    ways = [name for name in ("mpi4py", "horovod") if name in found]
    wrong = [name for name in ways if not found[name]]
    if found.get("size") == 2 and not wrong:
        return Check(name="Two ranks", status="ok", detail=f"allreduce right through {' and '.join(ways)}")
    if found.get("size", 2) != 2:
        detail = f"mpirun -np 2 gave ranks that see {found['size']} rank(s): mpirun and library don't belong together"
    else:
        detail = f"wrong sum through {' and '.join(wrong)}" if wrong else trial.problem
    if in_a_job:
        remedy = "A login node may refuse MPI. Try in a job: srun -n 2 (or ibrun) python -m launcher.probe allreduce"
        return Check(name="Two ranks", status="warn", detail=detail, remedy=remedy)
    remedy = (
        "Fix what the lines above say of MPI and Horovod, then try: mpirun -np 2 python -m launcher.probe allreduce"
    )
    return Check(name="Two ranks", status="fail", detail=detail, remedy=remedy)


def check_hdf5(trial: Trial, environ: Mapping[str, str]) -> Check:
    """Judge a file written and read in the temporary folder."""
    locking = environ.get("HDF5_USE_FILE_LOCKING", "by default")
    if not trial.found.get("works"):
        detail = trial.problem or "a file did not read back as written"
        return Check(name="HDF5", status="fail", detail=detail, remedy=f"Check that TMPDIR is writable. {REMAKE}")
    detail = f"{trial.found['hdf5']}, h5py {trial.found['h5py']}, file locking {locking}"
    return Check(name="HDF5", status="ok", detail=detail)


def _version_of(mpirun: str | None) -> str:
    if mpirun is None:
        return ""
    try:
        return subprocess.run(
            [mpirun, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
