"""The set-up: system requirements, steps, cached wheels, and errors."""

import ast
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.probe import mpi_environment
from launcher.setup import bootstrap, built_wheels, environment, steps
from launcher.setup.built_wheels import BuildTarget, cached_wheel, site_mpi_identity, unpack_without_xla, wheel_cache
from launcher.setup.errors import SetupError
from launcher.setup.prerequisites import EnvironmentRequest, Host, missing_message, site_mpicxx
from launcher.setup.steps import CommandFailed, Steps, explain, newest

PROJECT = Path(bootstrap.__file__).resolve().parents[2]
ALL_THERE = Host(
    ensurepip=True, compiler=True, make=True, headers=True, mpicxx="/opt/mpi/bin/mpicxx", apt=True, free_gb=100
)


def run_bootstrap(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the set-up as on a new machine. The option -S hides the installed packages."""
    return subprocess.run(
        [sys.executable, "-S", "-m", "launcher.setup.bootstrap", *arguments],
        cwd=PROJECT,
        env={name: value for name, value in os.environ.items() if name not in ("CXX", "PYTHONPATH")} | environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def write_program(path: Path, text: str) -> Path:
    """Write a shell script that can be executed, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


class TestOldPython:
    def test_bootstrap_has_the_syntax_of_python_3_6(self) -> None:
        ast.parse(Path(bootstrap.__file__).read_text(), feature_version=(3, 6))

    def test_an_old_python_gets_one_message(self) -> None:
        script = (
            "import sys, runpy; sys.version_info = (3, 8, 1, 'final', 0);"
            "runpy.run_module('launcher.setup.bootstrap', run_name='__main__')"
        )
        ended = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=False)
        assert ended.returncode == 2
        assert ended.stderr.count("\n") == 1
        assert "3.11 or later is needed" in ended.stderr
        assert "is 3.8" in ended.stderr

    @given(st.tuples(st.integers(2, 4), st.integers(0, 40)))
    def test_only_older_versions_are_refused(self, version: tuple[int, int]) -> None:
        assert bool(bootstrap.python_complaint(version, "python")) == (version < (3, 11))


class TestPrerequisites:
    @given(
        lacking=st.sets(st.sampled_from(["ensurepip", "compiler", "make", "headers"])),
        mpi=st.sampled_from(["wheel", "site"]),
        horovod=st.booleans(),
    )
    def test_one_line_installs_all_missing_packages(self, lacking: set[str], mpi: str, horovod: bool) -> None:
        without: dict[str, Any] = dict.fromkeys(lacking, False)
        message = missing_message(
            EnvironmentRequest(project=PROJECT, venv=Path("/v"), mpi=mpi, horovod=horovod),
            replace(ALL_THERE, **without),
        )
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        expected = {f"python{version}-venv"} if "ensurepip" in lacking else set()
        if horovod or mpi == "site":
            expected |= {"g++"} if "compiler" in lacking else set()
            expected |= {"make"} if "make" in lacking else set()
        if mpi == "site" and "headers" in lacking:
            expected.add(f"python{version}-dev")
        lines = [line.split() for line in message.splitlines() if "apt-get" in line]
        assert len(lines) == (1 if expected else 0)
        if lines:
            assert lines[0][:4] == ["sudo", "apt-get", "install", "-y"]
            assert sorted(lines[0][4:]) == sorted(expected)

    def test_a_full_disk_and_a_missing_mpi_are_in_one_message(self) -> None:
        request = EnvironmentRequest(project=PROJECT, venv=Path("/v"), mpi="site", horovod=True)
        message = missing_message(request, replace(ALL_THERE, mpicxx=None, free_gb=1.0, compiler=False))
        assert "g++" in message
        assert "mpicxx on PATH" in message
        assert "1.0 GB free" in message

    def test_nothing_is_made_without_a_compiler(self, tmp_path: Path) -> None:
        (tmp_path / "bin").mkdir()
        ended = run_bootstrap("--venv", str(tmp_path / "venv"), PATH=str(tmp_path / "bin"))
        assert ended.returncode == 2
        assert "g++ make" in ended.stderr
        assert "Traceback" not in ended.stderr
        assert not (tmp_path / "venv").exists()

    def test_mpi_site_needs_mpicxx(self, tmp_path: Path) -> None:
        ended = run_bootstrap("--venv", str(tmp_path / "venv"), "--mpi", "site", PATH=str(tmp_path))
        assert ended.returncode == 2
        assert "MPI=site needs the site's mpicxx on PATH" in ended.stderr

    def test_the_mpicxx_in_the_environment_is_ignored(self, tmp_path: Path) -> None:
        own = write_program(tmp_path / "venv/bin/mpicxx", "true")
        site = write_program(tmp_path / "site/mpicxx", "true")
        path = f"{own.parent}{os.pathsep}{site.parent}"
        assert site_mpicxx(tmp_path / "venv", {"PATH": path}) == str(site)
        assert site_mpicxx(tmp_path / "venv", {"PATH": str(own.parent)}) is None

    def test_mpirun_gets_the_variables_it_needs(self) -> None:
        assert mpi_environment(1000, 4) == {}
        assert set(mpi_environment(0, 4)) == {
            f"{name}_ALLOW_RUN_AS_ROOT{end}" for name in ("OMPI", "PRTE") for end in ("", "_CONFIRM")
        }
        assert ":oversubscribe" in mpi_environment(1000, 1).values()


