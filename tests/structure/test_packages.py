"""Rules for all modules and packages: exports, a maximal size, types, and installed data files."""

from __future__ import annotations

import importlib
import subprocess
from configparser import ConfigParser
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.support.environment import ROOT

PACKAGES = ("launcher", "gan", "scaling")
MOST_LINES = dict.fromkeys(PACKAGES, 300) | {"tests": 500}


def files(*folders: str) -> list[Path]:
    """Return the files of folders that belong to the project, below its root."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *folders],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    if listing.returncode == 0:
        paths = [ROOT / name for name in listing.stdout.splitlines()]
    else:
        paths = [path for folder in folders for path in (ROOT / folder).rglob("*") if "__pycache__" not in path.parts]
    return sorted(path.relative_to(ROOT) for path in paths if path.is_file())


def module_name(path: Path) -> str:
    return ".".join(path.with_suffix("").parts)


MODULES = [path for path in files(*PACKAGES) if path.suffix == ".py"]


@pytest.mark.parametrize("name", [module_name(path) for path in MODULES if not path.name.startswith("_")])
def test_public_module_names_its_exports(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    exports = getattr(module, "__all__", None)
    assert exports, f"{name} has no __all__"
    assert len(set(exports)) == len(exports)
    absent = [export for export in exports if not hasattr(module, export)]
    assert not absent, f"__all__ of {name} names {absent}, which it does not define"


@pytest.mark.parametrize(
    "name", [module_name(path.parent / "x")[:-2] for path in MODULES if path.name == "__init__.py"]
)
def test_package_exports_what_it_imports(name: str) -> None:
    package = importlib.import_module(name)
    exports = getattr(package, "__all__", [])
    assert all(hasattr(package, export) for export in exports)
    text = (ROOT / Path(*name.split("."), "__init__.py")).read_text()
    assert exports or "import " not in text.partition('"""\n')[2], f"{name} imports names and has no __all__"


@pytest.mark.parametrize(("folder", "most"), MOST_LINES.items())
def test_no_module_is_too_long(folder: str, most: int) -> None:
    lengths = {path: len((ROOT / path).read_text().splitlines()) for path in files(folder) if path.suffix == ".py"}
    assert {str(path): lines for path, lines in lengths.items() if lines > most} == {}


def test_every_folder_with_modules_is_a_package() -> None:
    """Setuptools finds packages by their `__init__.py` and leaves out other folders."""
    folders = {path.parent for path in MODULES}
    assert [str(folder) for folder in sorted(folders) if not (ROOT / folder / "__init__.py").exists()] == []


def test_data_files_are_installed() -> None:
    """Every file beside the modules matches a pattern in setup.cfg. `py.typed` makes our types visible to mypy."""
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    patterns = [
        f"{package.replace('.', '/')}/{pattern.strip()}"
        for package, value in setup["options.package_data"].items()
        for pattern in value.split(",")
    ]
    data = [str(path) for path in files(*PACKAGES) if path.suffix != ".py"]
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(data)
    assert [path for path in data if not any(fnmatch(path, pattern) for pattern in patterns)] == []
