"""Files of `python -m gan simulate`: equal for any number of processes, and either complete or not there."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from gan.cli import main
from gan.data.showers import open_showers
from gan.errors import InputError
from gan.simulation.gflash import CLIC_ECAL
from gan.simulation.production import SimulationRequest, write_files
from tests.support.processes import alive, state, wait_until

SECONDS_TO_WAIT = 120
"""Most seconds to wait for something that takes one second on a quiet machine."""


def simulate(*arguments: str | int | Path) -> tuple[int, str]:
    """Run the command in this process, and return its exit status and its output on both streams."""
    result = CliRunner().invoke(main, ["simulate", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_any_number_of_processes_gives_the_same_files(tmp_path: Path) -> None:
    common = ("--events", "150", "--events-per-file", "100", "--energy-max", "40", "--seed", "5")
    for processes in ("1", "2"):
        assert simulate("--out", tmp_path / processes, "--processes", processes, *common)[0] == 0
    one, two = (sorted((tmp_path / processes).iterdir()) for processes in ("1", "2"))
    assert [path.name for path in one] == ["EleEscan_1_1.h5", "EleEscan_1_2.h5"]
    assert [path.name for path in two] == [path.name for path in one]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(one, two, strict=True))


def test_the_number_of_events_per_file_does_not_change_the_events(tmp_path: Path) -> None:
    read = []
    for per_file in (7, 100):
        out = tmp_path / str(per_file)
        write_files(SimulationRequest(out=out, events=15, energy_max=20, events_per_file=per_file))
        with open_showers([out / "*.h5"]) as showers:
            read.append(showers.read(np.arange(15)))
    np.testing.assert_array_equal(read[0][0], read[1][0])
    np.testing.assert_array_equal(read[0][1], read[1][1])


def test_attributes_of_a_file_say_how_it_was_made(tmp_path: Path) -> None:
    status, output = simulate("--out", tmp_path, "--events", 12, "--events-per-file", 10, "--energy-min", 5)
    assert status == 0
    assert "Wrote 12 events to 2 file(s)" in output
    assert "events/s, mean sampling fraction 0.0" in output
    with h5py.File(tmp_path / "EleEscan_1_2.h5") as file:
        attributes = dict(file.attrs)
        assert len(file["ECAL"]) == 2
    assert attributes["generator"].endswith("python -m gan simulate")
    assert attributes["version"]
    assert (attributes["seed"], attributes["first_event"]) == (1, 10)
    assert (attributes["energy_min_GeV"], attributes["energy_max_GeV"]) == (5, 500)
    assert attributes["calibration"] == CLIC_ECAL.calibration
    assert "GEANT4" in attributes["calibration_reason"]
    assert json.loads(attributes["parameters"])["sections"][1]["layers"] == 8


def test_existing_files_stay_without_overwrite(tmp_path: Path) -> None:
    common = ("--out", tmp_path, "--processes", "1", "--energy-max", "20")
    assert simulate(*common, "--events", 6, "--events-per-file", 3)[0] == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    status, output = simulate(*common, "--events", 3, "--seed", 2)
    assert status == 2
    assert output.startswith("Error: ")
    assert "EleEscan_1_1.h5 exists already" in output

    status, output = simulate(*common, "--events", 3, "--seed", 2, "--overwrite")
    assert status == 2
    assert "EleEscan_1_2.h5 would stay beside the new files" in output
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

    status, _ = simulate(*common, "--events", 6, "--events-per-file", 3, "--seed", 2, "--overwrite")
    assert status == 0
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert after.keys() == before.keys()
    assert all(after[name] != before[name] for name in before)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--events", "0"),
        ("--events-per-file", "-1"),
        ("--processes", "0"),
        ("--seed", "-1"),
        ("--seed", str(2**63)),
        ("--energy-min", "0.5"),
        ("--energy-min", "nan"),
        ("--energy-max", "1"),
        ("--energy-max", "1e6"),
    ],
)
def test_a_value_out_of_range_is_an_error_and_makes_no_folder(tmp_path: Path, option: str, value: str) -> None:
    status, output = simulate("--out", tmp_path / "new", option, value)
    assert status == 2
    assert output.startswith("Error: ")
    assert option in output
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be made"):
        write_files(SimulationRequest(out=tmp_path / "file" / "data", events=1))


def test_a_log_file_shows_the_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gan.cli.SECONDS_BETWEEN_LINES", 0.0)
    status, output = simulate("--out", tmp_path, "--events", 3, "--energy-max", 5, "--processes", 1)
    assert status == 0
    assert "Simulated 3 of 3 events" in output


def test_the_command_never_imports_tensorflow() -> None:
    code = "import sys, gan.cli; print('tensorflow' in sys.modules, 'gan.simulation.production' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == ["False", "True"]


def children(process: subprocess.Popen[str]) -> list[int]:
    """Return the processes that simulate. Multiprocessing's resource tracker has another command line."""
    pids = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in pids if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def waits(pid: int) -> bool:
    """Return True if the main thread of a process waits in a system call, in ten checks."""
    for _ in range(10):
        if state(pid) != "S":
            return False
        time.sleep(0.01)
    return True