class Signalling(io.StringIO):
    """Stream that makes a file when a text is written to it, so that a command can wait for its own progress line."""

    def __init__(self, text: str, seen: Path, terminal: bool = False) -> None:
        super().__init__()
        self.text, self.seen, self.terminal = text, seen, terminal
        self.wait = f"while [ ! -e '{seen}' ]; do sleep 0.05; done"

    def isatty(self) -> bool:
        return self.terminal

    def write(self, text: str) -> int:
        if self.text in text:
            self.seen.touch()
        return super().write(text)


class TestSteps:
    def make(self, tmp_path: Path, stream: io.StringIO | None = None) -> tuple[Steps, io.StringIO]:
        shown = stream or io.StringIO()
        return Steps(log=tmp_path / "log.txt", total=2, stream=shown), shown

    def test_output_is_returned_and_logged(self, tmp_path: Path) -> None:
        made, shown = self.make(tmp_path)
        with made.step("first"):
            assert made.run(["sh", "-c", "echo one; echo two >&2"]) == "one\ntwo\n"
            assert made.run(["echo", "three"]) == "three\n"
        assert shown.getvalue().startswith("[1/2] first\n[1/2] first: done, ")
        assert (tmp_path / "log.txt").read_text().count("$ ") == 2

    def test_a_failure_shows_the_cause_the_end_of_the_output_and_the_log(self, tmp_path: Path) -> None:
        made, _ = self.make(tmp_path)
        script = (
            "seq 10; echo 'a.cc:1: fatal error: no b.h'; seq 11 100; echo '[Errno 28] No space left on device'; exit 3"
        )
        with pytest.raises(CommandFailed) as caught, made.step("packages"):
            made.run(["sh", "-c", script])
        message = str(caught.value)
        assert "[1/2] packages ended with status 3" in message
        assert "  | a.cc:1: fatal error: no b.h\n  | 11\n" in message
        assert "  | 100\n" in message
        assert "  | 50\n" not in message
        assert "The disk is full" in message
        assert str(tmp_path / "log.txt") in message

    def test_a_missing_program_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(CommandFailed, match=r"no-such-program could not be started \(No such file"):
            self.make(tmp_path)[0].run(["no-such-program"])

    def test_a_timeout_ends_grandchildren_too(self, tmp_path: Path) -> None:
        pid_file = tmp_path / "pid"
        with pytest.raises(CommandFailed, match="did not end within"):
            self.make(tmp_path)[0].run(["sh", "-c", f"sleep 600 & echo $! > {pid_file}; wait"], timeout=1.0)
        state = Path("/proc", pid_file.read_text().strip(), "stat")
        deadline = time.monotonic() + 10
        # A killed orphan may be a zombie until init reads its exit status.
        while state.exists() and " Z " not in state.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def test_a_file_gets_a_new_line_from_time_to_time(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(steps, "PLAIN_INTERVAL", 0.1)
        shown = Signalling("s  Collecting numpy", tmp_path / "seen")
        made, _ = self.make(tmp_path, shown)
        with made.step("long"):
            made.run(["sh", "-c", f"echo 'Collecting numpy'; echo noise; {shown.wait}"], timeout=60)
        lines = shown.getvalue().splitlines()
        assert any(line.startswith("[1/2] ") and line.endswith("s  Collecting numpy") for line in lines)
        assert "\r" not in shown.getvalue()

    def test_on_a_terminal_one_line_is_updated(self, tmp_path: Path) -> None:
        shown = Signalling("[ 50%] Building", tmp_path / "seen", terminal=True)
        made, _ = self.make(tmp_path, shown)
        with made.step("long"):
            made.run(["sh", "-c", f"echo '[ 50%] Building CXX object'; {shown.wait}"], timeout=60)
        assert re.search(r"\r\033\[K\[1/2\] \d+ s  \[ 50%\] Building CXX object", shown.getvalue())

    @pytest.mark.parametrize(
        ("output", "advice"),
        [
            ("WARNING: Retrying (Retry(total=4, connect=None)) after connection broken", "could not be reached"),
            ("ERROR: No matching distribution found for tensorflow-cpu", "no suitable release"),
            ("c++: fatal error: Killed signal terminated program cc1plus", "ran out of memory"),
            ("error: something else", ""),
        ],
    )
    def test_known_causes_are_explained(self, output: str, advice: str) -> None:
        explanation = explain(output)
        assert advice in explanation
        assert bool(explanation) == bool(advice)

    @given(st.text())
    def test_the_newest_line_is_a_line_of_the_output(self, output: str) -> None:
        line = newest(output)
        assert line in [part.strip() for part in output.splitlines()] or (line == "" and not output.strip())


def write_wheel(folder: Path, name: str = "thing-1-py3-none-any.whl") -> None:
    with zipfile.ZipFile(folder / name, "w") as archive:
        archive.writestr("thing.py", "x = 1\n")


class TestCache:
    def test_a_wheel_is_built_once(self, tmp_path: Path) -> None:
        calls = []

        def build(folder: Path) -> None:
            calls.append(folder)
            write_wheel(folder)

        first, kept = cached_wheel(tmp_path, "key", build)
        assert not kept
        assert cached_wheel(tmp_path, "key", build) == (first, True)
        assert first == tmp_path / "key" / "thing-1-py3-none-any.whl"
        assert len(calls) == 1
        assert [entry.name for entry in tmp_path.iterdir()] == ["key"]

    def test_a_truncated_wheel_is_built_again(self, tmp_path: Path) -> None:
        wheel, _ = cached_wheel(tmp_path, "key", write_wheel)
        wheel.write_bytes(wheel.read_bytes()[:40])
        again, kept = cached_wheel(tmp_path, "key", write_wheel)
        assert not kept
        assert zipfile.is_zipfile(again)

    def test_a_failed_build_leaves_nothing(self, tmp_path: Path) -> None:
        def build(folder: Path) -> NoReturn:
            write_wheel(folder)
            raise CommandFailed("no compiler")

        with pytest.raises(CommandFailed):
            cached_wheel(tmp_path, "key", build)
        assert list(tmp_path.iterdir()) == []

    def test_a_build_without_a_wheel_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(SetupError, match="no readable wheel"):
            cached_wheel(tmp_path, "key", lambda folder: None)

    def test_two_builds_at_the_same_time_give_one_wheel(self, tmp_path: Path) -> None:
        both_began = threading.Barrier(2)

        def build(folder: Path) -> None:
            both_began.wait(timeout=10)
            write_wheel(folder)

        wheels = []
        threads = [
            threading.Thread(target=lambda: wheels.append(cached_wheel(tmp_path, "key", build)[0])) for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wheels[0] == wheels[1]
        assert zipfile.is_zipfile(wheels[0])
        assert [entry.name for entry in tmp_path.iterdir()] == ["key"]

    def test_the_key_contains_everything_that_the_wheel_depends_on(self) -> None:
        base = BuildTarget(
            python_tag="cpython-311", machine="x86_64", mpi="openmpi-5.0.11", tensorflow="tensorflow-2.21.0"
        )
        others = [{"python_tag": "cpython-312"}, {"machine": "aarch64"}, {"mpi": "site-1"}, {"tensorflow": "tf-2.20"}]
        keys = {base.key} | {replace(base, **other).key for other in others}
        assert len(keys) == 5
        assert all("/" not in key for key in keys)

    def test_the_cache_is_in_the_user_s_folder(self) -> None:
        assert wheel_cache({"XDG_CACHE_HOME": "/c"}) == Path("/c/3dgan-scaling/wheels")
        assert wheel_cache({"XDG_CACHE_HOME": "c", "HOME": "/h"}) == Path("/h/.cache/3dgan-scaling/wheels")


class TestBuilding:
    def test_flags_and_version_identify_the_site_s_mpi(self, tmp_path: Path) -> None:
        mpicxx = str(write_program(tmp_path / "mpicxx", 'echo "g++ $FLAGS -lmpi"'))
        write_program(tmp_path / "mpirun", "echo mpirun 5.0")
        first = site_mpi_identity(mpicxx)
        assert first == site_mpi_identity(mpicxx)
        write_program(tmp_path / "mpirun", "echo mpirun 5.1")
        second = site_mpi_identity(mpicxx)
        write_program(tmp_path / "mpicxx", 'echo "g++ -I/elsewhere -lmpi"')
        assert len({first, second, site_mpi_identity(mpicxx)}) == 3

    def test_a_broken_wrapper_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(SetupError, match="load the site's compiler and MPI modules"):
            site_mpi_identity(str(write_program(tmp_path / "mpicxx", "exit 1")))

    def test_the_xla_source_is_left_out(self, tmp_path: Path) -> None:
        listing = tmp_path / "horovod-0.28.1/horovod/tensorflow/CMakeLists.txt"
        listing.parent.mkdir(parents=True)
        listing.write_text('list(APPEND S "a/mpi_ops.cc")\nlist(APPEND S "a/xla_mpi_ops.cc")\nadd_library(x ${S})\n')
        with tarfile.open(tmp_path / "horovod-0.28.1.tar.gz", "w:gz") as archive:
            archive.add(tmp_path / "horovod-0.28.1", "horovod-0.28.1")
        (tmp_path / "out").mkdir()
        (tmp_path / "horovod-0.28.1.tar.gz").rename(tmp_path / "out/horovod-0.28.1.tar.gz")
        source = unpack_without_xla(tmp_path / "out")
        text = (source / "horovod/tensorflow/CMakeLists.txt").read_text()
        assert text == 'list(APPEND S "a/mpi_ops.cc")\nadd_library(x ${S})\n'

    def test_horovod_s_build_gets_the_variables_it_needs(self) -> None:
        mine = {"HOROVOD_GPU_OPERATIONS": "NCCL", "LDFLAGS": "-L/site", "HOME": "/h"}
        packaged = built_wheels.horovod_build_environment(mine, 2, mpi_in_venv=True)
        site = built_wheels.horovod_build_environment(mine, 100, mpi_in_venv=False)
        assert packaged["HOME"] == "/h"
        assert "HOROVOD_GPU_OPERATIONS" not in packaged
        assert packaged["LDFLAGS"] == r"-s -Wl,-rpath,\$ORIGIN/../../../.."
        assert site["LDFLAGS"] == "-s -L/site"
        assert (packaged["MAKEFLAGS"], site["MAKEFLAGS"]) == ("-j2", "-j8")
        assert packaged["CXXFLAGS"] == "-include stdexcept -include cstdint"


class TestEnvironment:
    @pytest.fixture
    def request_here(self, tmp_path: Path) -> EnvironmentRequest:
        project = tmp_path / "project"
        project.mkdir()
        (project / "setup.cfg").write_text("[options]\ninstall_requires =\n    numpy\n[mypy]\nfiles = a\n")
        return EnvironmentRequest(project=project, venv=tmp_path / "venv", mpi="wheel", horovod=False)

    def finished(self, request: EnvironmentRequest) -> None:
        """Write the files of a complete environment."""
        (request.venv / "bin").mkdir(parents=True)
        (request.venv / "bin/python").touch()
        stamp = {
            "options": {"mpi": request.mpi, "horovod": request.horovod},
            "inputs": environment._inputs(request),
            "complete": True,
            "without_horovod": "HOROVOD=no",
        }
        environment._write_stamp(request.venv, stamp)

    def test_an_environment_that_is_up_to_date_is_not_changed(
        self, request_here: EnvironmentRequest, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.finished(request_here)
        before = sorted(path.name for path in request_here.venv.rglob("*"))
        environment.make(replace(request_here, mpi=None, horovod=None))
        assert "is up to date. Without Horovod (HOROVOD=no)" in capsys.readouterr().out
        assert sorted(path.name for path in request_here.venv.rglob("*")) == before

    def test_only_dependencies_in_setup_cfg_outdate_the_environment(self, request_here: EnvironmentRequest) -> None:
        setup = request_here.project / "setup.cfg"
        first = environment._inputs(request_here)
        setup.write_text(setup.read_text().replace("files = a", "files = b"))
        assert environment._inputs(request_here) == first
        setup.write_text(setup.read_text().replace("numpy", "numpy<3"))
        assert environment._inputs(request_here) != first

    @pytest.mark.parametrize(
        ("wanted", "has", "becomes"),
        [
            ((None, None), {}, ("wheel", True)),
            ((None, None), {"mpi": "site", "horovod": False}, ("site", False)),
            (("wheel", None), {"mpi": "site", "horovod": False}, ("wheel", False)),
            ((None, True), {"mpi": "site", "horovod": False}, ("site", True)),
        ],
    )
    def test_omitted_options_keep_their_values(
        self,
        request_here: EnvironmentRequest,
        wanted: tuple[str | None, bool | None],
        has: dict[str, Any],
        becomes: tuple[str, bool],
    ) -> None:
        open_request = replace(request_here, mpi=wanted[0], horovod=wanted[1])
        settled = environment._settle(open_request, {"options": has} if has else {})
        assert (settled.mpi, settled.horovod) == becomes

    @pytest.mark.parametrize("name", ["chapter.tex", "pyvenv.cfg"])
    def test_a_folder_of_somebody_else_is_not_changed(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "thesis").mkdir()
        (tmp_path / "thesis" / name).write_text("years of work")
        ended = run_bootstrap("--venv", str(tmp_path / "thesis"), "--horovod", "no")
        assert ended.returncode == 2
        assert "was not made by this project" in ended.stderr
        assert [path.name for path in (tmp_path / "thesis").iterdir()] == [name]

    def test_another_mpi_empties_the_environment(self, request_here: EnvironmentRequest) -> None:
        self.finished(request_here)
        other = replace(request_here, mpi="site")
        stamp = environment._read_stamp(request_here.venv)
        environment._clear_if_unfit(request_here, stamp, environment._inputs(request_here))
        assert (request_here.venv / "bin").exists()
        environment._clear_if_unfit(other, stamp, environment._inputs(other) | {"mpi": "site-0"})
        assert list(request_here.venv.iterdir()) == []

    @pytest.mark.parametrize("text", ["", "{", "[]", "null"])
    def test_a_damaged_stamp_is_ignored(self, request_here: EnvironmentRequest, text: str) -> None:
        request_here.venv.mkdir()
        (request_here.venv / environment.STAMP).write_text(text)
        assert environment._read_stamp(request_here.venv) == {}

    def test_without_a_network_the_error_is_one_message_with_the_log(self, tmp_path: Path) -> None:
        venv = tmp_path / "venv"
        # No program listens on the discard port of this machine.
        offline = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "1", "PIP_CONFIG_FILE": os.devnull}
        ended = run_bootstrap(
            "--venv", str(venv), "--horovod", "no", **offline, PIP_FIND_LINKS="", PIP_NO_CACHE_DIR="1"
        )
        assert ended.returncode == 2
        assert "[1/3] virtual environment: done" in ended.stdout
        assert "The package index could not be reached" in ended.stderr
        assert str(venv / "bootstrap.log") in ended.stderr
        assert "Traceback" not in ended.stderr
        stamp = json.loads((venv / environment.STAMP).read_text())
        assert stamp["complete"] is False
