"""The doctor: checks with given findings, trials on this machine, and the text of the result."""

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher import checks, doctor
from launcher.checks import Check
from launcher.doctor import Trial, can_train, read_trial, render, try_part
from launcher.probe import mpi_environment

OPEN_MPI = "Open MPI v5.0.11, package: Open MPI user@localhost Distribution, ident: 5.0.11"
OPEN_MPIRUN = "mpirun (Open MPI) 5.0.11\n\nReport bugs to https://www.open-mpi.org/community/help/\n"
HYDRA = "HYDRA build details:\n    Version:                                 4.2.1\n"
GB = 2**30


class TestMpirun:
    @pytest.mark.parametrize(
        ("library", "version_text", "status"),
        [
            (OPEN_MPI, OPEN_MPIRUN, "ok"),
            (OPEN_MPI, "mpirun (Open MPI) 4.1.4", "warn"),
            (OPEN_MPI, HYDRA, "fail"),
            ("MPICH Version: 4.2.1", OPEN_MPIRUN, "fail"),
            ("MVAPICH2 Version : 2.3.7", HYDRA, "warn"),
            ("MPICH Version: 4.2.3", HYDRA, "ok"),
            ("MPICH Version: 4.1.2", HYDRA, "warn"),
            ("Intel(R) MPI Library 2021.13 for Linux* OS", OPEN_MPIRUN, "fail"),
            (OPEN_MPI, "something else", "info"),
            ("", OPEN_MPIRUN, "info"),
        ],
    )
    def test_mpirun_must_belong_to_the_library(self, library: str, version_text: str, status: str) -> None:
        check = doctor.check_mpirun(library, "/x/bin/mpirun", version_text)
        assert check.status == status
        assert bool(check.remedy) == (status in ("warn", "fail"))

    def test_no_mpirun_on_path(self) -> None:
        assert doctor.check_mpirun(OPEN_MPI, None, "").status == "warn"


class TestLibraries:
    def test_horovod(self) -> None:
        good = {
            "version": "0.28.1",
            "mpi": True,
            "gloo": False,
            "tensorflow": "2.21.0",
            "built_against": "2.21.0",
        }
        assert doctor.check_horovod(Trial(findings=good)).status == "ok"
        for bad in ({"mpi": False}, {"built_against": "2.20.0"}):
            assert doctor.check_horovod(Trial(findings=good | bad)).status == "warn"
        missing_library = Trial(problem="tensorflow.python.framework.errors_impl.NotFoundError: libmpi.so.40")
        assert "libmpi.so.40" in doctor.check_horovod(missing_library).detail
        assert doctor.check_horovod(None).status == "warn"

    @pytest.mark.parametrize(
        ("trial", "login", "status", "says"),
        [
            (Trial(findings={"size": 2, "mpi4py": True, "horovod": True}), False, "ok", "mpi4py and horovod"),
            (Trial(findings={"size": 2, "mpi4py": True}), False, "ok", "through mpi4py"),
            (Trial(findings={"size": 2, "mpi4py": True, "horovod": False}), False, "fail", "wrong sum through horovod"),
            (Trial(findings={"size": 1, "mpi4py": True}), False, "fail", "sees 1 rank"),
            (Trial(problem="no slots"), False, "fail", "no slots"),
            (Trial(problem="no slots"), True, "warn", "no slots"),
        ],
    )
    def test_two_ranks(self, trial: Trial, login: bool, status: str, says: str) -> None:
        check = doctor.check_two_ranks(trial, only_in_jobs=login)
        assert check.status == status
        assert says in check.detail

    def test_packages_of_another_python(self) -> None:
        assert doctor.check_python({}).status == "ok"
        check = doctor.check_python({"PYTHONPATH": "/opt/apps/python2/lib"})
        assert (check.status, "/opt/apps/python2/lib" in check.detail) == ("warn", True)

    def test_wrong_sums_fail(self) -> None:
        found = {"version": "2.21.0", "keras": "3", "works": True}
        assert doctor.check_tensorflow(Trial(findings=found)).status == "ok"
        assert doctor.check_tensorflow(Trial(findings=found | {"works": False})).status == "fail"
        assert doctor.check_tensorflow(Trial(problem="ModuleNotFoundError")).status == "fail"


