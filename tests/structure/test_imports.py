"""Imports go one way, without circles, and light commands stay light.

The rules are in setup.cfg under [importlinter]. `lint-imports` prints all of them.
"""

from __future__ import annotations

import subprocess
import sys
from configparser import ConfigParser
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

from tests.support.environment import ROOT, mpi_environment

PACKAGES = ("launcher", "gan", "scaling")
HEAVY = {"tensorflow", "keras", "mpi4py", "horovod", "numpy", "pandas", "h5py", "scipy", "matplotlib"}
"""Packages that take a tenth of a second or more to import."""


def contracts() -> list[str]:
    """Return the names of the rules in setup.cfg."""
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    return [name.rpartition(":")[2] for name in setup.sections() if name.startswith("importlinter:contract:")]


def test_import_rules() -> None:
    # Use a separate process, because the linter prints to a stream that pytest may have closed.
    linter = [str(Path(sys.executable).with_name("lint-imports")), "--config", "setup.cfg", "--no-cache"]
    done = subprocess.run(linter, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count(" KEPT") == len(contracts())


def test_no_module_imports_itself_through_others() -> None:
    graph = grimp.build_graph(*PACKAGES, exclude_type_checking_imports=True, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' <- '.join(error.args[1])}")


@pytest.mark.parametrize(
    "command",
    [
        ("launcher", "--help"),
        ("launcher", "plan", "--machine", "stampede2-skx", "--nodes", "128"),
        ("launcher", "script", "--machine", "generic"),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_light_commands_load_no_heavy_package(command: tuple[str, ...]) -> None:
    code = (
        "import atexit, runpy, sys; "
        "atexit.register(lambda: print('LOADED', *sys.modules, file=sys.stderr)); "
        "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command],
        cwd=ROOT, env=mpi_environment(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    loaded = done.stderr.rpartition("LOADED ")[2].split()
    assert "launcher.cli" in loaded
    assert HEAVY.isdisjoint(loaded), sorted(HEAVY.intersection(loaded))