@pytest.mark.parametrize("what", ["interrupt", "worker killed", "worker killed while it sends", "command killed"])
def test_an_early_end_leaves_no_incomplete_file_and_no_process(tmp_path: Path, what: str) -> None:
    """A whole file would take hours, so the command always ends in the middle of a file."""
    command = [sys.executable, "-m", "gan", "simulate", "--out", str(tmp_path), "--processes", "2"]
    command += ["--events", "10000000", "--events-per-file", "10000000"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    partial = tmp_path / ".EleEscan_1_1.h5.part"
    wait_until(lambda: partial.exists() and partial.stat().st_size > 100_000)
    workers = children(process)
    assert len(workers) == 2

    if what == "interrupt":
        os.killpg(process.pid, signal.SIGINT)
    elif what == "worker killed":
        os.kill(workers[0], signal.SIGKILL)
    elif what == "worker killed while it sends":
        # The command is stopped and does not read, so the workers wait in the middle of a result that is larger than a
        # pipe.
        process.send_signal(signal.SIGSTOP)
        wait_until(lambda: all(waits(pid) for pid in workers))
        os.kill(workers[0], signal.SIGKILL)
        process.send_signal(signal.SIGCONT)
    else:
        process.kill()
    _, errors = process.communicate(timeout=SECONDS_TO_WAIT)

    wait_until(lambda: not any(map(alive, workers)))
    assert not list(tmp_path.glob("*.h5"))
    assert "Traceback" not in errors
    if what == "interrupt":
        assert process.returncode == 1
        assert "Aborted!" in errors
    elif what.startswith("worker killed"):
        assert process.returncode == 2
        assert "Error: One of 2 processes was killed" in errors
    if what != "command killed":
        assert not list(tmp_path.iterdir())


PAUSE_AT_SCIPY = """
import os, pathlib, sys, time

class Pause:
    folder = pathlib.Path(__file__).parent

    def find_spec(self, name, path=None, target=None):
        if name == "scipy" and "--multiprocessing-fork" in sys.orig_argv:
            (self.folder / f"importing-{os.getpid()}").touch()
            while not (self.folder / "go-on").exists():
                time.sleep(0.01)

sys.meta_path.insert(0, Pause())
"""
"""Content of a `sitecustomize.py` that stops the simulating processes during their imports, until `go-on` exists."""


def test_an_interrupt_while_processes_start_leaves_no_traceback(tmp_path: Path) -> None:
    folder, out = tmp_path / "modules", tmp_path / "out"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(PAUSE_AT_SCIPY)
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    command = [sys.executable, "-m", "gan", "simulate", "--out", str(out), "--processes", "2", "--events", "10000"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True,
                               env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)})  # fmt: skip
    try:
        wait_until(lambda: len(list(folder.glob("importing-*"))) == 2)
        os.killpg(process.pid, signal.SIGINT)
    finally:
        (folder / "go-on").touch()
    _, errors = process.communicate(timeout=SECONDS_TO_WAIT)
    assert process.returncode == 1
    assert "Aborted!" in errors
    assert "Traceback" not in errors
    assert not list(out.iterdir())
