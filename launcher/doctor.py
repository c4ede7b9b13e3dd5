"""Check the environment that a training needs, and report what to fix.

Parts that may crash are tried in separate processes (`launcher.probe`), so that a crash is only one more result.
`launcher.checks` checks the machine; the command line prints the result and sets the exit status.
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
from launcher.mpi_library import identify
from launcher.probe import importable, mpi_environment

__all__ = ["Check", "can_train", "diagnose", "render"]

TRIAL_SECONDS = 180.0
"""Time limit of a trial in seconds. The first import of TensorFlow from a parallel file system can take a minute."""
REMAKE = "Run 'make env' again. If that says the environment is up to date, remove it first."
# Variables that mpirun sets for its ranks. With them a trial would behave like one of these ranks.
_OF_A_RANK = re.compile(r"(OMPI_(?!MCA_|ALLOW_)|PMIX_|PMI_|PRTE_(?!MCA_|ALLOW_)|MPI_LOCAL|HYDI?_)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """Result of a trial."""

    findings: Mapping[str, Any] = field(default_factory=dict)
    """Findings of the trial; empty if it failed."""
    problem: str = ""
    """Reason of the failure, on one line; empty after a success."""


def diagnose() -> list[Check]:
    """Run all checks. This takes about 20 seconds, most of them to import TensorFlow."""
    environ = os.environ
    mpirun = shutil.which("mpirun")
    mpi = try_part("mpi", environ)
    two_ranks = Trial(problem="there is no mpirun")
    # If PATH has no mpirun, use the mpirun of this environment for the trial.
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
        check_mpirun(mpi.findings.get("library", ""), mpirun, _version_text(mpirun)),
        check_horovod(try_part("horovod", environ) if importable("horovod") else None),
        check_two_ranks(two_ranks, only_in_jobs=bool(login_node or by_srun)),
        check_hdf5(try_part("hdf5", environ), environ),
        *machine_checks(environ),
    ]


def can_train(checks: Sequence[Check]) -> bool:
    """Return True if no check failed."""
    return all(check.status != "fail" for check in checks)


def render(checks: Sequence[Check]) -> str:
    """Return a text with one line for each check, then what to fix, failures before warnings."""
    width = max((len(check.name) for check in checks), default=0)
    lines = [f"{check.status:<4}  {check.name:<{width}}  {check.detail}" for check in checks]
    order: tuple[Status, ...] = ("fail", "warn")
    to_fix = [check for status in order for check in checks if check.status == status]
    if to_fix:
        lines += ["", "To fix:"]
        lines += [f"{number}. {check.name}: {check.remedy}" for number, check in enumerate(to_fix, 1)]
    lines.append("")
    if not can_train(checks):
        lines.append("Training cannot work here. Fix the failures first.")
    else:
        lines.append("Training can work here." if to_fix else "Training can work here; nothing to fix.")
    return "\n".join(lines)


def try_part(
    name: str, environ: Mapping[str, str], starter: Sequence[str] = (), timeout: float = TRIAL_SECONDS
) -> Trial:
    """Run one trial of `launcher.probe` in a separate process.

    Args:
        name: a key of `launcher.probe.TRIALS`.
        environ: environment of the process. Variables that mark a rank of an MPI job are removed.
        starter: command that starts the process, such as `mpirun -np 2`; empty to start it directly.
        timeout: seconds until the process is killed.
    """
    argv = [*starter, sys.executable, "-m", "launcher.probe", name]
    quiet = {key: value for key, value in environ.items() if not _OF_A_RANK.match(key)}
    quiet |= {"TF_CPP_MIN_LOG_LEVEL": "3"}
    # Run in the project's folder, so that Python finds this package even if it is not installed.
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
        return Trial(problem=f"did not end within {timeout:.0f} s")
    return read_trial(process.returncode, output, errors)


def read_trial(status: int, output: str, errors: str) -> Trial:
    """Read the result of a trial from the exit status, the output and the error output of its process."""
    if status < 0:
        return Trial(problem=f"crashed with {signal.Signals(-status).name}")
    answers = [line for line in output.splitlines() if line.startswith("{")]
    if status == 0 and answers:
        return Trial(findings=json.loads(answers[-1]))
    lines = [line.strip() for line in errors.splitlines() if line.strip(" -\t")]
    # The message of an exception may have several lines, for example the names of the missing libraries.
    exceptions = [number for number, line in enumerate(lines) if re.match(r"[\w.]*(Error|Exception)\b", line)]
    reason = lines[exceptions[-1] :][:3] if exceptions else lines[-3:]
    return Trial(problem=" / ".join(reason) or f"ended with status {status}")


def check_python(environ: Mapping[str, str]) -> Check:
    """Report the version of this Python, and warn if PYTHONPATH adds packages of another one."""
    detail = f"{platform.python_version()} at {sys.executable}"
    if environ.get("PYTHONPATH"):
        return Check(
            name="Python",
            status="warn",
            detail=f"{detail}; PYTHONPATH={environ['PYTHONPATH']}",
            remedy="Python uses packages there instead of the environment's: unset PYTHONPATH before training.",
        )
    return Check(name="Python", status="ok", detail=detail)


def check_tensorflow(trial: Trial) -> Check:
    """Check that TensorFlow can be imported and computes a sum correctly."""
    if not trial.findings.get("works"):
        detail = trial.problem or f"{trial.findings.get('version')} computes wrong sums"
        return Check(name="TensorFlow", status="fail", detail=detail, remedy=REMAKE)
    return Check(name="TensorFlow", status="ok", detail=f"{trial.findings['version']}, Keras {trial.findings['keras']}")


def check_mpi(trial: Trial) -> Check:
    """Check that mpi4py can start MPI."""
    if findings := trial.findings:
        detail = f"{findings['library'].split(',')[0]} (MPI {findings['standard']}) through mpi4py {findings['mpi4py']}"
        return Check(name="MPI", status="ok", detail=detail)
    return Check(
        name="MPI",
        status="fail",
        detail=trial.problem,
        remedy="On a cluster, load the MPI module that 'make env' was run with; elsewhere run 'make env' again.",
    )


def check_mpirun(library_text: str, mpirun: str | None, mpirun_text: str) -> Check:
    """Check that the mpirun on PATH belongs to the library that mpi4py loads.

    Args:
        library_text: version text of the MPI library; empty if it could not be loaded.
        mpirun: path of the mpirun; None if there is none on PATH.
        mpirun_text: what `mpirun --version` prints.
    """
    if mpirun is None:
        return Check(
            name="mpirun",
            status="warn",
            detail="none on PATH",
            remedy="Put the bin folder of this environment or of the site's MPI on PATH. In a job, srun or ibrun work "
            "without it.",
        )
    starter, library = identify(mpirun_text), identify(library_text)
    if not starter or not library:
        detail = f"{mpirun}, {starter or 'unknown MPI'}; not known whether it belongs to the MPI library"
        return Check(name="mpirun", status="info", detail=detail)
    detail = f"{mpirun}, {starter}"
    remedy = f"Put the bin folder of {library} first on PATH, from this environment or the MPI module."
    # Every mpirun except Open MPI's is Hydra, which starts MPICH and all libraries that descend from it.
    if "open_mpi" in (starter.starter, library.starter) and starter.name != library.name:
        detail += f", but the library is {library}: every rank would be alone"
        return Check(name="mpirun", status="fail", detail=detail, remedy=remedy)
    if starter.name != library.name or _release(starter.version) != _release(library.version):
        detail += f", but the library is {library}"
        return Check(name="mpirun", status="warn", detail=detail, remedy=remedy)
    return Check(name="mpirun", status="ok", detail=detail)


def _release(version: str) -> list[str]:
    """Return the first two numbers of a version."""
    return version.split(".")[:2]


def check_horovod(trial: Trial | None) -> Check:
    """Check Horovod. Pass None if it is not installed: a training then uses mpi4py."""
    remake = "Build it again: remove the environment and run 'make env'. Until then train with --communicator mpi."
    if trial is None:
        return Check(
            name="Horovod",
            status="warn",
            detail="not installed; gradients go through mpi4py",
            remedy="Training works without it. To install it: make env HOROVOD=yes",
        )
    findings = trial.findings
    if not findings:
        return Check(name="Horovod", status="warn", detail=trial.problem, remedy=remake)
    detail = f"{findings['version']}, built against TensorFlow {findings['built_against']}, " + (
        "with MPI" if findings["mpi"] else "without MPI"
    )
    if not findings["mpi"] or findings["built_against"] != findings["tensorflow"]:
        return Check(
            name="Horovod",
            status="warn",
            detail=f"{detail}; TensorFlow {findings['tensorflow']} is installed",
            remedy=remake,
        )
    return Check(name="Horovod", status="ok", detail=detail)


def check_two_ranks(trial: Trial, *, only_in_jobs: bool) -> Check:
    """Check the sum over two ranks.

    Args:
        only_in_jobs: whether MPI may fail here but work in a job, as on a login node. A failure is then only a warning.
    """
    findings = trial.findings
    ways = [name for name in ("mpi4py", "horovod") if name in findings]
    wrong = [name for name in ways if not findings[name]]
    if findings.get("size") == 2 and not wrong:
        return Check(name="Two ranks", status="ok", detail=f"allreduce works through {' and '.join(ways)}")
    if findings.get("size", 2) != 2:
        detail = f"with mpirun -np 2 each rank sees {findings['size']} rank(s): mpirun belongs to another MPI library"
    else:
        detail = f"wrong sum through {' and '.join(wrong)}" if wrong else trial.problem
    if only_in_jobs:
        remedy = "MPI may work in jobs only. Try in a job: srun -n 2 (or ibrun) python -m launcher.probe allreduce"
        return Check(name="Two ranks", status="warn", detail=detail, remedy=remedy)
    remedy = "Fix the problems with MPI and Horovod above, then try: mpirun -np 2 python -m launcher.probe allreduce"
    return Check(name="Two ranks", status="fail", detail=detail, remedy=remedy)


def check_hdf5(trial: Trial, environ: Mapping[str, str]) -> Check:
    """Check that an HDF5 file in the temporary folder can be written and read."""
    locking = environ.get("HDF5_USE_FILE_LOCKING", "by default")
    if not trial.findings.get("works"):
        detail = trial.problem or "a file was read back with other values than were written"
        return Check(name="HDF5", status="fail", detail=detail, remedy=f"Check that TMPDIR can be written. {REMAKE}")
    detail = f"{trial.findings['hdf5']}, h5py {trial.findings['h5py']}, file locking {locking}"
    return Check(name="HDF5", status="ok", detail=detail)


def _version_text(mpirun: str | None) -> str:
    """Return what `mpirun --version` prints; empty if it cannot be run."""
    if mpirun is None:
        return ""
    try:
        return subprocess.run(
            [mpirun, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