class TestTrials:
    def test_result_is_read_from_the_output_of_the_process(self) -> None:
        assert read_trial(0, 'noise\n{"size": 2}\n', "").findings == {"size": 2}
        assert read_trial(-11, '{"size": 2}\n', "").problem == "crashed with SIGSEGV"
        trace = "Traceback (most recent call last):\n  File x\nRuntimeError: cannot load MPI library\n----\n"
        assert read_trial(1, "", trace).problem == "RuntimeError: cannot load MPI library"
        assert read_trial(1, "", "-----\nnot enough slots\n-----\n").problem == "not enough slots"
        assert read_trial(1, "", "").problem == "ended with status 1"
        assert not read_trial(0, "", "").findings

    def test_crash_is_a_problem(self) -> None:
        assert try_part("mpi", os.environ, ("sh", "-c", "kill -SEGV $$")).problem == "crashed with SIGSEGV"

    def test_timeout_is_a_problem(self) -> None:
        assert try_part("mpi", os.environ, ("sh", "-c", "sleep 60; :"), timeout=0.3).problem == "did not end within 0 s"

    def test_missing_mpi_library_is_a_problem(self) -> None:
        trial = try_part("mpi", os.environ | {"MPI4PY_LIBMPI": "/nowhere/libmpi.so"})
        check = doctor.check_mpi(trial)
        assert not can_train([check])
        assert "/nowhere/libmpi.so" in check.detail

    def test_mpi_and_hdf5_on_this_machine(self) -> None:
        mpi = doctor.check_mpi(try_part("mpi", os.environ))
        assert mpi.status == "ok", mpi.detail
        hdf5 = doctor.check_hdf5(try_part("hdf5", os.environ), {"HDF5_USE_FILE_LOCKING": "FALSE"})
        assert (hdf5.status, "locking FALSE" in hdf5.detail) == ("ok", True)

    @pytest.mark.mpi
    def test_two_ranks_on_this_machine_even_inside_a_rank(self) -> None:
        mpirun = shutil.which("mpirun", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        if mpirun is None:
            pytest.skip("no mpirun on PATH and none in this environment")
        of_a_rank = {"OMPI_COMM_WORLD_RANK": "3", "PMIX_RANK": "3", "PMIX_NAMESPACE": "gone", "PMI_SIZE": "9"}
        environ = os.environ | of_a_rank | mpi_environment(os.getuid(), len(os.sched_getaffinity(0)))
        check = doctor.check_two_ranks(try_part("allreduce", environ, (mpirun, "-np", "2")), only_in_jobs=False)
        assert check.status == "ok", check.detail

    @pytest.mark.mpi
    def test_rank_without_mpirun_is_alone(self) -> None:
        trial = try_part("allreduce", os.environ)
        assert trial.findings["size"] == 1
        assert doctor.check_two_ranks(trial, only_in_jobs=False).status == "fail"

    def test_unknown_trial_is_an_error(self) -> None:
        argv = [sys.executable, "-m", "launcher.probe", "everything"]
        ended = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert ended.returncode == 2
        assert ended.stderr.startswith("Error: expected one of tensorflow, mpi")


class TestMachine:
    def test_processor(self) -> None:
        plain = checks.check_processor("model name : X\nflags : fpu avx512f\n")
        native = checks.check_processor("model name : X\nflags : avx512f avx512_bf16 amx_bf16\n")
        assert "no BF16" in plain.detail
        assert "BF16 in hardware" in native.detail
        assert "no BF16" not in native.detail
        assert checks.check_processor("Processor : ARM\n").status == "info"

    @pytest.mark.parametrize(
        ("cpus", "online", "quota", "status"),
        [(4, 8, None, "ok"), (1, 1, None, "ok"), (1, 8, None, "warn"), (8, 8, 2.5, "warn"), (2, 8, 4.0, "ok")],
    )
    def test_cores(self, cpus: int, online: int, quota: float | None, status: str) -> None:
        assert checks.check_cores(list(range(cpus)), online, quota).status == status

    @pytest.mark.parametrize(
        ("files", "expected"),
        [
            ({"proc/self/cgroup": "0::/job\n", "sys/fs/cgroup/job/cpu.max": "250000 100000\n"}, 2.5),
            ({"proc/self/cgroup": "0::/job\n", "sys/fs/cgroup/cpu.max": "100000 100000\n"}, 1.0),
            ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
            (
                {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "150000\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"},
                1.5,
            ),
            ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, None),
            ({}, None),
        ],
    )
    def test_limit_of_the_control_group(self, tmp_path: Path, files: dict[str, str], expected: float | None) -> None:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        assert checks.cpu_quota(tmp_path) == expected

    def test_limits(self) -> None:
        none = resource.RLIM_INFINITY
        good = {"open files": 4096, "processes": none, "locked memory": 8 * 2**20, "stack": none}
        assert checks.check_limits(good, fabric=False).status == "ok"
        locked = checks.check_limits(good, fabric=True)
        assert (locked.status, "ulimit -l 65536" in locked.remedy) == ("warn", True)
        low = checks.check_limits(good | {"open files": 256, "stack": 2**20}, fabric=False)
        assert "ulimit -n 1024; ulimit -s 8192" in low.remedy

    @pytest.mark.parametrize(
        ("usage", "status", "says"),
        [
            (None, "warn", "shm-size"),
            ((64 * 2**20, 0, 64 * 2**20), "warn", "shm-size"),
            ((8 * GB, 8 * GB, 0), "warn", "crashed"),
            ((8 * GB, 0, 8 * GB), "ok", ""),
        ],
    )
    def test_shared_memory(self, usage: tuple[int, int, int] | None, status: str, says: str) -> None:
        check = checks.check_shared_memory(usage)
        assert check.status == status
        assert says in check.remedy

    def test_batch_system(self) -> None:
        inside = checks.check_batch_system({"TACC_SYSTEM": "stampede3", "SLURM_JOB_ID": "7"}, ["ibrun", "srun"])
        assert inside.detail == "TACC stampede3; in Slurm job 7; ibrun, srun"
        assert checks.check_batch_system({}, ["srun"]).detail == "not in a Slurm job; srun"
        assert checks.check_batch_system({}, []).detail == "none found"

    def test_this_machine(self) -> None:
        found = {check.name: check for check in checks.machine_checks(os.environ)}
        assert set(found) == {"Processor", "Cores", "Limits", "/dev/shm", "Batch system"}
        assert f"{len(os.sched_getaffinity(0))} of " in found["Cores"].detail
        assert all(check.remedy for check in found.values() if check.status == "warn")


class TestOutcome:
    checks = st.builds(
        Check,
        name=st.text("ab", min_size=1, max_size=9),
        status=st.sampled_from(["ok", "warn", "fail", "info"]),
        detail=st.text("xyz "),
        remedy=st.text("uvw", min_size=1),
    )

    @given(st.lists(checks))
    def test_text_ends_with_what_to_fix(self, found: list[Check]) -> None:
        text = render(found)
        failed = any(check.status == "fail" for check in found)
        assert can_train(found) == (not failed)
        assert text.splitlines()[-1].startswith("Training cannot" if failed else "Training can work")
        to_fix = [check for check in found if check.status in ("warn", "fail")]
        assert ("To fix:" in text) == bool(to_fix)
        assert all(f"{check.name}: {check.remedy}" in text for check in to_fix)

    def test_failures_come_before_warnings(self) -> None:
        warn = Check(name="a", status="warn", detail="", remedy="later")
        fail = Check(name="b", status="fail", detail="", remedy="first")
        assert render([warn, fail]).index("1. b: first") < render([warn, fail]).index("2. a: later")

    @pytest.mark.slow
    @pytest.mark.mpi
    def test_command_on_this_machine(self) -> None:
        environ = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        argv = [sys.executable, "-m", "launcher", "doctor"]
        ended = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=280, check=False)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert "TensorFlow    2." in ended.stdout
        assert "allreduce works through mpi4py" in ended.stdout
